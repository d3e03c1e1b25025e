"""`onnxbuild affected` on a project in a git repository; that it misses nothing, `test_mutations` shows row by row."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import small
from workspace import Workspace

from onnxbuild.commands import schema
from onnxbuild.queries import affected, pins, shards
from onnxbuild.system import distributions

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import fleet

HERE = "since its last build here"
NEVER = "never built here, so nothing is known of what its code reads"
DATA = "x: {dtype: float32, shape: [2, 16], data: {npz: {path: data/x.npz}}}"


def git(root: Path, *arguments: str) -> str:
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    return subprocess.run(["git", *own, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A built recipe whose model is in a repository within the repository, with data beside it, and pins."""
    workspace = Workspace.make(tmp_path_factory.mktemp("affected") / "project")
    root = workspace.root
    for folder in ("parts", "data"):
        (root / folder).mkdir()
    (root / "parts/m.onnx").write_bytes(small.model(1))
    np.savez(root / "data/x.npz", x=np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32))
    text = small.recipe(path="parts/m.onnx", optimize="")
    workspace.write("recipes/small.yaml", text.replace("x: {dtype: float32, shape: [2, 16]}", DATA))
    workspace.write("constraints.txt", "numpy==2.4.6  # the newest\npandas==2.0\nonnxruntime==1.30\nprotobuf==7.0\n")
    workspace.write(".gitignore", ".onnxbuild/\nbuild/\nhome/\n")
    workspace.run("run", "--quiet", "recipes/small.yaml")
    for folder in (root / "parts", root):
        git(folder, "init", "-q")
        git(folder, "-c", "advice.addEmbeddedRepo=false", "add", "-A")
        git(folder, "commit", "-qm", "all")
    return workspace


@pytest.fixture
def project(built, tmp_path):
    return built.copy(tmp_path / "project")


def reasons(workspace: Workspace, *arguments: str) -> dict[str, list[str]]:
    """Why each recipe is affected, by its path."""
    told = json.loads(workspace.run("affected", "--since", "HEAD", "--json", *arguments).out)
    jsonschema.validate(told, json.loads(schema.text("affected")))
    assert all(cause["path"] in {*told["changed"], ""} for one in told["recipes"] for cause in one["reasons"])
    found = {one["path"]: [cause["text"] for cause in one["reasons"]] for one in told["recipes"]}
    assert all(len({*texts}) == len(texts) for texts in found.values()), "a reason is told once"
    return found


def why(workspace: Workspace) -> list[str]:
    return reasons(workspace).get("recipes/small.yaml", [])


# What it says, and to whom


def test_nothing_changed_and_nothing_is_listed(project):
    ran = project.run("affected", "--since", "HEAD")
    assert (ran.out, ran.err) == ("", "no recipe is affected by the 0 paths changed since HEAD (1 looked at)\n")
    assert project.run("affected", "--since", "HEAD", "--shards", "3").out == '{"include": []}\n'
    assert reasons(project) == {}


def test_what_no_build_reads_affects_no_recipe_that_was_built(project):
    project.write("README.md", "words")
    (project.root / "data/y.npz").write_bytes(b"")
    project.write("recipes/other.yaml", small.recipe("other", "parts/m.onnx"))
    ran = project.run("affected", "--since", "HEAD")
    wrapped = NEVER.replace("code ", "code\n" + " " * 22)
    assert ran.out == f"recipes/other.yaml  recipes/other.yaml is new\n                    {wrapped}\n"
    assert ran.err == "1 of 2 recipes can be affected by the 3 paths changed since HEAD\n"


def test_a_declared_file_and_a_repository_inside_are_told_with_the_stages_that_read_them(project):
    (project.root / "parts/m.onnx").write_bytes(small.model(2))
    np.savez(project.root / "data/x.npz", x=np.zeros((2, 16), np.float32))
    assert why(project) == ["data/x.npz changed", "parts changed"]
    project.run("run", "--quiet", "recipes/small.yaml")
    assert why(project) == ["data/x.npz changed", "parts changed"]  # by the build of the change, too


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda p: p.replace("recipes/small.yaml", "opset: 17", "opset: 18"), "recipes/small.yaml changed"),
        (lambda p: p.write("recipes/small.lock.yaml", "a: 1\n"), "recipes/small.lock.yaml is new"),
        (lambda p: git(p.root, "mv", "data/x.npz", "data/z.npz"), "data/x.npz is gone"),
        (lambda p: shutil.move(p.root / "data", p.root / "moved"), "data/x.npz is gone"),
        (
            lambda p: p.write("recipes/pyproject.toml", ""),
            "recipes/pyproject.toml is new, so the project may begin elsewhere",
        ),
    ],
)
def test_a_change_around_the_recipe(project, edit, told):
    edit(project)
    assert told in why(project)


def test_a_change_on_the_way_to_a_file_counts(project):
    (project.root / "data").rename(project.root / "one")
    (project.root / "data").symlink_to("one")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-qm", "a link")
    assert why(project) == []
    shutil.copytree(project.root / "one", project.root / "two")
    (project.root / "data").unlink()
    (project.root / "data").symlink_to("two")
    assert "data changed" in why(project)


def test_what_git_was_told_not_to_look_at_counts_as_changed(project):
    git(project.root, "update-index", "--assume-unchanged", "data/x.npz")
    assert why(project) == ["data/x.npz is one that git was told not to look at"]


def test_a_file_that_git_ignores_is_seen_by_its_content(project):
    project.write(".gitignore", ".onnxbuild/\nbuild/\nhome/\ndata/\n")
    git(project.root, "rm", "-rq", "--cached", "data")
    git(project.root, "commit", "-qam", "not here")
    assert why(project) == []
    np.savez(project.root / "data/x.npz", x=np.zeros((2, 16), np.float32))
    assert why(project) == [f"data/x.npz changed {HERE}"]


def test_another_environment_than_that_of_the_last_build(project, tmp_path):
    installed, info = distributions.distributions()["numpy"]
    shutil.copytree(info, tmp_path / "path" / Path(info).name.replace(installed, "99.9"))
    told = why(Workspace(project.root, {"PYTHONPATH": str(tmp_path / "path")}))
    assert told[0].startswith(f"numpy {installed} -> 99.9 {HERE} (check/export, export, package and ")
    assert len(told) == 1


def test_what_the_store_lost_is_unknown(project):
    project.write("README.md", "words")
    latest = project.root / ".onnxbuild/latest/small.json"
    content = latest.read_bytes()
    latest.write_bytes(content[:-1])
    assert why(project) == [NEVER]
    latest.write_bytes(content)
    for path in (project.root / ".onnxbuild/traces").rglob("*.json"):
        path.unlink()
    text = (
        "its last run left no result of check/export, export, package and others, so it is not known what is read there"
    )
    assert why(project) == [text]


def test_a_build_that_failed_leaves_what_comes_after_it_unknown(project):
    project.replace("recipes/small.yaml", "optimize: []", "optimize: []\nparity: {rtol: 0.0, atol: 0.0}")
    project.replace("recipes/small.yaml", "opset: 17", "opset: 18")  # which the file has not
    git(project.root, "commit", "-qam", "wrong")
    project.run("run", "--quiet", "recipes/small.yaml", code=1)
    project.write("README.md", "words")
    (told,) = why(project)
    assert told.startswith("its last run left no result of ")


def test_a_recipe_that_leaves_out_what_its_model_tells_is_known_whole(project):
    project.write("recipes/short.yaml", "version: 1\nname: short\nmodel: {onnx: {path: parts/m.onnx}}\n")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-qm", "short")
    project.run("run", "--quiet", "recipes/short.yaml")
    project.write("README.md", "words")
    assert reasons(project) == {}
    (project.root / "parts/m.onnx").write_bytes(small.model(2))
    assert reasons(project)["recipes/short.yaml"] == ["parts changed"]


def test_our_own_code_in_the_repository_counts_for_every_recipe(project, monkeypatch):
    project.write("tool/stages/export.py", "VERSION = 2\n")
    monkeypatch.setattr(affected, "OWN", f"{project.root}/tool/")
    monkeypatch.chdir(project.root)
    from onnxbuild.store.digests import Digests
    from onnxbuild.system import changes

    store = project.root / ".onnxbuild"
    search = affected.Search(changes.since("HEAD", "."), lambda _: (store, Digests(store / "digests.json")))
    found = search.of("recipes/small.yaml")
    assert "tool/stages/export.py is new, which is of onnxbuild itself" in [cause.text for cause in found.reasons]


# Pins


def test_a_pin_affects_what_uses_the_package_or_what_it_brings(project):
    project.replace("constraints.txt", "protobuf==7.0", "protobuf==7.1")
    (told,) = why(project)
    assert told.startswith("constraints.txt: protobuf 7.0 -> 7.1 (check/export, export, package and ")
    git(project.root, "checkout", "-q", "constraints.txt")
    project.replace("constraints.txt", "  # the newest", "")
    assert why(project) == []
    project.replace("constraints.txt", "pandas==2.0", "pandas==2.1")  # numpy is pinned, and nothing else of it is used
    assert why(project) == []
    project.replace("constraints.txt", "numpy==2.4.6\n", "")
    assert any("which brings numpy" in text or "numpy 2.4.6 -> none" in text for text in why(project))


LOCK = '[[package]]\nname = "numpy"\nversion = "{}"\n[[package]]\nname = "rich"\nversion = "{}"\n'
PINS = {
    "requirements.txt": ("numpy==1  # a\nrich", "rich\n\nnumpy == 1", {}, ""),
    "requirements-dev.txt": ("numpy==1", "numpy==2", {"numpy": "numpy 1 -> 2"}, ""),
    "deps.in": ("numpy>=1\n", "numpy>=2\n", {"numpy": "numpy >=1 -> >=2"}, ""),
    "constraints.txt": ("a==1", "-r other.txt\na==1", {}, " changed in more than its packages"),
    "base-requirements.txt": ("", "no-such-package==1", {"no-such-package": "no-such-package none -> 1"},
                              ": no-such-package none -> 1, and what it brings along is not known"),
    "uv.lock": (LOCK.format(1, 2), LOCK.format(2, 2), {"numpy": "numpy 1 -> 2"}, ""),
    "poetry.lock": (LOCK.format(1, 2), "not = [toml", {}, " changed, and can't be told apart"),
    "environment.yml": ("a", "b", {}, " changed, and which packages that moves is not known"),
    "pyproject.toml": ('[project]\ndescription = "a"\n[tool.ruff]\nx = 1', '[project]\ndescription = "b"', {}, ""),
    "sub/pyproject.toml": ('[project]\ndependencies = ["numpy"]', '[project]\ndependencies = ["numpy>2"]',
                           {"numpy": "numpy any -> >2"}, ""),
    "a/pyproject.toml": ("[tool.uv]\nx = 1", "[tool.uv]\nx = 2", {}, " changed in more than its packages"),
}  # fmt: skip


@pytest.mark.parametrize("path", PINS)
def test_what_a_pin_file_may_move(path):
    before, now, packages, anything = PINS[path]
    assert pins.is_pins(path, before.encode(), now.encode())
    moved = pins.moved(path, before.encode(), now.encode())
    assert {name: text.removeprefix(f"{path}: ") for name, text in moved.packages.items()} == packages
    assert moved.anything == (f"{path}{anything}" if anything else "")


def test_what_is_no_pin_file():
    for path in ("labels.txt", "notes.in", "model.py"):
        assert not pins.is_pins(path, b"cat\ndog\n")
    assert pins.is_pins("package-lock.json")
    assert pins.moved("package-lock.json", b"", b"{}").node


# Which recipes there are


def test_the_recipes_of_a_folder_are_those_that_git_knows_or_would_take(project):
    project.write("more/a.yaml", "{version: 1, name: a, model: {onnx: {path: m.onnx}}}")
    project.write("more/b.yml", "version: 1\nname: b\nmodel: [broken\n")
    project.write("more/none.yaml", "version: 1\nname: c\njobs: {model: 1}\n")
    project.write("more/a.lock.yaml", "version: 1\nname: a\nmodel: 1\n")
    project.write("build/a.yaml", "version: 1\nname: a\nmodel: 1\n")
    assert sorted(reasons(project)) == ["more/a.yaml", "more/b.yml"]
    assert sorted(reasons(project, "more")) == ["more/a.yaml", "more/b.yml"]
    assert reasons(project, "recipes") == {}
    assert sorted(reasons(project, "build/a.yaml", "./more/a.yaml", "more/a.yaml")) == ["build/a.yaml", "more/a.yaml"]


def test_the_recipes_of_a_repository_inside_are_below_the_folder_too(project):
    for name, known in (("sub", True), ("new", False)):
        inside = project.root / name
        project.write(f"{name}/deep/a.yaml", f"version: 1\nname: {name}\nmodel: {{}}\n")
        project.write(f"{name}/.gitignore", "/left/\n")
        project.write(f"{name}/left/b.yaml", "version: 1\nname: b\nmodel: {}\n")
        git(inside, "init", "-q")
        git(inside, "add", "-A")
        git(inside, "commit", "-qm", "recipes")
        if known:
            git(project.root, "-c", "advice.addEmbeddedRepo=false", "add", name)
            git(project.root, "commit", "-qm", "a submodule")
    git(project.root / "new", "config", "core.fsmonitor", "touch ../ran; false")  # one that came with such a setting
    assert sorted(reasons(project)) == ["new/deep/a.yaml", "sub/deep/a.yaml"]
    assert not (project.root / "ran").exists() and not (project.root / "new/ran").exists()
    assert sorted(reasons(project, "sub", "new/deep")) == ["new/deep/a.yaml", "sub/deep/a.yaml"]
    shutil.rmtree(project.root / "sub")
    (project.root / "sub").mkdir()  # as a clone has it without its submodules
    assert sorted(reasons(project)) == ["new/deep/a.yaml"]


def test_shards_take_about_as_long_as_one_another():
    seconds = {"a": 8.0, "b": 7.0, "c": 6.0, "d": 5.0, "e": 4.0, "f": None}
    assert shards.balanced(seconds, 2) == [["a", "e", "f"], ["b", "c", "d"]]
    assert shards.balanced(seconds, 9) == [["a"], ["b"], ["c"], ["f"], ["d"], ["e"]]
    assert shards.balanced(dict.fromkeys("abcd"), 2) == [["a", "c"], ["b", "d"]]
    assert shards.balanced({}, 4) == []


def test_a_matrix_quotes_what_a_shell_would_split(project):
    project.write("two words/it's.yaml", small.recipe("its", "parts/m.onnx"))
    project.replace("recipes/small.yaml", "opset: 17", "opset: 18")
    matrix = json.loads(project.run("affected", "--since", "HEAD", "--shards", "1").out)
    (shard,) = matrix["include"]
    assert shlex.split(shard["recipes"]) == ["recipes/small.yaml", "two words/it's.yaml"]
    assert shard["shard"] == 1
    assert shard["seconds"] > 0


# What is wrong with the command line


def test_what_is_no_revision_no_repository_or_no_file(project, tmp_path):
    ran = project.run("affected", "--since", "nope", code=2)
    assert ran.err == (
        f"--since: 'nope' is no commit of the repository in {project.root}\n"
        "    hint: give a branch, a tag or a commit; a shallow clone has few of them: git fetch --unshallow, or "
        "fetch-depth: 0 of actions/checkout\n1 problem.\n"
    )
    ran = project.run("affected", "--since", "HEAD", "none.yaml", code=2)
    assert ran.err == "none.yaml: no such file\n    hint: give a recipe's file, or a folder\n1 problem.\n"
    ran = project.run("affected", "--since", "HEAD", str(tmp_path), code=2)
    assert "hint: name a folder of the repository, or the recipes themselves" in ran.err
    outside = Workspace.make(tmp_path / "outside")
    ran = outside.run("affected", "--since", "HEAD", code=2)
    assert ran.err == (
        f"{outside.root} is in no git repository\n    hint: run it in a clone of the project, or git init\n1 problem.\n"
    )
    ran = Workspace(project.root, {"PATH": str(tmp_path)}).run("affected", "--since", "HEAD", code=2)
    assert (
        ran.err
        == "git is not installed, and tells which files there are, and what changed\n    hint: install git\n1 problem.\n"
    )
    (project.root / ".git/config").write_text("[core\n")
    ran = project.run("affected", "--since", "HEAD", code=2)
    assert ran.err.startswith(f"git can't tell of {project.root}: bad config line 1 in file")
    assert "hint: run git status there, and do as it says" in ran.err


# Many recipes


def test_a_thousand_recipes_take_a_second_and_load_nothing_heavy(tmp_path):
    workspace = Workspace(tmp_path / "fleet")
    command, environment = workspace.command("run", "--quiet")
    fleet.fleet(workspace.root, 1000, command, environment)
    with open(workspace.root / "models/7.py", "a") as file:
        file.write("# changed\n")
    loaded = "import sys; from onnxbuild.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", loaded, "affected", "--since", "HEAD"],
        cwd=workspace.root, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    heavy = {
        "torch",
        "onnx",
        "numpy",
        "onnxruntime",
        "jinja2",
        "jsonschema",
        "yaml",
        "onnxbuild.recipe",
        "onnxbuild.plan",
    }

    assert done.stdout == "7.yaml  models/7.py changed (export, reference)\n"
    assert not heavy & set(done.stderr.split())
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    )  # of processors: 0.5 s on one of 2026
    assert os.listdir(workspace.root / ".onnxbuild/tmp") == []
