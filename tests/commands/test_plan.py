"""`onnxbuild plan`: says what a run would do and why, and leaves everything as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import several
from workspace import Workspace

from onnxbuild.commands import schema

PASSES = "optimize:\n  - onnxoptimizer: [eliminate_identity]\n  - onnxoptimizer: [eliminate_deadend]\n"
STAGES = 11


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A workspace with one recipe, built twice over: nothing is left to do."""
    workspace = Workspace.make(tmp_path_factory.mktemp("built") / "project")
    several.add(workspace, "a", PASSES)
    workspace.run("run", "a.yaml")
    return workspace


def plan(workspace, *more, recipe="a.yaml"):
    """State and reasons by stage."""
    (only,) = json.loads(workspace.run("plan", recipe, "--json", *more).out)["recipes"]
    return {stage["name"]: (stage["state"], stage["why"]) for stage in only["stages"]}


def states(workspace, *more):
    return {name: state for name, (state, _) in plan(workspace, *more).items()}


def listing(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder with what stat says of it, but for the time of the last look."""
    found = {}
    for path in [root, *root.rglob("*")]:
        stat = path.lstat()
        found[str(path)] = (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_nlink)
    return found


def test_with_nothing_to_do_it_says_so_in_a_line(built):
    assert built.run("plan", "a.yaml").out == f"a (a.yaml): up to date ({STAGES} stages)\n"
    assert built.run("plan", "a.yaml", "--check").code == 0


def test_before_the_first_build_everything_would_run(workspace):
    several.add(workspace, "a", PASSES)

    assert list(plan(workspace).values()) == [("run", ["first build"])] * STAGES
    assert workspace.run("plan", "a.yaml", "--check", code=1).out.startswith("a (a.yaml): 11 run\n")


@pytest.mark.parametrize("command", [["plan"], ["plan", "--json", "--paranoid"], ["explain"], ["graph"]])
@pytest.mark.parametrize("edit", ["nothing", "a pass", "a damaged trace", "no store"])
def test_nothing_is_written_whatever_there_is_to_say(edited, command, edit):
    root = edited.root
    if edit == "a pass":
        edited.replace("a.yaml", "[eliminate_deadend]", "[eliminate_nop_cast]")
    elif edit == "a damaged trace":
        for trace in (root / ".onnxbuild/traces").rglob("*.json"):
            trace.write_bytes(trace.read_bytes()[:-1])
        next((root / ".onnxbuild/objects").rglob("*.onnx")).unlink()
    elif edit == "no store":
        shutil.rmtree(root / ".onnxbuild")
        shutil.rmtree(root / "build")
    before = listing(root)

    ran = edited.run(*command, "a.yaml")

    assert listing(root) == before
    assert ("damaged" in ran.err) == (edit == "a damaged trace")


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_read_only_tree_is_enough(edited):
    unwritable = [path for path in [edited.root, *edited.root.rglob("*")] if path.is_dir()]
    for folder in unwritable:
        folder.chmod(0o555)
    try:
        assert "up to date" in edited.run("plan", "a.yaml").out
    finally:
        for folder in unwritable:
            folder.chmod(0o755)


@pytest.mark.parametrize("command", ["plan", "explain", "graph"])
def test_no_heavy_library_is_loaded(built, command):
    (python, *_), environment = built.command()
    arguments = [python, "-X", "importtime", "-m", "onnxbuild", command, "a.yaml"]
    done = subprocess.run(arguments, cwd=built.root, env=environment, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}

    assert "onnxbuild.queries.forecast" in loaded
    assert not loaded & {"torch", "onnx", "numpy", "onnxruntime", "jsonschema", "jinja2", "onnxbuild.executors.local"}


def test_what_comes_after_a_stage_that_would_run_depends_on_what_it_gives(edited):
    edited.replace("a.yaml", "[eliminate_identity]", "[eliminate_identity, eliminate_nop_cast]")

    assert plan(edited) == {
        **dict.fromkeys(["export", "reference", "check/export", "parity/export"], ("up to date", [])),
        "optimize/1-onnxoptimizer": (
            "run",
            ["optimize[0].onnxoptimizer: now with eliminate_nop_cast"],
        ),
        **dict.fromkeys(
            ["check/1-onnxoptimizer", "parity/1-onnxoptimizer", "optimize/2-onnxoptimizer"],
            ("maybe", ["depends on what optimize/1-onnxoptimizer gives"]),
        ),
        **dict.fromkeys(
            ["check/2-onnxoptimizer", "parity/2-onnxoptimizer"],
            ("maybe", ["depends on what optimize/2-onnxoptimizer gives"]),
        ),
        "package": ("run", ["optimize[0].onnxoptimizer: now with eliminate_nop_cast"]),  # the model names its recipe
    }


def test_what_the_plan_foresees_is_what_the_run_does(edited):
    edited.replace("a.yaml", "[eliminate_identity]", "[eliminate_nop_cast]")
    edited.replace("a.yaml", "[eliminate_deadend]", "[eliminate_identity]")
    (foreseen,) = json.loads(edited.run("plan", "a.yaml", "--json").out)["recipes"]
    edited.run("run", "a.yaml")
    ran = edited.built("a")

    assert {stage["name"] for stage in foreseen["stages"] if stage["state"] == "run" and stage["certain"]} <= ran
    assert ran <= {stage["name"] for stage in foreseen["stages"] if stage["state"] in ("run", "maybe")}
    assert "optimize/2-onnxoptimizer" not in ran, "the graph of before, and the pass that it once had: in the store"
    assert set(states(edited).values()) == {"up to date"}


def test_a_failure_of_parity_shows_without_being_measured_again(workspace):
    several.add(workspace, "a", PASSES, text=several.REWRITTEN)
    workspace.run("run", "a.yaml", code=1)
    found = plan(workspace)

    assert found["parity/export"][0] == "fails"
    assert found["parity/export"][1][0].startswith("output 'y' is wrong at ")
    assert found["export"] == found["reference"] == found["check/export"] == ("up to date", [])
    assert found["package"] == found["optimize/1-onnxoptimizer"] == ("skip", ["parity/export fails"])
    text = workspace.run("plan", "a.yaml", "--check", code=1).out
    assert text.splitlines()[0] == "a (a.yaml): 1 fails, 7 skip, 3 up to date"

    workspace.write("a.yaml", workspace.read("a.yaml") + several.LOOSE)
    assert plan(workspace)["parity/export"] == ("up to date", [])
    assert plan(workspace)["optimize/1-onnxoptimizer"] == ("run", ["first build"])


def test_a_published_file_that_is_gone_is_seen(edited):
    (edited.root / "build/a/model.onnx").unlink()

    found = plan(edited)
    assert found.pop("package") == ("run", ["nothing is published in a/ yet, or it was removed"])
    assert {state for state, _ in found.values()} == {"up to date"}
    assert states(edited, "--out", "elsewhere")["package"] == "run"


def test_a_result_that_is_gone_and_a_stage_that_failed_are_told_apart(edited):
    key = next(s["key"] for s in edited.report("a")["stages"] if s["name"] == "check/export")
    shutil.rmtree(edited.root / ".onnxbuild/traces" / key[:2] / key[2:])

    assert plan(edited)["check/export"] == ("run", ["its last result was removed from the store, or was damaged"])


def test_a_stage_that_failed_says_so(workspace):
    several.add(workspace, "a")
    workspace.replace("a.yaml", "opset: 17", "opset: 18")  # not what the file is of
    workspace.run("run", "a.yaml", code=1)

    assert plan(workspace)["export"] == (
        "run",
        ["the last run kept no result of it: it failed, was interrupted, or wrote what it read"],
    )


def test_a_file_that_changed_is_named(edited):
    first = several.onnx.parser.parse_model(several.TEXT.format(first=9.0))
    several.onnx.save(first, edited.root / "a.onnx")

    found = plan(edited)
    assert found["export"] == ("run", ["a.onnx changed"]) == found["reference"]
    assert found["package"][0] == "maybe"


def test_lines_fit_and_reasons_come_last(edited):
    edited.replace("a.yaml", "max: 4", "max: 5")
    edited.write("a.yaml", edited.read("a.yaml") + "runtime: {session: {graph_optimization_level: basic}}\n")
    out = edited.run("plan", "a.yaml").out

    assert all(len(line) <= 80 for line in out.splitlines())
    assert "  run    export                    export.dims.batch.max: 4 -> 5\n" in out
    assert "  run    parity/export             export.dims: case batch=5 new\n" in out
    assert "  maybe  check/2-onnxoptimizer     depends on what optimize/2-onnxoptimizer\n" in out
    assert "  run    package                   export.dims.batch.max: 4 -> 5\n" in out


def test_several_recipes_come_in_their_order(edited):
    several.add(edited, "b", first=2.0)
    out = edited.run("plan", "b.yaml", "a.yaml").out

    assert out.splitlines()[0] == "b (b.yaml): 5 run"
    assert out.splitlines()[-1] == f"a (a.yaml): up to date ({STAGES} stages)"
    edited.run("plan", "b.yaml", "a.yaml", "--check", code=1)


def test_json_has_the_published_shape(edited):
    edited.replace("a.yaml", "[eliminate_identity]", "[eliminate_nop_cast]")
    plans = json.loads(edited.run("plan", "a.yaml", "--json").out)

    jsonschema.validate(plans, json.loads(schema.text("plan")))
    assert plans["version"] == 1 and plans["up_to_date"] is False
    stages = {stage["name"]: stage for stage in plans["recipes"][0]["stages"]}
    assert stages["parity/export"]["needs"] == ["export", "reference"]
    assert stages["optimize/1-onnxoptimizer"]["after"] == ["check/export", "parity/export"]
    assert stages["export"]["key"] and stages["package"]["key"] is None


def test_a_wrong_recipe_is_refused_as_everywhere(workspace):
    several.add(workspace, "a")
    workspace.replace("a.yaml", "opset: 17", "opset: seventeen")

    assert "a.yaml:5" in workspace.run("plan", "a.yaml", code=2).err
