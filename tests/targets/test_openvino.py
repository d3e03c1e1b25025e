"""The openvino target through the front door: a recipe, a run, the files that came out, loaded by OpenVINO itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from several_outputs import another_version, feed, hidden, model, parsed, project
from workspace import Workspace

from onnxbuild.contracts import Shapes, Task
from onnxbuild.errors import StageError
from onnxbuild.runtimes import openvino as runtime
from onnxbuild.stages import parity
from onnxbuild.store.store import LocalStore
from onnxbuild.targets import openvino as target

TARGET = "targets: {openvino: {}}\n"
SESSION = {"session": {"intra_op_num_threads": 1}}
IF = """branches (float[N] x, bool c) => (float[N] y) {
    y = If (c) <
        then_branch = one () => (float[N] a) { two = Constant <value = float {2.0}> () a = Mul (x, two) },
        else_branch = other () => (float[N] b) { t = Mul (x, x) b = Sub (t, x) }
    >
}"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = project(tmp_path_factory.mktemp("openvino") / "project", TARGET)
    made.run("run", "several.yaml")
    return made


def made_of(graph: Path, folder: Path, **options: str) -> Path:
    """The files of a graph, in a folder that has nothing else."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    files, _ = target.build(graph, target.Options(**options), scratch, Shapes())
    for name, path in files.items():
        path.rename(folder / name)
    return folder


@pytest.mark.parametrize("size", [0, 1, 3])
def test_the_files_compute_what_the_model_does(built, size):
    folder = built.root / "build/several"
    model = onnxruntime.InferenceSession(folder / "model.onnx").run(None, feed(size))
    core = runtime.library().Core()
    compiled = core.compile_model(folder / "openvino/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    made = compiled(feed(size))

    for name, wanted in zip(("y", "z", "next", "left"), model, strict=True):
        got = made[compiled.output(name)]
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_axes_have_the_declared_bounds(built):
    shape = (
        runtime.library().Core().read_model(built.root / "build/several/openvino/model.xml").input("x").partial_shape
    )

    assert (shape[0].min_length, shape[0].max_length, shape[1].get_length()) == (0, 3, 16)


def test_the_report_says_what_was_compared(built):
    (told,) = built.report("several")["targets"]
    assert (told["name"], told["level"]) == ("openvino", "run")
    assert [file["path"] for file in told["files"]] == ["openvino/model.xml", "openvino/model.bin"]
    own = runtime.library().Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    expected = set() if own == "f32" else {f"the device's default precision ({own})"}
    assert {aside["setting"] for aside in told["asides"]} == expected
    assert "computes int64 in 32 bits" in " ".join(built.report("several")["notes"])


def test_nothing_to_do_afterwards(edited):
    edited.run("run", "several.yaml")

    assert edited.built("several") == set()


def test_weights_in_float16_need_a_tolerance_and_the_hint_says_where(edited):
    edited.replace("several.yaml", "{}}", "{precision: fp16}}")
    said = " ".join(edited.run("run", "several.yaml", code=1).text.split())

    assert edited.built("several") == {"target/openvino", "parity/openvino"}
    assert "if that error is acceptable: targets.openvino.parity.outputs.y: {atol: 0.00" in said
    edited.replace("several.yaml", "precision: fp16", "precision: fp16, parity: {atol: 0.02, reason: float16}")
    edited.run("run", "several.yaml")

    assert edited.built("several") == {"package"}
    assert (edited.root / "build/several/openvino/model.bin").stat().st_size < 1200  # 512 weights of 2 bytes


def test_another_version_builds_the_target_alone(edited, tmp_path):
    newer = Workspace(edited.root, another_version(tmp_path / "site", "openvino"))
    assert "2099.1.0" in newer.run("plan", "several.yaml", code=None).out
    newer.run("run", "several.yaml")

    assert newer.built("several") == {"target/openvino", "parity/openvino"}  # the bytes are the same


def test_the_same_bytes_in_other_surroundings(edited):
    assert "target/openvino, the same bytes" in edited.run("verify", "--rebuild", "several.yaml").out


def test_the_same_bytes_whatever_was_converted_before(tmp_path):
    """OpenVINO counts the names that it makes up through the whole process."""
    graph = parsed(tmp_path / "if.onnx", IF)
    for at, options in enumerate(({}, {}, {"precision": "fp16"}, {"precision": "fp16"})):
        made_of(graph, tmp_path / str(at), **options)
    texts = [(tmp_path / str(at) / "model.xml").read_text() for at in range(4)]

    assert texts[0] == texts[1]
    assert texts[2] == texts[3]


def proven(workspace: Workspace, graph: bytes, folder: Path) -> list[dict]:
    """The rows of the workspace's own parity for the files of another graph."""
    (folder / "given.onnx").write_bytes(graph)
    files = made_of(folder / "given.onnx", folder / "files")
    stages = {stage["name"]: stage for stage in workspace.report("several")["stages"]}
    store = LocalStore(workspace.root / ".onnxbuild", pytest.fail)
    proof, reference = (store.any_trace(stages[name]["key"]) for name in ("parity/openvino", "reference"))
    inputs = {
        "graph": str(files / "model.xml"),
        "model.bin": str(files / "model.bin"),
        "reference": str(store.workplace().objects / reference.outcome.outputs["reference"]),
    }
    options = proof.document["options"]
    task = Task("parity/openvino", parity.__name__, options, inputs, str(workspace.root), "", str(folder / "scratch"))
    return parity.run(task).facts["results"]


def test_a_lost_output_is_found(built):
    with pytest.raises(StageError, match="no output 'nope'; it has left, next, y, z"):
        runtime.open(built.root / "build/several/openvino", SESSION, ["nope"])


def test_a_size_that_was_baked_in_is_found(built, tmp_path):
    graph = onnx.load_from_string(model())
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    rows = proven(built, graph.SerializeToString(), tmp_path)

    errors = {row["case"]: row["error"] for row in rows if row["output"] == "y" and row["dims"]["N"] != 2}
    assert errors
    assert all(error.startswith("openvino failed: ") for error in errors.values())


def test_bfloat16_goes_in_and_comes_out(tmp_path):
    """numpy has no such type, and OpenVINO takes and gives its bits for another's."""
    folder = made_of(
        parsed(tmp_path / "g.onnx", "g (bfloat16[N] x) => (bfloat16[N] y) { y = Add (x, x) }"), tmp_path / "made"
    )
    x = np.array([1.5, -3, 0], ml_dtypes.bfloat16)
    y = runtime.open(folder, SESSION, ["y"]).call({"x": x})["y"]

    assert y.dtype == ml_dtypes.bfloat16
    assert y.tolist() == [3, -6, 0]


def test_what_openvino_does_not_know_is_a_failed_stage(tmp_path):
    graph = parsed(tmp_path / "g.onnx", "g (float[N] x) => (float[N] y) { y = com.acme.Gate (x) }")
    with pytest.raises(StageError, match=r"No conversion rule found for operations: com.acme.Gate") as caught:
        made_of(graph, tmp_path / "made")

    assert caught.value.hint == "export the graph without these operators, or take openvino out of targets"
    (tmp_path / "model.xml").write_text("<net")
    with pytest.raises(StageError, match="OpenVINO can't open the model"):
        runtime.open(tmp_path, SESSION, ["y"])


def test_strings_are_refused_before_anything_runs(edited):
    edited.replace("several.yaml", "scale: {dtype: float32, shape: []}", "scale: {dtype: string, shape: []}")
    said = edited.run("check", "several.yaml", code=2).err

    assert "targets.openvino: input 'scale' holds strings, of which OpenVINO computes nothing" in said
    assert "look words up before the graph, or take openvino out of targets" in said


def test_without_the_package_it_is_refused_or_skipped(edited, tmp_path):
    without = Workspace(edited.root, hidden(tmp_path / "site", "openvino"))
    said = without.run("check", "several.yaml", code=2).err
    assert "it needs openvino, which is not installed" in said
    assert "pip install 'onnxbuild[openvino]'" in said
    without.replace("several.yaml", "{}}", "{optional: true}}")
    without.run("run", "several.yaml")

    (told,) = without.report("several")["targets"]
    missing = "openvino is not installed: pip install 'onnxbuild[openvino]'"
    assert (told["level"], told["files"], told["why"]) == ("skipped", [], missing)
    assert "openvino is not installed: pip install" in (without.root / "build/several/report.md").read_text()
    assert not (without.root / "build/several/openvino").exists()

    Workspace(edited.root, {}).run("lock", "several.yaml")
    said = without.run("run", "--locked", "several.yaml", code=1).err
    assert (
        f"\n    hint: the target 'openvino' can't be built here: {missing}\n          if that is what is wanted" in said
    )
    without.run("lock", "several.yaml")
    without.run("run", "--locked", "several.yaml")


def test_importing_it_tells_nobody_and_writes_nothing(tmp_path):
    code = (
        "import sys, onnxbuild.targets, onnxbuild.runtimes\n"
        "heavy = {'openvino', 'tensorrt_rtx', 'tensorrt', 'numpy'} & set(sys.modules)\n"
        "from onnxbuild.runtimes import openvino\n"
        "print(heavy, openvino.library().__version__[:2], 'openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path)},
        cwd=Path.cwd(),
    )

    assert done.stdout == "set() 20 False\n"
    assert list(tmp_path.iterdir()) == []
