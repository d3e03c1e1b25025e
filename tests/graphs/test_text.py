"""The printable graph: readable, complete, and free of weights."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnxbuild.errors import UserError
from onnxbuild.graphs import modelfile
from onnxbuild.graphs.text import show

TEXT = """
<ir_version: 8, opset_import: ["": 18, "local": 1], producer_name: "torch", producer_version: "2">
g (float[n, 64] x, bool flag) => (float[n, 64] y) {
    h = Gemm<alpha = 0.5, transB = 1>(x, w)
    s = Constant<value = int64[2] {-1, 64}>()
    r = Reshape(h, s)
    c = Conv<auto_pad = "SAME_UPPER", pads = [0, 1]>(r)
    z = local.twice(c)
    y = If (flag) <
        then_branch = t () => (float[n, 64] o) { o = Relu(z) },
        else_branch = e () => (float[n, 64] p) { p = Clip(z, , z) }
    >
}
<domain: "local", opset_import: ["": 18]>
twice <k: int> (a) => (b) { b = Mul(a, a) }
"""


def test_it_shows_everything_but_the_weights(tmp_path):
    model = parser.parse_model(TEXT)
    weight = np.arange(4096, dtype=np.float32).reshape(64, 64)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    ref, (data,) = modelfile.save(model, None, tmp_path)

    assert (
        show(tmp_path / ref)
        == f"""\
# opset ai.onnx 18, local 1; IR version 8
# from torch 2
# 9 nodes: 1 Clip, 1 Constant, 1 Conv, 1 Gemm, 1 If, 1 Mul, 1 Relu, 1 Reshape, 1 local::twice
# 1 initializers, 4,096 elements, 16,384 bytes

graph g
  input  x: float32[n, 64]
  input  flag: bool[]
  output y: float32[n, 64]
  weight w: float32[64, 64] at {data}
  h = Gemm <alpha = 0.5, transB = 1>(x, w)
  s = Constant <value = int64[2] = [-1, 64]>()
  r = Reshape(h, s)
  c = Conv <auto_pad = "SAME_UPPER", pads = [0, 1]>(r)
  z = local::twice(c)
  y = If(flag)
    else_branch:
      graph e
        output p: float32[n, 64]
        p = Clip(z, _, z)
    then_branch:
      graph t
        output o: float32[n, 64]
        o = Relu(z)

function local::twice(a) -> b
  b = Mul(a, a)
"""
    )


def test_weights_in_the_file_are_not_printed_either(tmp_path):
    weight = numpy_helper.from_array(np.arange(100, dtype=np.int64), "w")
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"])
    model = helper.make_model(helper.make_graph([], "g", [], [], [weight, words]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

    text = show(tmp_path / "m.onnx")

    assert "  weight w: int64[100]\n" in text
    assert "99" not in text
    assert "weight words: string[2]" in text


@pytest.mark.parametrize(
    ("content", "fact"),
    [(None, "No such file or directory"), (b"\xff\xff", "not an ONNX model"), (b"", "not an ONNX model")],
)
def test_what_is_no_model_is_said_plainly(tmp_path, content, fact):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UserError) as caught:
        show(path)

    remedy = "\n    hint: give an .onnx file, such as build/<name>/model.onnx" if content is not None else ""
    assert str(caught.value) == f"{path}: {fact}{remedy}"
