"""The ort target through the front door: a recipe, a run, the files that came out, loaded by onnxruntime itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from small import published, small
from workspace import Workspace

from onnxbuild.contracts import Task
from onnxbuild.stages import target

TARGET = "targets: {ort: {optimization_level: basic}}\n"
STAGES = {"target/ort", "parity/ort", "package"}


def with_target(workspace: Workspace, text: str = TARGET) -> Workspace:
    workspace.write("small.yaml", workspace.read("small.yaml") + text)
    return workspace


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = with_target(small(Workspace.make(tmp_path_factory.mktemp("ort") / "project")))
    made.run("run", "small.yaml")
    return made


def test_the_file_computes_what_the_model_does(built):
    folder = built.root / "build/small"
    x = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    model = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"x": x})
    made = onnxruntime.InferenceSession(folder / "ort/model.ort").run(None, {"x": x})

    np.testing.assert_allclose(made[0], model[0], rtol=1e-6)
    assert (
        "Gemm" in (folder / "ort/required_operators_and_types.config").read_text()
        or "MatMul" in (folder / "ort/required_operators_and_types.config").read_text()
    )


def test_the_report_says_what_was_compared(built):
    report = built.report("small")

    assert {row["stage"] for row in report["parity"]} >= {"parity/ort"}
    (told,) = report["targets"]
    assert (told["name"], told["level"]) == ("ort", "run")
    assert [file["path"] for file in told["files"]] == ["ort/model.ort", "ort/required_operators_and_types.config"]
    assert {made["path"] for made in report["artifacts"]} >= {file["path"] for file in told["files"]}
    for page in ("report.md", "report.html"):
        assert "run on this machine" in (built.root / "build/small" / page).read_text()


def test_nothing_to_do_afterwards(edited):
    edited.run("run", "small.yaml")

    assert edited.built("small") == set()


def test_another_option_builds_the_target_alone(edited):
    edited.replace("small.yaml", "basic", "disable_all")
    assert "targets.ort.optimization_level: basic -> disable_all" in " ".join(
        edited.run("plan", "small.yaml").out.split()
    )
    edited.run("run", "small.yaml")

    # this graph is the same at both levels, so nothing after it is run but what names the recipe
    assert edited.built("small") == {"target/ort", "package"}


@pytest.mark.parametrize("cores", [{0}, None])
def test_the_same_bytes_wherever_things_lie_in_memory(built, tmp_path, cores):
    """Addresses are another in every process; a table that onnxruntime orders by them comes out in one order."""
    code = (
        "import hashlib, os, pathlib, sys\n"
        "if sys.argv[3]: os.sched_setaffinity(0, {int(sys.argv[3])})\n"
        "from onnxbuild.contracts import Shapes\n"
        "from onnxbuild.targets import ort\n"
        "made, _ = ort.build(pathlib.Path(sys.argv[1]), ort.Options(), pathlib.Path(sys.argv[2]), Shapes())\n"
        "print(hashlib.sha256(made['model.ort'].read_bytes()).hexdigest())"
    )
    model = built.root / "build/small/model.onnx"
    digests = set()
    for at in range(6):
        (scratch := tmp_path / ("x" * (1 + 20 * at))).mkdir()
        command = [sys.executable, "-c", code, str(model), str(scratch), "0" if cores else ""]
        digests.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert len(digests) == 1


def test_another_graph_builds_it_again_and_the_same_graph_does_not(edited):
    edited.replace("small.yaml", "eliminate_identity", "eliminate_deadend")
    edited.run("run", "small.yaml")

    assert edited.built("small") >= STAGES


def test_a_file_that_was_changed_is_published_again(edited):
    path = edited.root / "build/small/ort/model.ort"
    before = path.read_bytes()
    path.write_bytes(b"ours")
    assert "changed since it was built" in edited.run("verify", "small.yaml", code=1).out
    edited.run("run", "small.yaml")

    assert edited.built("small") == {"package"}
    assert path.read_bytes() == before


def test_a_target_that_the_recipe_lost_goes_and_the_users_files_stay(edited):
    mine = edited.write("build/small/ort/mine.txt", "mine")
    edited.replace("small.yaml", TARGET, "")
    edited.run("run", "small.yaml")

    assert list((edited.root / "build/small/ort").iterdir()) == [mine]
    assert edited.report("small")["targets"] == []
    assert published(edited.root)


def test_a_target_that_the_recipe_lost_goes_though_nothing_else_is_new(edited):
    """The store has a package without targets, all of whose files lie there: and so do others, put back by somebody."""
    ort, kept = edited.root / "build/small/ort", edited.root / "kept"
    shutil.copytree(ort, kept)
    edited.replace("small.yaml", TARGET, "")
    edited.run("run", "small.yaml")
    assert not ort.exists()
    shutil.copytree(kept, ort)
    said = edited.run("plan", "small.yaml").out
    edited.run("run", "small.yaml")
    assert "the output folder holds files of a target that the recipe no longer has" in " ".join(said.split())
    assert edited.built("small") == {"package"} and not ort.exists()
    assert "up to date" in edited.run("run", "small.yaml").out

    edited.write("build/small/ort/model.ort", "somebody's")
    stray = "ort/model.ort: of a target that the last build did not have"
    assert stray in edited.run("verify", "small.yaml", code=1).out
    edited.run("run", "small.yaml")
    assert not ort.exists()
    edited.run("verify", "small.yaml")


def test_what_it_is_made_with_is_no_torch(built):
    """onnxruntime's tools import torch where it is there: a new torch would build the target anew."""
    traces = [path.read_text(errors="replace") for path in (built.root / ".onnxbuild/traces").rglob("*.json")]

    assert [trace for trace in traces if "flatbuffers" in trace]
    assert not [trace for trace in traces if "dist:torch" in trace]


def test_the_same_bytes_in_other_surroundings(edited):
    assert "target/ort, the same bytes" in edited.run("verify", "--rebuild", "small.yaml").out


def test_what_onnxruntime_cannot_convert_is_a_failed_stage(tmp_path):
    (tmp_path / "g.onnx").write_bytes(b"")
    task = Task(
        "target/ort", target.__name__, {"target": "ort", "options": {}}, {"graph": str(tmp_path / "g.onnx")},
        str(tmp_path), str(tmp_path), str(tmp_path),
    )  # fmt: skip

    with pytest.raises(Exception, match=r"onnxruntime can't convert the graph|ONNX"):
        target.run(task)


def test_unknown_names_are_recipe_errors(workspace):
    with_target(small(workspace), "targets: {ort: {optimisation: basic}, orf: {}}\n")
    said = workspace.run("check", "small.yaml", code=2).err

    assert "did you mean 'ort'?" in said
    assert "targets.ort" in said


def test_importing_the_targets_loads_nothing_heavy():
    code = "import sys, onnxbuild.targets; print({'onnx', 'numpy', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())

    assert done.stdout == "set()\n"


def test_its_latency_stands_beside_onnxruntimes_of_the_same_run(edited):
    edited.write("small.yaml", edited.read("small.yaml") + "benchmark: {warmup: 1, runs: 5}\n")
    edited.run("run", "small.yaml")

    assert edited.built("small") == {"benchmark", "benchmark/ort", "package"}
    (told,) = edited.report("small")["targets"]
    assert told["p50"] > 0
    assert told["onnxruntime_p50"] > 0
    assert edited.report("small")["benchmark"]["runs"] == 5


def test_a_target_has_tolerances_of_its_own(edited):
    edited.replace("small.yaml", "basic", "basic, parity: {rtol: 0, atol: 1.0e-30}")
    ran = edited.run("run", "small.yaml", code=None)

    # exact, or refused by the target's tolerance; the graph's own is as it was
    assert edited.statuses("small")["parity/export"] == "cached"
    judged = {row["atol"] for row in edited.report("small")["parity"] if row["stage"] == "parity/ort"}
    assert judged == {1e-30}
    assert ran.code in (0, 1)


@pytest.mark.parametrize(
    ("parity", "said"),
    [
        ("{outputs: {nope: {rtol: 0.1}}}", "targets.ort.parity.outputs: unknown output 'nope'"),
        ("{rtol: 2}", "targets.ort.parity.rtol: rtol 2 allows anything"),
        ("{rtool: 2}", "targets.ort.parity: unknown key 'rtool'"),
    ],
)
def test_wrong_tolerances_of_a_target(edited, parity, said):
    edited.replace("small.yaml", "basic", f"basic, parity: {parity}")

    assert said in edited.run("check", "small.yaml", code=2).err
