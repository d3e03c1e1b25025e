from __future__ import annotations

import pytest

from onnxbuild.contracts import Inspection, Interface, Value
from onnxbuild.recipe import filling, writing


def filled(values, outputs=(), export=None, exporters=None, **more):
    interface = Interface([Value(*one) for one in values], [Value(*one) for one in outputs], **more)
    data = {} if export is None else {"export": export}
    return filling.complete(data, interface, exporters or {})["export"]


def test_names_of_axes():
    export = filled([("x", "float32", [None, 3, None, "unk__7"]), ("ids", "int64", ["N+1", "seq"])])
    assert export["dynamic_axes"] == {
        "x": {"0": "batch", "2": "x_2", "3": "unk__7"},
        "ids": {"0": "ids_0", "1": "seq"},
    }
    assert export["inputs"]["x"]["shape"] == [2, 3, 3, 5]
    assert export["inputs"]["ids"]["shape"] == [7, 11]


def test_outputs_follow_inputs():
    export = filled(
        [("past", "float32", ["batch", "past"]), ("ids", "int64", ["batch", "seq"])],
        [("a", "float32", ["batch", "past + seq"]), ("b", "float32", [None, "seq//2"]), ("c", "float32", ["who", 4])],
    )
    assert export["dynamic_axes"]["a"] == {"0": "batch", "1": "past_seq"}
    assert export["dynamic_axes"]["b"] == {"0": "batch", "1": "seq_2"}
    assert "c" not in export["dynamic_axes"]
    assert export["dims"] == {"past_seq": "past + seq", "seq_2": "seq//2"}


def test_ranges_and_relations():
    export = filled(
        [("past", "float32", [1, "past"]), ("ids", "int64", [1, "seq"]), ("mask", "int64", [1, "total"])],
        dims={"past": {"min": 0, "max": 8}, "total": "past + seq", "unused": {"max": 2}},
        sizes={"past": 4},
    )
    assert export["dims"] == {"past": {"min": 0, "max": 8}, "total": "past + seq"}
    assert [spec["shape"][1] for spec in export["inputs"].values()] == [4, 2, 6]


@pytest.mark.parametrize(
    ("dim", "size"), [({}, 2), ({"min": 30}, 30), ({"min": 30, "multiple_of": 16}, 32), ({"max": 1}, 1)]
)
def test_sizes_in_range(dim, size):
    assert filled([("x", "bool", ["n"])], export={"dims": {"n": dim}})["inputs"]["x"]["shape"] == [size]


def test_what_is_written_stays():
    export = filled(
        [("x", "float32", ["n", 3]), ("z", "float32", ["n", "m"])],
        [("y", "float32", ["n"])],
        {"inputs": {"x": {"shape": [4, 3], "data": {"constant": 1}}}, "dynamic_axes": {"y": {}}, "opset": 20},
        opset=17,
    )
    assert export["opset"] == 20
    assert export["inputs"] == {
        "x": {"dtype": "float32", "shape": [4, 3], "data": {"constant": 1}},
        "z": {"dtype": "float32", "shape": [4, 3]},
    }
    assert "y" not in export["dynamic_axes"]


def test_order_is_the_recipes_where_it_names_all():
    export = filled([("a", "bool", []), ("b", "bool", [])], export={"inputs": {"b": {}, "a": {}}})
    assert [*export["inputs"]] == ["b", "a"]


def test_the_sources_own_exporter():
    export = filled([("x", "bool", [])], exporters={"tf2onnx": (7, 15), "other": (1, 20)})
    assert (export["exporter"], export["opset"]) == ("tf2onnx", 15)
    export = filled([("x", "bool", [])], export={"exporter": "other"}, exporters={"tf2onnx": (7, 15), "other": (1, 20)})
    assert (export["exporter"], export["opset"]) == ("other", 18)


def test_an_input_of_no_known_shape():
    assert filled([("x", "float32", None)])["inputs"]["x"] == {"dtype": "float32"}


def test_an_output_axis_that_was_seen_to_vary_is_dynamic_under_a_name_of_its_own():
    inputs = [Value("x", "float32", ["batch", 3])]
    outputs = [Value("y", "float32", ["batch", "y_1", "2*batch", 4])]
    inspection = Inspection(Interface(inputs, outputs, 0, {"batch": {"min": 1, "max": 8}}, {"batch": 2}))
    export = writing.export_of(inspection, {})
    assert export["dynamic_axes"]["y"] == {"0": "batch", "1": "y_1", "2": "n2_batch"}
    assert export["dims"] == {"batch": {"min": 1, "max": 8}, "n2_batch": "2*batch"}


def test_what_is_left_untold():
    interface = Interface([Value("x", "float32", None)], [Value("y", "float32")])
    whole = filling.complete({"export": {"inputs": {"x": {}, "xx": {}}}}, interface, {})
    assert [(one.path, one.fact, one.hint[:13]) for one in filling.untold(whole, interface)] == [
        (("export", "inputs", "x"), "the key 'shape' is missing, and the model does not tell it", "add 'shape': "),
        (("export", "inputs", "xx"), "the model has no input 'xx'", "did you mean "),
    ]
