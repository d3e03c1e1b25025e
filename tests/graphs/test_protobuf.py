"""The streaming writer: protobuf's own bytes, its limits known before anything is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from onnxbuild.errors import StageError
from onnxbuild.graphs import protobuf


@given(st.integers(0, 2**63))
def test_varint_is_protobufs(value):
    # field 1 of ModelProto (ir_version) is a varint behind the tag 0x08
    message = ModelProto()
    if value < 2**63:
        message.ir_version = value
        assert message.SerializeToString() == b"\x08" + protobuf.varint(value)


@given(
    st.lists(st.tuples(st.text("abc", max_size=3), st.binary(max_size=300), st.booleans()), max_size=5),
    st.booleans(),
)
def test_pieces_make_the_bytes_that_protobuf_makes(weights, metadata):
    initializers = [
        TensorProto(name=name, data_type=TensorProto.UINT8, dims=[len(data)], raw_data=data)
        for name, data, _ in weights
    ]
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [], initializers))
    model.producer_name = "test"
    if metadata:
        model.metadata_props.add(key="a", value="b")
        model.functions.add().name = "f"
        model.graph.metadata_props.add(key="c", value="d")
    stream = {index: streamed for index, (_, _, streamed) in enumerate(weights)}
    order = iter(range(len(weights)))

    def streamed(tensor):
        data = tensor.raw_data
        return (len(data), lambda: [data[:7], data[7:]]) if stream[next(order)] else None

    size, pieces = protobuf.model_pieces(model, streamed)
    written = b"".join(protobuf.written(pieces))

    assert written == model.SerializeToString(deterministic=True)
    assert size == len(written)


LATER = protobuf.varint(900 << 3 | protobuf.LENGTH_DELIMITED) + b"\x03abc"


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (lambda model: model, "the model"),
        (lambda model: model.graph, "graph"),
        (lambda model: model.graph.node[0].attribute[0], "graph.node[0].attribute[0]"),
        (lambda model: model.graph.initializer[0], "graph.initializer[0]"),
        (
            lambda model: model.graph.input[0].type.tensor_type.shape.dim[0],
            "graph.input[0].type.tensor_type.shape.dim[0]",
        ),
        (lambda model: model.functions[0].node[0], "functions[0].node[0]"),
    ],
)
def test_what_a_later_onnx_wrote_is_refused_wherever_it_is(part, place):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    node = helper.make_node("Elu", ["x"], ["y"], alpha=2.0)
    function = helper.make_function("a", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]), functions=[function])
    protobuf.require_known(model)
    part(model).MergeFromString(LATER)
    with pytest.raises(StageError) as caught:
        protobuf.require_known(model)
    assert caught.value.fact.startswith(f"{place} holds protobuf field 900, ")


def test_a_value_that_an_enum_did_not_have_is_refused():
    model = helper.make_model(helper.make_graph([helper.make_node("Elu", ["x"], ["y"], alpha=2.0)], "g", [], []))
    attribute = model.graph.node[0].attribute[0]
    attribute.ClearField("type")
    attribute.MergeFromString(protobuf.varint(20 << 3) + b"\x63")  # AttributeProto.type = 99
    with pytest.raises(StageError, match=r"graph\.node\[0\]\.attribute\[0\] holds protobuf field 20"):
        protobuf.require_known(model)
