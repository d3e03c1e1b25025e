from __future__ import annotations

import onnx.parser
import pytest

from onnxbuild.graphs import interface
from onnxbuild.sources import naming


def parse(body: str, opsets: str = '"" : 18'):
    return onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{opsets}]>\n{body}")


def shapes(model):
    found = interface.signature(model)
    return {value["name"]: value["shape"] for value in (*found["inputs"], *found["outputs"])}


def test_the_prefix_goes_everywhere_but_where_the_name_is_taken():
    model = parse("""
        main (float[2] x, bool c) => (float[2] y)
        <float[2] "model.w" = {1, 2}, float[2] "model.x" = {1, 2}, float[2] other = {1, 2}>
        {
            a = Add(x, "model.x")
            y = If (c) <
                then_branch = t () => (float[2] p) { p = Add(a, "model.w") },
                else_branch = e () => (float[2] q) { q = Mul(a, other) }>
        }""")

    naming.strip_prefix(model)

    assert [tensor.name for tensor in model.graph.initializer] == ["w", "model.x", "other"]
    assert list(model.graph.node[0].input) == ["x", "model.x"]
    branches = {attribute.name: attribute.g for attribute in model.graph.node[1].attribute}
    assert list(branches["then_branch"].node[0].input) == ["a", "w"]
    onnx.checker.check_model(model, full_check=True)


def test_symbolic_axes_get_the_declared_names_and_static_ones_stay():
    model = parse("main (float[s0, 2, s1] x) => (float[s0, 2, s1] y) { y = Relu(x) }")

    naming.name_axes(model, {"x": {"0": "batch", "1": "two", "2": "length"}, "y": {"0": "batch", "1": "two"}})

    assert shapes(model) == {"x": ["batch", 2, "length"], "y": ["batch", 2, "length"]}


def test_an_undeclared_axis_gets_its_size_where_inference_finds_it():
    model = parse("main (float[s0, 2] x) => (float[s0, u1] y, float[u2] z) { y = Relu(x)  z = NonZero(x) }")
    model.graph.node[1].op_type = "Unique"

    naming.name_axes(model, {"x": {"0": "n"}, "y": {"0": "n"}})

    assert shapes(model) == {"x": ["n", 2], "y": ["n", 2], "z": ["u2"]}


def test_a_size_noted_against_the_graph_is_put_right_and_said():
    model = parse("main (float[s, 2] x) => (float[5, 2] y) { y = Relu(x) }")

    notes = naming.name_axes(model, {"x": {"0": "length"}, "y": {"0": "length"}})

    assert shapes(model)["y"] == ["length", 2]
    assert notes == ["y: the exporter noted the size 5 for axis 0, which is 'length'"]


def test_a_size_that_the_graph_really_has_stays():
    model = parse("""main (float[s, 2] x) => (float[5, 2] y) <int64[2] shape = {5, 2}> { y = Reshape(x, shape) }""")

    naming.name_axes(model, {"x": {"0": "length"}, "y": {"0": "length"}})

    assert shapes(model)["y"] == [5, 2]


def test_an_axis_that_is_another_dimension_than_declared_is_noted():
    model = parse("main (float[a, b] x) => (float[b, a] y) { y = Transpose(x) }")

    notes = naming.name_axes(model, {"x": {"0": "rows", "1": "columns"}, "y": {"0": "rows", "1": "columns"}})

    assert notes[0] == "y: axis 0 is declared 'rows'; in the exported graph it is 'columns'"
    assert len(notes) == 2


@pytest.mark.parametrize("noted", ["float[n, 4]", "float[n, u]"])
def test_notes_behind_an_unknown_operator_are_believed(noted):
    opsets = '"" : 18, "com.acme" : 1'
    model = parse(
        f"main (float[n, 4] x) => (float[n, u9] y) <{noted} h> {{ h = com.acme.Any(x)  y = Relu(h) }}", opsets
    )

    naming.name_axes(model, {"x": {"0": "n"}, "y": {"0": "n"}})

    assert shapes(model)["y"] == ["n", 4 if "4" in noted else "u9"]
