"""The external data that an .onnx file names, read from its bytes alone: held against onnx's own reading."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxbuild.graphs import external


def outside(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def body(nodes, initializers=(), sparse=()):
    return helper.make_graph(nodes, "g", [], [], initializers, sparse_initializer=sparse)


def constant(location: str):
    return helper.make_node("Constant", [], ["c"], value=outside("c", location))


def test_every_place_that_holds_a_tensor_is_looked_at():
    inner = body([constant("subgraph.data")])
    sparse = helper.make_sparse_tensor(outside("v", "values.data"), outside("i", "indices.data"), [4])
    nodes = [
        constant("node.data"),
        helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=body([constant("else.data")])),
        helper.make_node(
            "Many", [], ["m"], tensors=[outside("t", "list.data")], graphs=[body([constant("graphs.data")])]
        ),
        helper.make_node("Sparse", [], ["s"], value=sparse, values=[sparse]),
        helper.make_node("Identity", ["location"], ["not a file"]),
    ]
    model = helper.make_model(body(nodes, [outside("w", "weight.data"), outside("w2", "weight.data")], [sparse]))
    function = helper.make_function("d", "f", [], ["c"], [constant("function.data")], [helper.make_opsetid("", 18)])
    model.functions.append(function)
    model.training_info.add().initialization.CopyFrom(body([constant("training.data")]))
    helper.set_model_props(model, {"location": "metadata"})

    assert found(model) == sorted(
        f"{name}.data"
        for name in (
            "node subgraph else list graphs weight values indices function training".split()  # noqa: SIM905  # short
        )
    )


def found(model, tmp_path=None, data=None):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        path.write_bytes(model.SerializeToString() if data is None else data)
        return external.locations(path)


def test_weights_that_hold_the_word_are_stepped_over():
    weight = numpy_helper.from_array(np.frombuffer(b"\x6a\x10\x0a\x08location\x12\x04evil" * 2, np.uint8), "w")

    assert found(helper.make_model(body([], [weight]))) == []


@pytest.mark.parametrize("data", [b"", b"\xff", b"not a model", b"\x3a\xff\xff\xff\x7f"])
def test_what_is_no_model_names_nothing(data):
    assert found(None, data=data) == []


def test_a_damaged_file_gives_what_comes_before_the_damage():
    whole = helper.make_model(body([], [outside("w", "a.data")])).SerializeToString()

    assert found(None, data=whole + b"\x3a\x7f") == ["a.data"]
