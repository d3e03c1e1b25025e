"""The mutation matrix: change any ingredient of any stage, and exactly the stages that it can affect run again.

Where a recipe says something else the package is one of them, whatever a row says: the published model names its recipe.

Each row edits a built project, builds it, compares what was published with what a process with an empty store makes of
the same files, takes the edit back, and builds again: then nothing may run but the package, which has to replace what
was published.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import zlib
from pathlib import Path

import mutations
import pytest
from mutation_rows import (
    DATA_ROWS,
    ENVIRONMENTS,
    FACETS,
    MINI_NOTHING,
    NET,
    NET_NOTHING,
    NOTHING,
    ONNX_ROWS,
    PACKAGES,
    RECIPE,
    SMALL,
    SOURCE,
    TARGET_FACETS,
    TARGET_PACKAGES,
    TARGET_ROWS,
    TARGET_VERSIONS,
    TORCH_ROWS,
    VERSIONS,
    YAML,
)
from mutations import Bench, swap
from projects import install
from test_layers import HEAVY
from workspace import Workspace

from onnxbuild import recipe as recipes
from onnxbuild.passes import PASSES
from onnxbuild.sources import SOURCES
from onnxbuild.stages import STAGES
from onnxbuild.system import distributions, machine
from onnxbuild.targets import TARGETS

# ONNXBUILD_MATRIX=1 compares every row with a clean build.
ALL_CLEAN = bool(os.environ.get("ONNXBUILD_MATRIX"))


# The benches


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    yield from _bench(tmp_path_factory, mutations.mini, RECIPE)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    yield from _bench(tmp_path_factory, mutations.net, YAML)


@pytest.fixture(scope="module")
def ships(tmp_path_factory):
    yield from _bench(tmp_path_factory, mutations.ships, RECIPE)


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    yield from _bench(tmp_path_factory, mutations.smaller, SMALL)


def _bench(tmp_path_factory, make, name):
    root = tmp_path_factory.mktemp("bench") / "project"
    make(root)
    with mutations.bench(root) as bench:
        bench.build(name)
        time.sleep(2.1)  # until digests are remembered: a memory that is wrong must have its chance
        assert bench.build(name) == set()
        assert mutations.settled(bench.artifacts(name)) == bench.clean(name)
        assert bench.affected(name) == []
        yield bench


def traces(root: Path) -> set[Path]:
    return set((root / ".onnxbuild/traces").rglob("*.json"))


def mutate(bench: Bench, name: str, edit: mutations.Edit, runs: set[str], *, clean: bool = True) -> None:
    """One row of the matrix, held against a `clean` build where that tells more."""
    assert bench.remembers(name)
    before, kept, published = mutations.state(bench.root), traces(bench.root), bench.artifacts(name)
    said = bench.recipe(name)
    try:
        edit(bench.root)
        says = bench.recipe(name)
        runs = runs | ({"package"} if says != said else set())
        told = bench.affected(name)  # by what was built before the edit, and then by what was built after it
        assert bench.build(name) == runs
        assert not runs or (told and bench.affected(name))
        now = bench.artifacts(name)
        # what built both roots of the DAG anew is nearly a clean build itself; of the others about a third, by what came out
        if ALL_CLEAN or (clean and not runs >= SOURCE and zlib.crc32(repr(now).encode()) % 3 == 0):
            assert mutations.settled(now) == bench.clean(name)
    finally:
        mutations.revert(bench.root, before)
        again = bench.build(name)
        for path in traces(bench.root) - kept:
            path.unlink()
    replaced = now != published and says.name == said.name  # else it lies in a folder of its own
    assert again == ({"package"} if replaced else set())
    assert bench.artifacts(name) == published


@pytest.mark.sample(4)
@pytest.mark.parametrize("row", ONNX_ROWS)
def test_a_change_around_an_onnx_file_runs_what_it_can_affect(mini, row):
    mutate(mini, RECIPE, *ONNX_ROWS[row])


@pytest.mark.sample(4)
@pytest.mark.parametrize("row", TORCH_ROWS)
def test_a_change_around_a_torch_model_runs_what_it_can_affect(net, row):
    mutate(net, YAML, *TORCH_ROWS[row])


@pytest.mark.sample(4)
@pytest.mark.parametrize("row", TARGET_ROWS)
def test_a_change_around_targets_runs_what_it_can_affect(ships, row):
    edit, runs = TARGET_ROWS[row]
    mutate(ships, RECIPE, edit, runs, clean=False)


@pytest.mark.sample(4)
@pytest.mark.parametrize("row", DATA_ROWS)
def test_a_change_around_data_runs_what_it_can_affect(smaller, row):
    edit, runs = DATA_ROWS[row]
    mutate(smaller, SMALL, edit, runs, clean=False)


# What is not in the project: our own code, the machine, what is installed.


def rerun(bench: Bench, name: str, runs: set[str], monkeypatch: pytest.MonkeyPatch, *, seen: bool = True) -> None:
    """A row whose edit is a patch, which `monkeypatch` takes back; it is not `seen` where it stands for an edited file."""
    published = bench.artifacts(name)
    kept = traces(bench.root)
    ran = bench.build(name, ask=seen)
    monkeypatch.undo()
    again = bench.build(name)
    for path in traces(bench.root) - kept:
        path.unlink()

    assert (ran, again) == (runs, set())
    assert bench.artifacts(name) == published


@pytest.mark.parametrize(("table", "name"), VERSIONS)
def test_a_raised_version_of_our_own_code_runs_its_stages(mini, table, name, monkeypatch):
    module = {"stage": STAGES, "source": SOURCES, "pass": PASSES}[table][name]
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1000)

    rerun(mini, RECIPE, VERSIONS[table, name], monkeypatch, seen=False)


@pytest.mark.parametrize("facet", FACETS)
def test_another_machine_runs_what_declares_that_it_matters(mini, facet, monkeypatch):
    facets = machine.facets
    assert mini.remembers(RECIPE)
    changed = lambda names, *root: facets(names, *root) | ({facet: "another"} if facet in names else {})
    monkeypatch.setattr(machine, "facets", changed)

    rerun(mini, RECIPE, FACETS[facet], monkeypatch)


@pytest.mark.parametrize("name", TARGET_VERSIONS)
def test_a_raised_version_of_a_target_builds_that_one(ships, name, monkeypatch):
    monkeypatch.setattr(TARGETS[name], "VERSION", TARGETS[name].VERSION + 1000)

    rerun(ships, RECIPE, TARGET_VERSIONS[name], monkeypatch, seen=False)


@pytest.mark.parametrize("facet", TARGET_FACETS)
def test_another_machine_builds_the_targets_that_declare_that_it_matters(ships, facet, monkeypatch):
    facets = machine.facets
    changed = lambda names, *root: facets(names, *root) | ({facet: "another"} if facet in names else {})
    monkeypatch.setattr(machine, "facets", changed)

    rerun(ships, RECIPE, TARGET_FACETS[facet], monkeypatch, seen=False)


def test_another_release_of_a_targets_tool_builds_that_target(ships, tmp_path):
    shutil.copytree(ships.root, tmp_path / "copy/ships", symlinks=True)
    (tmp_path / "copy/path").mkdir()
    moved = at(tmp_path / "copy", "ships")
    ran(moved, RECIPE)  # by this process's finders it was built
    found = {}
    for names in TARGET_PACKAGES:
        for name in names:
            reinstall(tmp_path / "copy/path", name, "99.9")
        found[names] = ran(moved, RECIPE)

    assert found == TARGET_PACKAGES


def imported(workspace: Workspace) -> set[str]:
    """What a run with nothing to do imports."""
    for _ in range(2):  # the first may write the report, and what was written just now is not remembered
        workspace.run("run", "--quiet", RECIPE)
    (python, *rest), environment = workspace.command("run", RECIPE)
    command = [python, "-X", "importtime", *rest]
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=True)
    assert "mini: up to date" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("remembered", ["0", "1"])
def test_a_run_with_nothing_to_do_imports_nothing_more_for_targets(mini, ships, remembered):
    env = {"ONNXBUILD_REMEMBERED": remembered}
    plain, more = (imported(Workspace(bench.root, env, hasty=True)) for bench in (mini, ships))

    assert more - plain == set()
    assert {name.partition(".")[0] for name in more} & set(HEAVY) == set()
    assert ("msgspec" in more) == (remembered == "0")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The two projects, built by the command itself with an empty folder on PYTHONPATH."""
    base = tmp_path_factory.mktemp("built")
    (base / "path").mkdir()
    for name, make in (("mini", mutations.mini), ("net", mutations.net)):
        make(base / name)
        at(base, name).run("run", "--quiet", f"{name}.yaml")
    return base


@pytest.fixture
def copy(built, tmp_path):
    """The two projects, moved elsewhere with their stores."""
    shutil.copytree(built, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def at(base: Path, name: str, **env: str) -> Workspace:
    return Workspace(base / name, {"PYTHONPATH": str(base / "path"), **env})


def ran(workspace: Workspace, recipe: str, *arguments: str) -> set[str]:
    """The stages that run when a recipe is built."""
    workspace.run("run", "--quiet", *arguments, recipe)
    return workspace.built(Path(recipe).stem)


def reinstall(folder: Path, name: str, version: str | None = None) -> None:
    """Another release of an installed distribution, or another build of the same one, as far as its metadata tell."""
    installed, info = distributions.distributions()[name]
    other = folder / Path(info).name.replace(f"-{installed}.", f"-{version or installed}.")
    shutil.copytree(info, other)
    with open(other / "RECORD", "a") as record:
        record.write("another.py,sha256=AAAA,1\n")


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", PACKAGES)
def test_another_release_of_a_package_runs_the_stages_that_use_it(copy, name):
    reinstall(copy / "path", name, "99.9")
    first = ran(at(copy, "mini"), RECIPE)
    second = ran(at(copy, "mini"), RECIPE)
    shutil.rmtree(next((copy / "path").iterdir()))
    back = ran(at(copy, "mini"), RECIPE)

    assert (first, second, back) == (PACKAGES[name], set(), set())


def test_another_build_of_the_same_release_runs_the_stages_that_use_it(copy):
    reinstall(copy / "path", "onnxoptimizer")

    assert ran(at(copy, "mini"), RECIPE) == {"optimize/1-onnxoptimizer"}
    assert ran(at(copy, "mini"), RECIPE) == set()


@pytest.mark.parametrize(
    ("name", "runs"), [("torch", SOURCE), ("safetensors", SOURCE), ("onnxscript", set()), ("onnxsim", set())]
)
def test_another_release_of_a_package_runs_what_uses_it_for_a_torch_model(copy, name, runs):
    reinstall(copy / "path", name, "99.9")

    assert ran(at(copy, "net"), YAML) == runs


def test_a_package_of_the_users_own_counts_where_the_model_imports_it(copy):
    install(copy / "path", "acme", "1.0", {"acme.py": "GAIN = 2.0\n"})
    swap("models/named.py", "x * 2.0", "x * GAIN")(copy / "net")
    named = copy / "net/models/named.py"
    named.write_text("from acme import GAIN\n" + named.read_text())
    net, runs = at(copy, "net"), []
    assert ran(net, YAML) == SOURCE  # the same values
    runs.append(ran(net, YAML))
    shutil.rmtree(copy / "path")
    install(copy / "path", "acme", "1.1", {"acme.py": "GAIN = 3.0\n"})
    runs.append(ran(net, YAML))
    install(copy / "path", "other", "1.0", {"other.py": ""})
    runs.append(ran(net, YAML))

    assert runs == [set(), NET, set()]


# The opposite list: none of this may run anything.


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["net", "mini"])
def test_what_decides_nothing_runs_nothing(copy, name):
    """One edit after another, in a project that was moved to begin with."""
    wrong = {}
    for what, edit in {**NOTHING, **{"mini": MINI_NOTHING, "net": NET_NOTHING}[name]}.items():
        before, said = mutations.state(copy / name), recipes.load(copy / name / f"{name}.yaml").recipe
        edit(copy / name)
        names = recipes.load(copy / name / f"{name}.yaml").recipe != said  # then the published model names another one
        if (runs := ran(at(copy, name), f"{name}.yaml")) != ({"package"} if names else set()):
            wrong[what] = runs
        mutations.revert(copy / name, before)
        if names:
            assert ran(at(copy, name), f"{name}.yaml") <= {"package"}

    assert wrong == {}


@pytest.mark.parametrize("name", ["mini", "net"])
def test_another_environment_runs_nothing(copy, name):
    wrong = {}
    for what, variables in ENVIRONMENTS.items():
        if runs := ran(at(copy, name, **variables), f"{name}.yaml"):
            wrong[what] = runs
    for arguments in (["-j", "1"], ["-j", "8"], ["--paranoid"], ["--memory", "1G"]):
        if runs := ran(at(copy, name), f"{name}.yaml", *arguments):
            wrong[" ".join(arguments)] = runs
    before = os.umask(0o077)
    try:
        if runs := ran(at(copy, name), f"{name}.yaml"):
            wrong["umask"] = runs
    finally:
        os.umask(before)

    assert wrong == {}


def test_the_recipe_under_another_name_or_from_another_folder_runs_nothing(copy):
    mini = at(copy, "mini")
    (mini.root / RECIPE).rename(mini.root / "other.yaml")
    mini.run("run", "--quiet", "other.yaml")
    assert mini.built("mini") == set()
    (mini.root / "recipes").mkdir()
    (mini.root / "other.yaml").rename(mini.root / "recipes/deep.yaml")
    (mini.root / "common").rename(mini.root / "recipes/common")  # its bases, which it names as seen from itself
    Workspace(mini.root / "recipes", mini.env).run("run", "--quiet", "deep.yaml")
    assert mini.built("mini") == set()
