"""Writes a model as one protobuf file while its large initializers stream from elsewhere.

`SerializeToString` needs the whole model in memory twice. This walks the three messages that enclose a weight
(ModelProto.graph, GraphProto.initializer, TensorProto.raw_data), writes their lengths ahead of them, and copies the
weight from its file. The bytes are those that `SerializeToString(deterministic=True)` would give (a test compares).
Only what this onnx knows is copied from message to message; `require_known` refuses a model that holds more.
Wire format: https://protobuf.dev/programming-guides/encoding (a length-delimited field is its tag, size and bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

LENGTH_DELIMITED = 2
LIMIT = 2**31 - 1  # protobuf parsers refuse a larger message

Piece = bytes | Callable[[], Iterable[bytes]]  # bytes, or bytes to be fetched when their turn comes
Streamed = Callable[["TensorProto"], tuple[int, Callable[[], Iterable[bytes]]] | None]


def require_known(model: ModelProto) -> None:
    """Raise StageError where the model holds protobuf fields, or values of enums, that this onnx does not know.

    They would come through a plain copy and through nothing else: passes rebuild messages field by field, and no checker
    here looks at them. So what was compared and what is published could mean different things to a later runtime.
    """
    known = type(model)()
    known.CopyFrom(model)
    known.DiscardUnknownFields()
    if known.ByteSize() == model.ByteSize():
        return
    import onnx

    (place, number), version = next(_unknown(model, "")), onnx.__version__
    raise StageError(
        f"{place or 'the model'} holds protobuf field {number}, or a value of it, that onnx {version} does not know",
        "it is of a later ONNX: install a newer onnx, or write the model for an older one",
    )


def _unknown(message: Any, place: str) -> Iterator[tuple[str, int]]:
    """Where a message holds what its type does not have: "graph.node[3].attribute[0]", and the field's number."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    yield from ((place, field.field_number) for field in UnknownFieldSet(message))
    for field, value in message.ListFields():
        here = f"{place}.{field.name}" if place else field.name
        if field.message_type is not None and field.is_repeated:
            for index, one in enumerate(value):
                yield from _unknown(one, f"{here}[{index}]")
        elif field.message_type is not None:
            yield from _unknown(value, here)


def model_pieces(model: ModelProto, streamed: Streamed) -> tuple[int, list[Piece]]:
    """The size of the model's file, and the pieces that make it up, in order.

    `streamed` says for an initializer of the main graph how many raw bytes it has and how to fetch them, or None where
    it is to be written as it is. `model` is left unchanged.
    """
    initializers: list[tuple[int, list[Piece]]] = []
    for tensor in model.graph.initializer:
        source = streamed(tensor)
        initializers.append(_whole(tensor) if source is None else _tensor_pieces(tensor, *source))
    graph = _around(model.graph, "initializer", initializers)
    return _around(model, "graph", [graph])


def written(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The bytes of the pieces, each fetched when it is needed."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece()


def _tensor_pieces(tensor: TensorProto, size: int, fetch: Callable[[], Iterable[bytes]]) -> tuple[int, list[Piece]]:
    bare = type(tensor)()
    bare.CopyFrom(tensor)
    for field in ("raw_data", "data_location", "external_data"):
        bare.ClearField(field)
    return _around(bare, "raw_data", [(size, [fetch])])


def _whole(message: Any) -> tuple[int, list[Piece]]:
    data = message.SerializeToString(deterministic=True)
    return len(data), [data]


def _around(message: Any, field: str, values: list[tuple[int, list[Piece]]]) -> tuple[int, list[Piece]]:
    """The message with `values` for its field, each a size and pieces, in place of what the field holds."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    head = _fields(message, lambda n: n < number)
    tail = _fields(message, lambda n: n > number)
    pieces: list[Piece] = [head]
    total = len(head) + len(tail)
    for size, inner in values:
        prefix = varint(number << 3 | LENGTH_DELIMITED) + varint(size)
        pieces += [prefix, *inner]
        total += len(prefix) + size
    pieces.append(tail)
    return total, pieces


def _fields(message: Any, keep: Callable[[int], bool]) -> bytes:
    """The serialised fields whose number passes. Copies only those, since the rest may be large."""
    part = type(message)()
    for descriptor, value in message.ListFields():
        if not keep(descriptor.number):
            continue
        if descriptor.is_repeated:
            getattr(part, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(part, descriptor.name).CopyFrom(value)
        else:
            setattr(part, descriptor.name, value)
    data: bytes = part.SerializeToString(deterministic=True)
    return data


def varint(value: int) -> bytes:
    """Protobuf's variable-length integer: seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
