"""The coreml target made from the PyTorch model itself: what onnx2coreml refuses, several sizes, a range of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from workspace import Workspace

pytest.importorskip("onnx2coreml", reason="the extra `coreml` is not installed")

from onnxbuild.runtimes import mil
from onnxbuild.targets import coreml_package as package

# Its running sum has no lowering in onnx2coreml.
NET = """\
import torch
from parts import WIDTH

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, WIDTH)

    def forward(self, x, k):
        y = torch.relu(self.linear(x))
        return {"total.1": y.cumsum(-1), "plain": y * 2, "next": k + 1}
"""
RECIPE = """\
version: 1
name: net
model: {pytorch: {factory: net:Net, seed: 3}}
export:
  exporter: torchscript
  opset: 17
  inputs:
    x: {dtype: float32, shape: [2, 5, 6]}
    k: {dtype: int64, shape: [2], data: {integers: {low: 0, high: 9}}}
  outputs: [total.1, plain, next]
  dynamic_axes: {x: {0: N, 1: T}, k: {0: N}, total.1: {0: N, 1: T}, plain: {0: N, 1: T}, next: {0: N}}
  dims: {N: {min: 1, max: 4}, T: {min: 2, max: 40}}
optimize: [{onnxoptimizer: [eliminate_identity]}]
targets:
  coreml: {source: program, minimum_deployment_target: iOS18, compute_precision: FLOAT32, dims: {N: [4, 1], T: 7}}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = Workspace.make(tmp_path_factory.mktemp("coreml") / "project")
    made.write("net.py", NET)
    made.write("parts.py", "WIDTH = 8\n")
    made.write("net.yaml", RECIPE)
    made.run("run", "net.yaml")
    return made


def inputs(n: int, t: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {"x": rng.normal(size=(n, t, 6)).astype(np.float32), "k": np.arange(n)}


def compared(workspace: Workspace) -> set[str]:
    return {row["case"] for row in workspace.report("net")["parity"] if row["stage"] == "parity/coreml"}


def test_a_list_of_shapes_is_one_package_that_computes_at_each(built):
    library = mil.library()
    folder = built.root / "build/net"
    opened = mil.open(folder / "coreml", {}, ["total.1", "plain", "next"])
    session = onnxruntime.InferenceSession(folder / "model.onnx")

    for n in (4, 1):
        got = opened.call(inputs(n, 7))
        expected = session.run(["total.1", "plain", "next"], inputs(n, 7))
        for array, reference in zip(got.values(), expected, strict=True):
            np.testing.assert_allclose(array, reference, rtol=1e-5, atol=1e-6)
    spec = library.models.MLModel(str(folder / "coreml" / package.PACKAGE), skip_model_load=True).get_spec()
    shapes = [list(one.shape) for one in spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes]
    assert shapes == [[4, 7, 6], [1, 7, 6]]
    assert [value.name for value in spec.description.output] == ["total_1", "plain", "next"]
    assert not [key for key in spec.description.metadata.userDefined if "date" in key]


def test_the_report_says_what_it_was_made_of_and_where_it_was_compared(built):
    report = built.report("net")
    (told,) = report["targets"]
    notes = " ".join(report["notes"])

    assert told["level"] == "emulated"
    assert compared(built) == {"N=4,T=7", "N=1,T=7"}
    assert "the files are bound to N=4|1, T=7: compared there alone" in told["why"]
    assert "made from the source model: the passes of `optimize` are not in it" in notes
    assert "takes these shapes: x is [4, 7, 6] or [1, 7, 6], k is [4] or [1]" in notes
    assert "total.1 is called total_1 in Core ML, which takes no such name" in notes
