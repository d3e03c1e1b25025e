"""The remembered answer that there is nothing to do: it rests on all that was looked at, and falls with any of it."""

from __future__ import annotations

import builtins
import io
import os
import posix
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mutations
import pytest
from workspace import Workspace

import onnxbuild
from onnxbuild import cli
from onnxbuild.commands import arguments
from onnxbuild.engine.session import Session, Settings
from onnxbuild.queries import cautions, forecast, remembered
from onnxbuild.report.progress import Progress
from onnxbuild.system import files, machine, observed

PACKAGE = Path(onnxbuild.__file__).parent
TESTS = PACKAGE.parent
AGE_NS = 20_000_000


@pytest.fixture(autouse=True)
def aged(monkeypatch):
    """What was written a moment ago counts as settled: the clock ticks a hundred times a second, and nobody waits here."""
    monkeypatch.setattr(observed, "MINIMUM_AGE_NS", AGE_NS)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A project around an .onnx file and one around a torch model, both built and with nothing left to do."""
    base = tmp_path_factory.mktemp("remembered")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(observed, "MINIMUM_AGE_NS", AGE_NS)
        for name, make in (("mini", mutations.mini), ("net", mutations.net)):
            make(base / name)
            for _ in range(2):  # in this process: its finders, pytest's among them, are in the traces
                think(base / name, name)
    return base


@pytest.fixture
def project(base, tmp_path):
    """Both, moved elsewhere with their stores."""
    shutil.copytree(base, tmp_path / "copy", symlinks=True)
    time.sleep(0.03)
    return tmp_path / "copy"


def ask(root: Path, *names: str, out: str = "") -> list[str] | None:
    """What is remembered, as names of recipes."""
    here = Path.cwd()
    os.chdir(root)
    try:
        asked = remembered.question([f"{name}.yaml" for name in names], out, "")
        assert asked is not None
        answer = asked.answer()
    finally:
        os.chdir(here)
    return None if answer is None else [one.name for one in answer]


def think(root: Path, *names: str) -> tuple[set[str], observed.Record]:
    """Run it the long way, and remember; gives what ran and what was looked at."""
    here = Path.cwd()
    os.chdir(root)
    try:
        paths = [Path(f"{name}.yaml") for name in names]
        said = io.StringIO()
        with Session(Settings(), Progress(said, quiet=True, errors=said)) as session:
            loaded = session.load(paths, remembered.question([str(path) for path in paths], "", ""))
            reports = list(session.build_all(loaded))
        ran = {stage.name for report in reports for stage in report.stages if stage.status not in ("cached", "skipped")}
        return ran, session._record
    finally:
        os.chdir(here)


class Looks:
    """Every path that Python's own functions look at while it is active."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: dict[str, set[str]] = {}
        for name in ("stat", "lstat", "listdir", "scandir", "readlink", "access", "open"):
            self._watch(monkeypatch, os, name)
            self._watch(monkeypatch, posix, name)
        for module in (builtins, io):
            self._watch(monkeypatch, module, "open")

    def _watch(self, monkeypatch, module, name) -> None:
        real = getattr(module, name)

        def looked(path=".", *args, **kwargs):
            if isinstance(path, str | bytes | os.PathLike):
                self.paths.setdefault(os.path.abspath(os.fsdecode(path)), set()).add(name)
            return real(path, *args, **kwargs)

        monkeypatch.setattr(module, name, looked)


# What a command looks at that is no fact: the interpreter and our own code (known by stat), the machine's memory, the locks
# and leases of this moment, where a project begins (looked up again each time), and the links in a folder's own path.
def is_no_fact(path: str, how: set[str], root: Path) -> bool:
    store = root / ".onnxbuild"
    if path.startswith(
        ("/proc/", "/sys/", sys.base_prefix, sys.prefix, str(PACKAGE), *map(str, (TESTS, TESTS / "tests")))
    ):
        return True
    if path.startswith(tuple(str(store / name) for name in ("leases", "locks", "remembered", "objects/.lock"))):
        return True
    if path in map(str, (store, store / "objects", root / "pyproject.toml")):
        return True
    return how == {"lstat"}


def is_told_by_its_folder(path: str, noted: set[str]) -> bool:
    """Whether a name is not there, and its folder's names are a fact."""
    return not os.path.lexists(path) and os.path.dirname(path) in noted


@pytest.mark.parametrize("name", ["mini", "net"])
def test_all_that_is_looked_at_is_among_the_facts(project, name, monkeypatch):
    root = project / name
    with monkeypatch.context() as patched:
        looks = Looks(patched)
        ran, record = think(root, name)
    noted = {os.path.join(root, what[1:]) for what in record.facts if what[0] in "fskl"}

    assert (ran, record.doubt) == (set(), "")
    missed = [path for path, how in looks.paths.items() if path not in noted and not is_no_fact(path, how, root)]
    assert [path for path in missed if not is_told_by_its_folder(path, noted)] == []
    assert ask(root, name) == [name]


def test_what_a_build_does_not_prove_is_said_again(project, monkeypatch):
    """One recipe's cautions are a part of the answer: no word less than after thinking it over."""
    said = ["output 'y' is not proved: \u00e9", "a line\nand another"]
    monkeypatch.setattr(cautions, "of", lambda recipe, found: said)
    for _ in range(2):
        think(project / "mini", "mini")
        time.sleep(0.03)
    monkeypatch.chdir(project / "mini")
    asked = remembered.question(["mini.yaml"], "", "")
    answer = asked.answer()

    assert [one.cautions for one in answer] == [said]
    for command, shown in ((["run"], "  warning: output 'y' is"), (["plan"], "warning: mini: output 'y' is")):
        screen = io.StringIO()
        monkeypatch.setattr(arguments, "question", lambda options: asked)
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(forecast, "Outlook", None)  # nothing is thought over
        assert cli.main([*command, "mini.yaml"]) == 0
        assert shown in screen.getvalue()


def touched(path: Path) -> None:
    os.utime(path)


def rewritten(path: Path) -> None:
    """Other bytes of the same number, and the times put back."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=times)


def one(root: Path, pattern: str) -> Path:
    return next(path for path in sorted(root.glob(pattern)) if path.is_file() and not path.name.startswith("."))


FALLS = {
    "the recipe": ("mini", lambda root: rewritten(root / "mini.yaml")),
    "a declared file": ("mini", lambda root: rewritten(root / "data/s.npz")),
    "external data": ("mini", lambda root: rewritten(root / "model/m.data")),
    "external data has another name": ("mini", lambda root: os.link(root / "model/m.data", root / "other")),
    "external data is a link": ("mini", lambda root: relinked(root / "model/m.data")),
    "a module": ("net", lambda root: rewritten(root / "models/lazy.py")),
    "a file that was opened": ("net", lambda root: rewritten(root / "models/scale.json")),
    "a file that was absent": ("net", mutations.put("settings.json", "{}")),
    "a listed folder": ("net", mutations.put("models/parts/two.txt", "")),
    "a module that was missing": ("net", mutations.put("models/fast.py", "")),
    "a namespace": ("net", mutations.put("space/__init__.py", "")),
    "a link": ("net", lambda root: relinked(root / "weights/current.safetensors", "two.safetensors")),
    "a published file": ("mini", lambda root: rewritten(root / "build/mini/model.onnx")),
    "a published file is gone": ("mini", lambda root: (root / "build/mini/model.onnx").unlink()),
    "a page": ("mini", lambda root: rewritten(root / "build/mini/report.html")),
    "manifest.json is gone": ("mini", lambda root: (root / "build/mini/manifest.json").unlink()),
    "bom.cdx.json was edited": ("mini", lambda root: rewritten(root / "build/mini/bom.cdx.json")),
    "provenance.json is gone": ("mini", lambda root: (root / "build/mini/provenance.json").unlink()),
    "report.json is gone": ("mini", lambda root: (root / "build/mini/report.json").unlink()),
    "a trace": ("mini", lambda root: rewritten(one(root, ".onnxbuild/traces/*/*/*.json"))),
    "a trace is gone": ("mini", lambda root: one(root, ".onnxbuild/traces/*/*/*.json").unlink()),
    "a trace was used": ("mini", lambda root: touched(one(root, ".onnxbuild/traces/*/*/*.json"))),
    "one more trace": ("mini", lambda root: (one(root, ".onnxbuild/traces/*/*/*.json").parent / "0.json").touch()),
    "an object is gone": ("mini", lambda root: one(root, ".onnxbuild/objects/*.onnx").unlink()),
    "an object is short": ("mini", lambda root: os.truncate(one(root, ".onnxbuild/objects/*.onnx"), 3)),
    "the last run": ("mini", lambda root: rewritten(root / ".onnxbuild/latest/mini.json")),
    "the last run is gone": ("mini", lambda root: (root / ".onnxbuild/latest/mini.json").unlink()),
    "another project": ("mini", lambda root: (root / "pyproject.toml").rename(root.parent / "pyproject.toml")),
}


def relinked(path: Path, target: str = "moved") -> None:
    if target == "moved":
        path.rename(path.parent / target)
    else:
        path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("what", FALLS)
def test_it_falls_with(project, what):
    name, edit = FALLS[what]
    root = project / name
    think(root, name)
    assert ask(root, name) == [name]
    edit(root)

    assert ask(root, name) is None


def test_a_folder_on_the_way_that_becomes_a_link_is_noticed_where_links_are_refused(project):
    """Neither the model nor its data is another file then, by anything that stat says of them."""
    root = project / "mini"
    (root / "model/deep").mkdir()
    (root / "model/m.data").rename(root / "model/deep/m.data")
    mutations.write_model(root / "model/m.onnx", data="deep/m.data")
    for _ in range(3):
        time.sleep(0.03)
        think(root, "mini")
    assert ask(root, "mini") == ["mini"]
    (root / "model/deep").rename(root / "model/real")
    (root / "model/deep").symlink_to("real")

    assert ask(root, "mini") is None


def test_an_environment_variable_and_a_facet_of_the_machine_are_facts(project, monkeypatch):
    record = observed.begin()
    observed.variable("ONNXBUILD_TEST")
    machine.facets(["cores", "cpu_flags", "gpu"])
    observed.end(record)
    assert observed.hold(iter(record.facts.items()))

    for change in (
        lambda: monkeypatch.setenv("ONNXBUILD_TEST", ""),
        lambda: monkeypatch.setattr(machine, "cores", lambda: 0),
    ):
        with monkeypatch.context():
            change()
            assert not observed.hold(iter(record.facts.items()))
        monkeypatch.undo()


def test_what_was_written_just_now_or_changed_meanwhile_is_in_doubt(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("1")
    time.sleep(0.03)
    for age, meanwhile, doubt in ((0, "", False), (10**12, "", True), (0, "2", True)):
        monkeypatch.setattr(observed, "MINIMUM_AGE_NS", age)
        record = observed.begin()
        with files.opened(path) as file:
            file.read()
            if meanwhile:
                path.write_text(meanwhile)
        observed.end(record)
        assert bool(record.doubt) == doubt


def test_whoever_gets_a_remembered_value_has_looked_at_what_it_rests_on(tmp_path):
    (tmp_path / "x").write_text("1")
    look = observed.cached(lambda: observed.stat(tmp_path / "x").st_size)
    assert look() == 1
    record = observed.begin()
    look()
    observed.end(record)

    assert f"s{tmp_path / 'x'}" in record.facts


def test_the_order_is_no_part_of_the_question_and_everything_else_is(project, monkeypatch):
    root = project / "mini"
    (root / "two.yaml").write_text((root / "mini.yaml").read_text().replace("name: mini", "name: two"))
    for _ in range(3):
        think(root, "mini", "two")
        time.sleep(0.03)

    assert ask(root, "mini", "two") == ["mini", "two"]
    assert ask(root, "two", "mini") == ["two", "mini"]
    assert ask(root, "two") is None
    assert ask(root, "mini", "two", out="elsewhere") is None
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", [str(project), *sys.path])
        assert ask(root, "mini", "two") is None
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: 1 << 62)  # a trace's time of use is to be renewed
        assert ask(root, "mini", "two") is None
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 12345)
        assert ask(root, "mini", "two") is None
    for variable, value in ((remembered.VARIABLE, "0"), ("ONNXBUILD_FAILPOINT", "write.done")):
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            assert remembered.question(["mini.yaml"], "", "") is None


def test_stores_of_several_projects_vouch_for_nothing_together(project):
    paths = [str(project / "mini/mini.yaml"), str(project / "net/net.yaml")]

    assert remembered.question(paths, "", "") is None
    assert remembered.question(paths, "", str(project / "shared")) is not None
    assert remembered.question([paths[0], paths[0]], "", "") is None


def own_code(folder: Path) -> None:
    with open(folder / "text/units.py", "a") as file:
        file.write("# edited\n")


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "a folder", "another's"])
def test_a_damaged_memory_is_no_memory_and_nobody_is_told(project, damage):
    root = project / "mini"
    think(root, "mini")
    path = one(root, ".onnxbuild/remembered/*")
    data = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        bad = {"flipped": data[:90] + b"?" + data[91:], "short": data[:-9], "empty": b""}
        path.write_bytes(bad.get(damage, data))
        if damage == "another's":
            path.rename(path.with_name("0" * 32))

    assert ask(root, "mini") is None
    assert think(root, "mini")[0] == set()


def test_it_is_the_users_own_word(project, tmp_path, monkeypatch):
    """A store that came with a checkout vouches for nothing, whatever is in it."""
    root = project / "mini"
    think(root, "mini")
    assert ask(root, "mini") == ["mini"]
    for content in (None, b"", b"another key"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        if content is not None:
            (tmp_path / "onnxbuild").mkdir(exist_ok=True)
            (tmp_path / "onnxbuild/owner").write_bytes(content)
        assert ask(root, "mini") is None


@pytest.fixture(scope="module")
def command(base, tmp_path_factory):
    """The project around an .onnx file under a copy of our own code, its commands remembering at once."""
    folder = tmp_path_factory.mktemp("command")
    shutil.copytree(base / "mini", folder / "mini", symlinks=True)
    shutil.copytree(PACKAGE, folder / "code/onnxbuild", ignore=shutil.ignore_patterns("__pycache__"))
    time.sleep(0.03)
    made = Workspace(folder / "mini", {"PYTHONPATH": str(folder / "code")}, hasty=True, repository=folder / "code")
    for _ in range(3):  # it is built again without pytest's finders; then its report says that nothing was done; then
        made.run("run", "mini.yaml")  # nothing is written, and that is remembered
    return made


def loads(workspace: Workspace, *arguments: str) -> set[str]:
    """The modules that a command imports."""
    line, environment = workspace.command(*arguments)
    line[1:1] = ["-X", "importtime"]
    done = subprocess.run(line, cwd=workspace.root, env=environment, capture_output=True, text=True, check=True)
    return {text.rpartition("|")[2].strip() for text in done.stderr.splitlines() if text.startswith("import time:")}


HEAVIER = {"yaml", "msgspec", "typing", "pathlib", "json", "onnxbuild.recipe", "onnxbuild.plan", "onnxbuild.report"}


def test_commands_say_the_same_and_load_next_to_nothing(command):
    for words in (
        ["run", "mini.yaml"],
        ["run", "-q", "./mini.yaml"],
        ["plan", "mini.yaml"],
        ["plan", "--check", "mini.yaml"],
    ):
        assert command.both(*words).code == 0
    for words in (["run", "mini.yaml"], ["run", "-q", "-j", "3", "mini.yaml"], ["plan", "--check", "mini.yaml"]):
        assert HEAVIER & loads(command, *words) == set(), words
    for words in (["run", "--json", "mini.yaml"], ["run", "--paranoid", "mini.yaml"]):
        assert HEAVIER - {"json"} <= loads(command, *words)


def test_an_edit_of_our_own_code_is_noticed(command):
    command.run("run", "mini.yaml")
    assert "msgspec" not in loads(command, "run", "mini.yaml")
    own_code(Path(command.env["PYTHONPATH"]) / "onnxbuild")

    assert "msgspec" in loads(command, "run", "mini.yaml")


def test_the_collector_takes_it_away(command):
    command.run("run", "mini.yaml")
    assert list((command.root / ".onnxbuild/remembered").iterdir())
    command.run("cache", "gc")

    assert list((command.root / ".onnxbuild/remembered").iterdir()) == []
