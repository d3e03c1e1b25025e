"""`onnxbuild canary` from the front: two real environments, each with a release of its own of what models are made of."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
import small
from projects import install
from workspace import REPOSITORY, STATE, Ran, Workspace

from onnxbuild import report as reports
from onnxbuild.commands import schema
from onnxbuild.engine import turns
from onnxbuild.parity.verdict import Gate
from onnxbuild.recipe import documents
from onnxbuild.report import canary_text
from onnxbuild.report.canary import Canary, Tried
from onnxbuild.report.types import Score
from onnxbuild.review import canary, sides
from onnxbuild.system import interpreters

MODELS = """\
import acme
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(acme.LAYERS)))

    def forward(self, x):
        return x + self.layers(x)


def net():
    return Net()


def old():
    return torch.nn.Linear(acme.WIDTH, 256)
"""
RECIPE = """\
version: 1
name: {name}
model: {{pytorch: {{factory: "models:{name}"}}}}
export:
  exporter: torchscript
  opset: 17
  inputs:
    x: {{dtype: float32, shape: [2, 256]}}
  outputs: [y]
  dynamic_axes: {{x: {{0: N}}, y: {{0: N}}}}
  dims: {{N: {{min: 1, max: 64}}}}
"""
SITE = str(Path(np.__file__).parent.parent)  # what is installed for these tests
PYTHON = "../two/bin/python"
RECIPES = ("net.yaml", "old.yaml", "small.yaml", "shipped.yaml")


def environment(folder: Path, *path: str) -> Path:
    """A virtual environment that sees all packages of this one; gives where it has its own."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "base.pth").write_text("".join(f"{one}\n" for one in path))
    return site


class Project(Workspace):
    """A project whose commands are run by an environment of its own, with no variable that leads to our code."""

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        (_, *rest), variables = super().command(*arguments)
        del variables["PYTHONPATH"]
        return [str(self.root.parent / "one/bin/python"), *rest], variables | {"XDG_STATE_HOME": STATE}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Two environments: acme 1.0 here; acme 2.0 there makes a deeper network, and lacks a name and a file."""
    base = tmp_path_factory.mktemp("canary")
    made = Project.make(base / "project")
    model = small.model(3).decode("latin-1")
    site = environment(base / "one", SITE, str(REPOSITORY))
    install(site, "acme", "1.0", {"acme.py": "LAYERS = 1\nWIDTH = 256\n", "acme_files/__init__.py": ""})
    (site / "acme_files/m.onnx").write_bytes(model.encode("latin-1"))
    install(environment(base / "two", SITE), "acme", "2.0", {"acme.py": "LAYERS = 24\n", "acme_files/__init__.py": ""})
    small.small(made)
    made.write("models.py", MODELS)
    made.write("net.yaml", RECIPE.format(name="net") + "benchmark: {warmup: 3, runs: 50}\n")
    made.write("old.yaml", RECIPE.format(name="old"))
    made.write("shipped.yaml", small.recipe("shipped", "m.onnx, package: acme_files", optimize=""))
    made.run("run", "--quiet", "small.yaml")
    return made


@pytest.fixture(scope="module")
def before(project) -> dict[Path, bytes]:
    """What the project held before the canary."""
    return held(project)


def held(project: Project) -> dict[Path, bytes]:
    """What the project has built, and what is known of it as the last build."""
    folders = [project.root / "build", project.root / ".onnxbuild/latest"]
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def ran(project, before) -> Ran:
    """The canary of all recipes."""
    return project.run("canary", "--python", PYTHON, "--json", "--out", "kept", *RECIPES, code=1)


@pytest.fixture(scope="module")
def told(ran) -> Canary:
    return msgspec.json.decode(ran.out, type=Canary)


def by_name(told: Canary) -> dict[str, Tried]:
    return {one.name: one for one in told.recipes}


def test_each_recipe_is_told_of(told, ran):
    recipes = by_name(told)

    jsonschema.Draft202012Validator(json.loads(schema.text("canary"))).validate(json.loads(ran.out))
    assert [(one.build, one.graph, one.ok) for one in recipes.values()] == [
        ("passes", "changed", False),
        ("fails", None, False),
        ("passes", "same", True),
        ("fails", None, False),
    ]
    assert "module 'acme' has no attribute 'WIDTH'" in recipes["old"].why[0]
    assert "m.onnx" in recipes["shipped"].why[0]
    assert "Traceback" not in ran.err
    assert [(fact.subject, fact.before, fact.after) for fact in told.packages] == [("acme", "1.0", "2.0")]
    assert [node.op for node in recipes["net"].diff.structure.added] == ["Gemm"] * 23
    assert recipes["net"].diff.latency == []  # two times are no comparison
    assert recipes["small"].diff.same


def test_a_build_that_is_slower_is_measured_to_be(told):
    latency = by_name(told)["net"].latency

    assert latency.slower and latency.slower_in == latency.turns == 10 and latency.times > 3
    assert by_name(told)["net"].why[0].startswith(f"slower: {latency.times:.2f} times as long, in 10 of 10 turns")
    assert by_name(told)["small"].latency is None and by_name(told)["small"].latency_note == "not measured"


def test_what_both_have_in_common_is_built_once_and_build_is_not_touched(project, before, ran, told):
    mine, there = ran.err.split(f"with {PYTHON}:\n")

    assert "benchmark" not in ran.err
    assert "= small export  " in mine and "= small export  " in there
    assert re.search(r"net export +built .* acme 1\.0 -> 2\.0", there)
    assert held(project) == before
    assert project.run("plan", "--check", "small.yaml").code == 0
    assert sorted(path.name for path in (project.root / "kept/before").glob("*/model.onnx")) == ["model.onnx"] * 4
    assert sorted(path.parent.name for path in project.root.glob("kept/after/*/model.onnx")) == ["net", "small"]


def test_the_table_is_for_a_terminal_and_for_a_pull_request(told):
    lines = list(canary_text.lines(told))

    assert lines[2:5] == [
        "  acme 1.0 -> 2.0",
        "",
        "  recipe                    build          graph      error       p50",
    ]
    assert re.match(r"✗ net  +passes +changed +× [0-9.]+ +[0-9.]+ [mµ]s, × [0-9]+$", lines[5])
    assert "✓ small                     passes         same       same        not measured" in lines
    assert lines[-1] == "No: 3 of 4 recipes did not hold: net, old, shipped"
    assert max(map(len, lines[1:])) <= 80

    text = canary_text.markdown(told)
    assert text.startswith("## ❌ No: 3 of 4 recipes did not hold: net, old, shipped\n")
    assert "| acme | 1.0 | 2.0 |\n" in text and "| ✅ | small | passes | same | same | not measured |\n" in text
    assert text.index("| ❌ | shipped |") < text.index("| ✅ | small |")


def test_the_same_environment_holds_and_runs_nothing_anew(project, ran):
    same = project.run("canary", "--python", "../one/bin/python", "--constraint", "acme==1.*", "net.yaml", "small.yaml")

    assert same.out.endswith("Yes: 2 recipes held, and came out the same\n")
    assert "✓ net                       passes         same       same        same\n" in same.out
    built = {line.split()[2] for line in same.err.splitlines() if " built " in line}
    assert built == {"package"}


def test_a_recipe_that_fails_in_this_environment_is_told_apart(project, ran):
    """The two real reports of `old`, which fails with acme 2.0: the other way round, and against itself."""
    done, bad = (reports.read(project.root / f"kept/{side}/old/report.json") for side in ("before", "after"))

    assert canary.failed("old.yaml", "old", done, done, []) is None
    now, both = (canary.failed("old.yaml", "old", bad, after, []) for after in (done, bad))
    assert (now.build, now.ok, both.build, both.ok) == ("passes now", True, "fails in both", False)
    assert "module 'acme' has no attribute 'WIDTH'" in now.why[0] and now.why == both.why


def test_a_folder_stands_for_its_recipes(project, ran):
    assert "is in no git repository" in project.run("canary", "--python", "../one/bin/python", code=2).err
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)
    project.write(".gitignore", "kept/\nbuild/\n.onnxbuild/\nnet.yaml\nold.yaml\n")
    try:
        out = project.run("canary", "-q", "--python", "../one/bin/python").out
        project.write("none/readme.md", "")
        none = project.run("canary", "-q", "--python", "../one/bin/python", "none", code=2).err
    finally:
        shutil.rmtree(project.root / ".git")

    assert out.endswith("Yes: 2 recipes held, and came out the same\n")
    assert none == "there is no recipe below none\n    hint: name recipes, or another folder\n1 problem.\n"


def pair(project: Project, name: str) -> tuple[sides.Read, sides.Read]:
    """Two builds of the same; the second one is for a test to change."""
    read = sides.of_build(
        project.root / "kept/before" / name, "before", documents.text_of(project.root / f"{name}.yaml")
    )
    return read, read


def changed(read: sides.Read, **fields: object) -> sides.Read:
    return read._replace(report=msgspec.structs.replace(read.report, **fields))


def test_what_is_no_reason_by_day_one_is_one_by_its_size(project, ran):
    """The ratchet on errors, another interface, a comparison that is missing: each alone, of a real report."""
    one, other = pair(project, "small")
    report = other.report
    rows = [msgspec.structs.replace(row, max_abs=0.5) for row in report.parity]
    worse = canary.compared("small.yaml", (one, changed(other, parity=rows)), None, "", strict=False)
    assert len(worse.why) == 1 and re.fullmatch(r"error of y: \S+ -> 0\.5, 10 times or more", worse.why[0])
    assert worse.errors[0].worse and not worse.ok

    def judged(loss: float, value: float, of: str = report.graphs[-1].stage) -> dict[str, object]:
        gate = Gate("cosine", 1 - loss, 0.9, "", loss=loss)
        score = Score("metric/x", of, "metrics:top1", value, 9, 0.0, 0.02, higher_is_better=True, passed=True)
        return {"parity": [msgspec.structs.replace(row, gates=[gate]) for row in report.parity], "scores": [score]}

    for now, why in (
        (judged(1e-4, 0.949), []),
        (judged(2e-3, 0.94), ["y: cosine 0.9999 -> 0.998, its loss 20 times that before", "metric onnx: 0.95 -> 0.94"]),
        (judged(1e-5, 0.95, "nothing"), ["metric onnx: gone"]),
    ):
        sides_ = (changed(one, **judged(1e-4, 0.95)), changed(other, **now))
        assert canary.compared("small.yaml", sides_, None, "", strict=False).why == why

    none = canary.compared("small.yaml", (one, changed(other, parity=[])), None, "", strict=False)
    assert (none.lost, none.ok) == (["y of onnx"], False)
    assert none.why == ["no longer compared: y of onnx"]

    dims = canary.compared(
        "small.yaml", (one, changed(other, dims={"N": {"min": 1, "max": 2}})), None, "", strict=False
    )
    assert (dims.graph, dims.ok) == ("interface", False)

    graph = report.graphs[-1]
    weights = [*report.graphs[:-1], msgspec.structs.replace(graph, weights_sha256="0" * 64)]
    for strict in (False, True):
        told = canary.compared("small.yaml", (one, changed(other, graphs=weights)), None, "", strict=strict)
        assert (told.graph, told.ok) == ("weights", not strict)
        assert told.why == (["other weights, which --strict does not allow"] if strict else [])


def test_slower_is_what_nearly_every_turn_says():
    steady = [[100, 110, 105]] * 10

    assert turns.judged(steady, [[120, 130, 125]] * 10, 0.1).slower
    assert not turns.judged(steady, [[108, 118, 113]] * 10, 0.1).slower  # by less than what counts
    assert turns.judged(steady, [[108, 118, 113]] * 10, 0.05).slower
    noisy = [[500]] * 8 + [[90]] * 2
    assert not turns.judged(steady, noisy, 0.1).slower  # something else ran for a while
    assert turns.judged(steady, noisy, 0.1).slower_in == 8


BAD = [
    ("", "no other environment is named", "as `onnxbuild canary --help` shows; ../canary/bin/python -m pip install"),
    ("--python ../none", "../none can't be started: No such file", "such as ../canary/bin/python"),
    ("--python /bin/false", "/bin/false is no Python 3", "give --python the path of an interpreter"),
    ("--python ../bare/bin/python", "lacks what onnxbuild needs: jinja2, jsonschema, ml-dtypes", "pip install jinja2"),
    ("--python ../ancient", "../ancient is Python 3.9.1, and onnxbuild needs 3.11", "give one of Python 3.11 or newer"),
    (
        f"--python {PYTHON} --constraint acme<2 --constraint torch>=999 --constraint nowhere==1",
        f"--constraint: {PYTHON} has acme 2.0, and acme<2 is asked for",
        f"install it there: {PYTHON} -m pip install 'acme<2'",
    ),
    (
        f"--python {PYTHON} --constraint nowhere==1",
        f"{PYTHON} has no nowhere, and nowhere==1 is",
        "pip install nowhere==1",
    ),
    (
        f"--python {PYTHON} --constraint onnxruntime==0.1",
        "has onnxruntime-gpu ",
        "python -m pip install onnxruntime-gpu==0.1",
    ),
    (
        "--constraint a+b",
        "--constraint: 'a+b' is no constraint on a package",
        "write it as pip does, such as --constraint",
    ),
    ("--constraint torch", "--constraint: 'torch' names no version, or more", "write it as pip does, such as"),
    (f"--python {PYTHON} none.yaml", "none.yaml: no such file", "1 problem"),
]


@pytest.fixture(scope="module")
def spoilt(project) -> Project:
    base = project.root.parent
    venv.EnvBuilder(with_pip=False, symlinks=True).create(base / "bare")
    ancient = base / "ancient"  # there is none on most machines: what it would say
    ancient.write_text("#!/bin/sh\necho '[\"3.9.1\", [3, 9], {}]'\n")
    ancient.chmod(0o700)
    install(environment(base / "broken", SITE), "acme", "3.0", {"acme.py": "", "yaml.py": "raise ImportError('cut')\n"})
    return project


@pytest.mark.skipif(sys.platform != "linux", reason="/bin/false and scripts as interpreters")
@pytest.mark.parametrize(("arguments", "fact", "hint"), BAD, ids=[row[0] for row in BAD])
def test_what_is_wrong_is_told_before_anything_is_built(spoilt, arguments, fact, hint):
    recipes = [] if arguments.endswith(".yaml") else ["small.yaml"]
    told = spoilt.run("canary", "-q", *arguments.split(), *recipes, code=2)

    assert fact in told.err and hint in told.err
    assert told.out == "" and "Traceback" not in told.err
    assert f"{1 + arguments.count('=999') * 2} problem" in told.err


def test_an_environment_that_cannot_even_start_is_told(spoilt):
    told = spoilt.run("canary", "-q", "--python", "../broken/bin/python", "small.yaml", code=1)

    assert "ImportError: cut" in told.err
    assert "../broken/bin/python could not build: it ended with status 1, and said why above\n" in told.err
    assert "hint: look whether it can build anything: ../broken/bin/python -m onnxbuild doctor" in told.err


def test_an_interrupt_ends_the_other_process_too(project, ran):
    begun = project.root.parent / "begun"
    project.write(
        "slow.py", f"import time\n\n\ndef slow():\n    open({str(begun)!r}, 'w').close()\n    time.sleep(300)\n"
    )
    project.write("slow.yaml", RECIPE.format(name="slow").replace("models:", "slow:"))
    command, variables = project.command("canary", "--python", PYTHON, "slow.yaml")
    variables["TMPDIR"] = str(project.root.parent / "tmp")
    Path(variables["TMPDIR"]).mkdir()
    process = subprocess.Popen(command, cwd=project.root, env=variables, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not begun.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in said and "interrupted; what was finished is kept" in said
    assert list(Path(variables["TMPDIR"]).glob("onnxbuild-*")) == []


def test_what_is_asked_of_another_environment_is_what_is_needed():
    needs = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w-]+", one)[0].removesuffix("-gpu") for one in needs}

    assert names == set(interpreters.NEEDED)
