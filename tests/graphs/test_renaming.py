"""Names that depend on the graph alone, in subgraphs too; what is computed stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import parser

from onnxbuild.graphs import interface, renaming

TEXT = """\
<ir_version: 8, opset_import: ["": 17]>
g (float[N] x, bool {prefix}c) => (float[N] y) <float[1] {prefix}w = {{2.0}}, float[1] unused = {{1.0}}> {{
    [{prefix}node] {prefix}a = Mul(x, {prefix}w)
    y = If({prefix}c) <
        then_branch = t () => (float[N] {prefix}o) {{ {prefix}i = Neg({prefix}a) {prefix}o = Add({prefix}i, {prefix}w) }},
        else_branch = e () => (float[N] {prefix}o) {{ {prefix}o = Identity({prefix}a) }}
    >
}}
"""


def numbered(prefix):
    model = parser.parse_model(TEXT.format(prefix=prefix))
    renaming.rename(model, {f"{prefix}c": "flag"})
    renaming.number(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, flag):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([1, 2], np.float32), "flag": np.array(flag)})[0]


def test_equal_graphs_get_equal_names():
    one, other = numbered("p"), numbered("q_")
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert [value["name"] for value in interface.signature(one)["inputs"]] == ["x", "flag"]
    assert list(run(one, True)) == [0, -2]
    assert list(run(one, False)) == [2, 4]


def test_a_name_that_is_taken_is_not_given():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { a = Neg(x) y = Neg(a) }'
    )
    renaming.number(model, ["Neg_0"])
    assert model.graph.node[0].output[0] == "Neg_1"


def test_a_name_of_a_subgraphs_own_is_another_value():
    model = parser.parse_model(TEXT.format(prefix=""))
    renaming.rename(model, {"a": "b"})
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.node[0].output[0] == "b"
    assert model.graph.node[1].attribute[1].g.node[0].input[0] == "b"
