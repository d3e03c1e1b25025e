"""Recipes over one base, from the front: what they share runs once, and every command knows of the files under a recipe."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import small
import yaml
from projects import LAYERS, RECIPE, TINY
from workspace import Workspace

BASE = RECIPE.replace("name: tiny\n", "")
PASSES = "optimize:\n  - onnxoptimizer: [eliminate_identity, extract_constant_to_initializer]\n"
RECIPES = {
    "plain": "base: common/tiny.yaml\nname: plain\n",
    "short": f"base: common/tiny.yaml\nname: short\n{PASSES}benchmark: null\n",
    "other": f"base: [common/tiny.yaml]\nname: other\n{PASSES}  - onnxoptimizer: [eliminate_deadend]\n"
    "parity: {rtol: 1.0e-4}\n",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Three recipes over one base, built by one command."""
    workspace = Workspace.make(tmp_path_factory.mktemp("bases") / "project")
    workspace.write("models/tiny.py", TINY)
    workspace.write("models/layers.py", LAYERS)
    workspace.write("recipes/common/tiny.yaml", BASE)
    for name, text in RECIPES.items():
        workspace.write(f"recipes/{name}.yaml", text)
    workspace.run("run", "--quiet", *paths())
    return workspace


def paths() -> list[str]:
    return [f"recipes/{name}.yaml" for name in RECIPES]


def keys(workspace: Workspace, name: str) -> dict[str, str]:
    return {stage["name"]: stage["key"] for stage in workspace.report(name)["stages"]}


def test_what_three_recipes_share_runs_once_for_all_of_them(built):
    ran = Counter(stage for name in RECIPES for stage in built.built(name))

    shared = ["export", "reference", "optimize/1-onnxoptimizer"]
    shared += [f"{what}/{graph}" for what in ("check", "parity") for graph in ("export", "1-onnxoptimizer")]
    assert {stage: ran.pop(stage) for stage in shared} == dict.fromkeys(shared, 1)
    assert ran.pop("package") == 3
    assert ran["optimize/2-onnxsim"] == ran["optimize/2-onnxoptimizer"] == 1
    assert "benchmark" not in built.statuses("short") and built.report("short")["status"] == "done"


def test_a_recipe_printed_whole_builds_the_same_and_each_line_says_where_it_is_from(edited):
    before = keys(edited, "other")
    printed = edited.run("check", "--resolved", "recipes/other.yaml").out
    lines = [line.split("  # ") for line in printed.splitlines()]
    for text, origin in lines:
        file, line = origin.split(":")
        written = edited.read(file).splitlines()[int(line) - 1]
        assert re.split(r"[:\s]", text.strip().removeprefix("- "))[0] in written, (text, origin)
    assert {origin.split(":")[0] for _, origin in lines} == {"recipes/other.yaml", "recipes/common/tiny.yaml"}
    assert all(len(line) <= 80 for line in printed.splitlines() if "extract_constant" not in line)
    data = yaml.safe_load(printed)
    assert list(data)[:4] == ["version", "name", "model", "export"] and "base" not in data
    assert data["parity"] == {"rtol": 0.0001, "atol": 1e-05}

    edited.write("recipes/other.yaml", printed)
    edited.run("run", "--quiet", "recipes/other.yaml")
    assert edited.built("other") == set() and keys(edited, "other") == before
    several = edited.run("check", "--resolved", *paths()).out
    assert [one["name"] for one in yaml.safe_load_all(several)] == [*RECIPES]


def test_a_line_that_the_model_told_says_so(workspace):
    (workspace.root / "m.onnx").write_bytes(small.model(1))
    workspace.write("r.yaml", "version: 1\nname: r\nmodel: {onnx: {path: m.onnx}}\nexport: {dims: {N: {max: 3}}}\n")
    assert workspace.run("check", "--resolved", "r.yaml").out == """\
version: 1                               # r.yaml:1
name: r                                  # r.yaml:2
model: {onnx: {path: m.onnx}}            # r.yaml:3
export:                                  # r.yaml:4
  dims: {N: {max: 3}}                    # r.yaml:4
  dynamic_axes:                          # told by m.onnx
    x: {0: N}                            # told by m.onnx
    y: {0: N}                            # told by m.onnx
  inputs:                                # told by m.onnx
    x: {dtype: float32, shape: [2, 16]}  # told by m.onnx
  outputs: [y]                           # told by m.onnx
  opset: 17                              # told by m.onnx
"""  # fmt: skip
    refused = workspace.run("check", "--deep", "--resolved", "r.yaml", code=2)
    assert "not allowed with argument --deep" in refused.err


def test_what_nobody_says_is_not_put_into_the_models_mouth(workspace):
    workspace.write("nets.py", "def net():\n    return 1\n")
    text = "version: 1\nname: r\nmodel: {pytorch: {factory: 'nets:net'}}\n"
    workspace.write("r.yaml", f"{text}export: {{inputs: {{x: {{dtype: float32, shape: [2]}}}}, outputs: [y]}}\n")
    lines = workspace.run("check", "--resolved", "r.yaml").out.splitlines()
    told = [line.split("  # ") for line in lines if line.startswith(("  exporter", "  opset"))]
    assert [[part.strip() for part in line] for line in told] == [
        ["opset: 18", "the default"],
        ["exporter: dynamo", "the default"],
    ]
    shown = workspace.run("explain", "r.yaml").out
    assert "told by" not in shown
    assert [
        line.split() for line in shown.split("left out of the recipe, and taken by default:\n")[1].splitlines()[:2]
    ] == [
        ["export.opset", "18"],
        ["export.exporter", "dynamo"],
    ]


def test_a_comment_in_a_base_builds_nothing_and_a_value_what_it_decides(edited):
    fast = Workspace(edited.root, hasty=True)
    fast.write("recipes/common/tiny.yaml", "# a comment\n" + BASE)
    for _ in range(2):
        time.sleep(0.05)
        fast.run("run", "--quiet", *paths())
        assert [fast.built(name) for name in RECIPES] == [set(), set(), set()]
    time.sleep(0.05)
    assert fast.both("run", *paths()).out.count("up to date") == 3, "as it is remembered, and thought over"
    fast.write("recipes/common/tiny.yaml", BASE.replace("runs: 5", "runs: 6"))
    why = fast.run("explain", "recipes/plain.yaml", "benchmark")
    line = BASE[: BASE.index("benchmark:")].count("\n") + 1
    assert f"recipes/common/tiny.yaml:{line}: benchmark.runs: 5 -> 6" in why.out
    assert '"file": "recipes/common/tiny.yaml"' in fast.run("explain", "recipes/plain.yaml", "--json").out
    fast.run("run", "--quiet", *paths())
    assert {name: fast.built(name) for name in RECIPES} == {
        "plain": {"benchmark", "package"},
        "short": set(),
        "other": {"benchmark", "package"},
    }
    made_of = " ".join(fast.run("explain", "recipes/plain.yaml", "benchmark").out.split())
    assert f"{line} benchmark.runs 6 (in recipes/common/tiny.yaml)" in made_of


def test_the_report_names_the_files_under_a_recipe(built):
    report = built.report("plain")
    assert list(report["recipe"]["bases"]) == ["recipes/common/tiny.yaml"]
    assert "recipes/common/tiny.yaml" in built.read("build/plain/report.html")
    assert (
        f"over recipes/common/tiny.yaml, SHA-256 {report['recipe']['bases']['recipes/common/tiny.yaml']}"
        in built.read("build/plain/report.md")
    )


# With a repository


def git(root: Path, *arguments: str) -> str:
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    return subprocess.run(["git", *own, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A locked recipe over a base over a base, in a repository."""
    made = Workspace.make(tmp_path_factory.mktemp("locked") / "project")
    (made.root / "m.onnx").write_bytes(small.model(1))
    made.write("recipes/common/first.yaml", small.recipe().replace("name: small\n", ""))
    made.write("recipes/common/last.yaml", "base: first.yaml\n")
    made.write("recipes/small.yaml", "base: common/last.yaml\nname: small\n")
    made.write(".gitignore", "build/\n.onnxbuild/\nhome/\n")
    made.run("lock", "recipes/small.yaml")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        git(made.root, *command)
    return made


@pytest.fixture
def project(locked, tmp_path):
    return locked.copy(tmp_path / "project")


def test_a_change_of_a_base_affects_the_recipes_over_it(project):
    affected = project.run("affected", "--since", "HEAD")
    assert (affected.out, affected.err) == (
        "",
        "no recipe is affected by the 0 paths changed since HEAD (1 looked at)\n",
    )
    project.replace("recipes/common/first.yaml", "max: 3", "max: 4")
    (one,) = json.loads(project.run("affected", "--since", "HEAD", "--json").out)["recipes"]
    assert one["path"] == "recipes/small.yaml"
    assert one["reasons"] == [
        {
            "kind": "recipe",
            "text": "its base recipes/common/first.yaml changed",
            "path": "recipes/common/first.yaml",
            "stages": [],
        }
    ]
    git(project.root, "commit", "-qam", "two")
    (one,) = json.loads(project.run("affected", "--since", "HEAD~1", "--json").out)["recipes"]
    assert [reason["text"] for reason in one["reasons"]] == ["its base recipes/common/first.yaml changed"]


def test_a_lock_is_outdated_by_what_a_base_says_and_not_by_how(project):
    project.write("recipes/common/last.yaml", "# words\nbase: [first.yaml]\n")
    assert project.run("lock", "--check", "recipes/small.yaml").out == "recipes/small.lock.yaml: up to date\n"
    project.write("recipes/common/last.yaml", "base: first.yaml\nparity: {seed: 1}\n")
    assert "recipe: says something else" in project.run("lock", "--check", "recipes/small.yaml", code=1).out
    project.write("recipes/common/last.yaml", "base: none.yaml\n")
    assert project.run("lock", "--check", "recipes/small.yaml", code=2).err.startswith(
        "recipes/common/last.yaml:1:7: base: 'none.yaml': no such file\n"
    )


DIFF = """\
Recipe
  @@ -14,5 +14,5 @@
       y: {0: N}
     dims:
  -    N: {min: 1, max: 3}
  +    N: {min: 1, max: 4}
   optimize:
     - onnxoptimizer: [eliminate_identity]
"""


def test_two_revisions_differ_by_what_their_bases_say(project):
    project.replace("recipes/common/first.yaml", "max: 3", "max: 4")
    git(project.root, "mv", "recipes/common", "recipes/parts")
    project.write("recipes/small.yaml", "base: parts/last.yaml\nname: small\n")
    project.run("lock", "recipes/small.yaml")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-qm", "two")

    assert DIFF in project.run("diff", "HEAD~1..HEAD", "recipes/small.yaml", code=1).out
    assert DIFF in project.run("diff", "HEAD~1", "recipes/small.yaml", code=1).out, "against the work tree"


def test_a_revision_is_built_over_its_own_bases_and_those_that_git_does_not_hold(project):
    project.write(".gitignore", "build/\n.onnxbuild/\nhome/\nrecipes/common/first.yaml\n")
    git(project.root, "rm", "-q", "--cached", "recipes/common/first.yaml")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-qm", "two")
    project.write("recipes/common/last.yaml", "base: first.yaml\nexport: {dims: {N: {max: 4}}}\n")
    ran = project.run("diff", "--build", "HEAD", "recipes/small.yaml", code=1)

    assert DIFF in ran.out
    assert "recipes/common/first.yaml" in ran.text, "it is told that this file is the work tree's"
