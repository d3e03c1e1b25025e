"""The rule by which nodes of a later graph are traced back to exported ones."""

from __future__ import annotations

import onnx
import pytest

from onnxbuild.graphs import lines
from onnxbuild.graphs.lines import LineMap, Lines, Noted

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
EXPORTED = "g (float[N, 4] x) => (float[N, 4] y) { a = Exp(x)\n b = Sin(a)\n c = Abs(b)\n y = Add(c, x) }"
OPS = {"a": "Exp", "b": "Sin", "c": "Abs", "y": "Add"}
NOTED = [Noted(op, [name], "m", f"net.py:{line}") for line, (name, op) in enumerate(OPS.items(), 1)]


def graph(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + text)


def traced(*later: str) -> dict[str, list[str]]:
    """The operators that each node of the last graph stands for, by the value it makes."""
    chain = [graph(EXPORTED), *map(graph, later)]
    known = Lines(LineMap("dynamo", NOTED), chain)
    return {node.output[0]: [one.op for one in known.of(node)] for node in chain[-1].graph.node}


def test_nodes_that_were_merged_are_told_where_what_goes_in_is_known():
    body = "g (float[N, 4] x) => (float[N, 4] y) { c = Relu(x)\n y = Add(c, x) }"
    assert traced(body) == {"c": ["Abs", "Sin", "Exp"], "y": ["Add"]}


def test_of_a_node_that_takes_what_has_another_name_the_maker_alone_is_told():
    body = "g (float[N, 4] x) => (float[N, 4] y) { new = Exp(x)\n c = Relu(new)\n y = Add(c, x) }"
    assert traced(body) == {"new": [], "c": ["Abs"], "y": ["Add"]}


def test_a_name_that_went_and_came_back_is_another_value():
    gone = "g (float[N, 4] x) => (float[N, 4] y) { y = Exp(x) }"
    back = "g (float[N, 4] x) => (float[N, 4] y) { a = Cos(x)\n y = Neg(a) }"
    found = traced(gone, back)
    assert found["a"] == []
    assert found["y"] == ["Add"], "its inputs are not the exported ones: what lies between is not known"


def test_a_name_that_two_subgraphs_have_is_not_gone_by():
    text = """g (bool c, float[N] x) => (float[N] y) {
        y = If (c) <then_branch = t () => (float[N] same) { same = Exp(x) },
                    else_branch = e () => (float[N] same) { same = Sin(x) }>
    }"""
    model = graph(text)
    known = Lines(LineMap("dynamo", [Noted("Exp", ["same"], "m", "net.py:1")]), [model])
    assert known.of(model.graph.node[0].attribute[0].g.node[0]) == []


@pytest.mark.parametrize("op", ["Abs", "Sin"])
def test_of_several_the_one_that_does_what_the_node_does_is_shown(op):
    chain = [graph(EXPORTED), graph(f"g (float[N, 4] x) => (float[N, 4] y) {{ c = {op}(x)\n y = Add(c, x) }}")]
    assert Lines(LineMap("dynamo", NOTED), chain).best(chain[1].graph.node[0]).op == op


@pytest.mark.parametrize(
    ("noted", "scope"),
    [
        ("['', 'model', 'model.head', 'linear']", "model.head"),
        ("['_empty_nn_module_stack_from_metadata_hook', 'sym_size_int']", ""),  # what torch has for sizes
        ("['", ""),
        ("3", ""),
    ],
)
def test_the_scope_is_that_of_the_innermost_module(noted, scope):
    node = onnx.helper.make_node("Exp", ["x"], ["y"], name="/not/this")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=noted)
    assert lines.scope(node) == scope


def test_the_scope_is_in_the_name_where_nothing_is_noted():
    assert lines.scope(onnx.helper.make_node("Exp", ["x"], ["y"], name="/layers/act/Exp")) == "layers/act"
    assert lines.scope(onnx.helper.make_node("Exp", ["x"], ["y"], name="Exp_1")) == ""
