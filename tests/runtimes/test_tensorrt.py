"""Engines on a GPU, beside onnxruntime on the CPU; and what is said where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from onnxbuild.contracts import Shapes
from onnxbuild.errors import StageError
from onnxbuild.runtimes import cuda, onnxruntime, tensorrt
from onnxbuild.targets import tensorrt as target

GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x, int64[N] row, float scale) => (float[N, N] y, int64[N] next, bfloat16[N, 4] low, int64[2] sizes) {
    t = Transpose <perm = [1, 0]> (x)
    p = MatMul (x, t)
    y = Mul (p, scale)
    next = Add (row, row)
    low = Cast <to = 16> (x)
    sizes = Shape (x)
}"""
INPUTS = {
    "x": {"dtype": "float32", "shape": [2, 4]},
    "row": {"dtype": "int64", "shape": [2]},
    "scale": {"dtype": "float32", "shape": []},
}
SHAPES = Shapes(
    INPUTS, ["y", "next", "low", "sizes"], {"x": {"0": "N"}, "row": {"0": "N"}}, {"N": {"min": 0, "max": 5}}
)


def made(folder: Path, **options: object) -> Path:
    onnx.save(onnx.parser.parse_model(GRAPH), folder / "g.onnx")
    (folder / "made").mkdir()
    target.build(folder / "g.onnx", target.Options(tf32=False, **options), folder / "made", SHAPES)
    return folder / "made"


def test_a_machine_without_a_gpu_says_so():
    if cuda.missing() == "":
        pytest.skip("there is a GPU")
    assert tensorrt.missing(Path()) == "no GPU"
    with pytest.raises(StageError, match=r"the GPU's driver (can't be loaded|refuses cuInit)"):
        cuda.Device()


@pytest.mark.gpu
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_an_engine_of_this_gpu_computes_what_the_graph_does(tmp_path, size):
    if cuda.missing():
        pytest.skip("no GPU")
    opened = tensorrt.open(made(tmp_path, compute_capabilities=["CURRENT"]), {}, SHAPES.outputs)
    if opened.refused:
        pytest.skip(opened.refused)  # TensorRT-RTX has no support for some GPUs, such as those of 9.0
    rng = np.random.default_rng(0)
    feed = {"x": rng.normal(size=(size, 4)).astype(np.float32), "row": np.arange(size) * 2**40, "scale": np.float32(3)}
    reference = onnxruntime.caller(onnxruntime.on_cpu(tmp_path / "g.onnx", "all"), SHAPES.outputs)(feed)
    for _ in range(2):  # the second time in memory that was used
        got = opened.call(feed)
        for name, wanted in reference.items():
            assert (got[name].dtype, got[name].shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(got[name].astype(float), wanted.astype(float), rtol=1e-5, atol=1e-6)
    assert got["low"].dtype == ml_dtypes.bfloat16
    with pytest.raises(StageError, match=r"TensorRT refuses the shape \[9, 4\] of input 'x'"):
        opened.call({**feed, "x": np.ones((9, 4), np.float32)})


@pytest.mark.gpu
def test_an_engine_of_another_gpu_is_built_and_not_run(tmp_path):
    if cuda.missing():
        pytest.skip("no GPU")
    opened = tensorrt.open(made(tmp_path, compute_capabilities=["SM121"]), {}, SHAPES.outputs)
    assert opened.refused.startswith("the engine was built for SM121, and this machine's GPU is of ")


@pytest.mark.gpu
def test_what_is_no_engine_is_an_error(tmp_path):
    if cuda.missing():
        pytest.skip("no GPU")
    folder = made(tmp_path, compute_capabilities=["SM121"])
    (folder / "model.engine").write_bytes(b"no engine" * 100)
    with pytest.raises(StageError, match="can't load the engine") as caught:
        tensorrt.open(folder, {}, SHAPES.outputs)
    assert caught.value.hint == "hide the GPU (CUDA_VISIBLE_DEVICES=-1) to build only"
