"""Models for the passes: work for several of them, dynamic dimensions, and weights large enough for the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from onnxbuild.graphs import modelfile
from onnxbuild.passes import Beside

CONVOLUTION = """
<ir_version: 8, opset_import: ["": 18]>
g (float[batch, 3, height, width] x) => (float[batch, 16, height, width] y, float[batch, 16] z) {
    c = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, w, cb)
    b = BatchNormalization(c, scale, bias, mean, variance)
    i = Identity(b)
    t1 = Transpose<perm = [0, 2, 3, 1]>(i)
    t2 = Transpose<perm = [0, 3, 1, 2]>(t1)
    y = Relu(t2)
    p = GlobalAveragePool(y)
    f = Flatten(p)
    one = Constant<value = float {1.0}>()
    two = Add(one, one)
    m = MatMul(f, v)
    k = Mul(m, two)
    z = Add(k, u)
    dead = Neg(x)
}
"""
BRANCHES = """
<ir_version: 8, opset_import: ["": 18, "local": 1]>
g (float[batch, 32] x, bool flag) => (float[batch, 32] y) {
    a = Identity(x)
    h = MatMul(a, w)
    y = If (flag) <
        then_branch = t () => (float[batch, 32] o) { d = Identity(h) o = MatMul(d, v) },
        else_branch = e () => (float[batch, 32] q) { c = Constant<value = float {1.0}>() q = MatMul(h, c) }
    >
}
"""


@dataclass
class Kept:
    """A model in the store, and how to run it."""

    path: Path
    objects: Path
    feeds: list[dict[str, np.ndarray]]

    def outputs(self, path: Path | None = None) -> list[list[np.ndarray]]:
        session = onnxruntime.InferenceSession(str(path or self.path), providers=["CPUExecutionProvider"])
        return [session.run(None, feed) for feed in self.feeds]

    def after(self, module, options, scratch: Path) -> Path:
        """Run a pass and keep its result."""
        scratch.mkdir(parents=True, exist_ok=True)
        model, folder = module.run(self.path, options, scratch, Beside(lambda: iter(self.feeds)))
        ref, _ = modelfile.save(model, folder, self.objects)
        return self.objects / ref

    def assert_same_outputs(self, path: Path, **tolerance: float) -> None:
        for got, expected in zip(self.outputs(path), self.outputs(), strict=True):
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(one, other, **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


def array(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(sum(map(ord, name))).standard_normal(shape)
    return numpy_helper.from_array((np.abs(values) if name == "variance" else values).astype(np.float32), name)


@pytest.fixture
def convolution(tmp_path):
    model = parser.parse_model(CONVOLUTION)
    vectors = [array(name, 16) for name in ("cb", "scale", "bias", "mean", "variance", "u")]
    model.graph.initializer.extend([array("w", 16, 3, 3, 3), array("v", 16, 16), *vectors])
    ref, refs = modelfile.save(model, None, tmp_path / "objects")
    assert len(refs) == 2
    rng = np.random.default_rng(0)
    sizes = [(2, 3, 8, 8), (1, 3, 5, 9)]
    feeds = [{"x": rng.standard_normal(size).astype(np.float32)} for size in sizes]
    return Kept(tmp_path / "objects" / ref, tmp_path / "objects", feeds)


@pytest.fixture
def branches(tmp_path):
    model = parser.parse_model(BRANCHES)
    model.graph.initializer.append(array("w", 32, 32))
    graphs = {a.name: a.g for a in model.graph.node[-1].attribute}
    graphs["then_branch"].initializer.append(array("v", 32, 32))
    graphs["else_branch"].node[0].attribute[0].t.CopyFrom(array("c", 32, 32))
    ref, refs = modelfile.save(model, None, tmp_path / "objects")
    assert len(refs) == 3
    x = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    feeds = [{"x": x, "flag": np.array(flag)} for flag in (True, False)]
    return Kept(tmp_path / "objects" / ref, tmp_path / "objects", feeds)


def ops(path: Path) -> list[str]:
    return [node.op_type for node in modelfile.structure(path).graph.node]
