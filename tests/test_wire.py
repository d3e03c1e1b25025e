"""The streaming writer: protobuf's own bytes, its limits known before anything is written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from onnxbuild import wire


@given(st.integers(0, 2**63))
def test_varint_is_protobufs(value):
    # field 1 of ModelProto (ir_version) is a varint behind the tag 0x08
    message = ModelProto()
    if value < 2**63:
        message.ir_version = value
        assert message.SerializeToString() == b"\x08" + wire.varint(value)


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

    size, pieces = wire.model_pieces(model, streamed)
    written = b"".join(wire.written(pieces))

    assert written == model.SerializeToString(deterministic=True)
    assert size == len(written)
