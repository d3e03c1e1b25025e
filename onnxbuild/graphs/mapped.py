"""Reads a model without its weights: large initializers stay in the file, as external data that lies in the model itself.

So a model of gigabytes opens in milliseconds, and its tensors are read in pieces, like those of any other external file
(`tensors.chunks`). Walks ModelProto.graph, GraphProto.initializer and TensorProto.raw_data in protobuf's wire format and
copies everything else as it is. Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import usage
from onnxbuild.graphs import modelfile, protobuf, wire
from onnxbuild.system import files

if TYPE_CHECKING:
    from onnx import ModelProto

LEFT_FROM = 4096  # bytes; a smaller weight is worth no look into the file of its own
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


def read(path: Path) -> ModelProto:
    """The model, its large weights as external data: of the files that it names, or of `path` itself.

    Raises UserError where it can't be read, or is no ONNX model.
    """
    from google.protobuf.message import DecodeError

    try:
        model = _read(path)
    except files.IrregularError as error:
        raise usage(f"{path}: {error.strerror}", modelfile.GIVE) from None
    except OSError as error:
        raise usage(f"{path}: {error.strerror}") from None
    except (DecodeError, wire.DamagedError):
        raise usage(f"{path}: not an ONNX model", modelfile.GIVE) from None
    if not _is_text(model):
        raise usage(f"{path}: a name in it is no UTF-8", "write the model again with a tool that writes valid names")
    if not model.HasField("graph"):
        raise usage(f"{path}: not an ONNX model", modelfile.GIVE)
    return model


def _is_text(message: Any) -> bool:
    """Whether all texts of a message are UTF-8: protobuf gives others as bytes, and no library of ONNX takes them."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            ok = not any(isinstance(one, bytes) for one in (value if field.is_repeated else (value,)))
        elif field.message_type is not None:
            ok = all(map(_is_text, value if field.is_repeated else (value,)))
        else:
            ok = True
        if not ok:
            return False
    return True


def _read(path: Path) -> ModelProto:
    from onnx import ModelProto

    if ":" in path.name or "\\" in path.name:  # no name for external data
        with files.opened(path):
            return modelfile.load(path)
    with files.opened(path) as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # empty
            raise wire.DamagedError from None
        with data:
            pieces = b"".join(_model(data, path.name))
    return ModelProto.FromString(pieces)


def _model(data: mmap.mmap, name: str) -> Iterator[bytes]:
    for number, _, start, begin, end in wire.fields(data, 0, len(data)):
        if number == _GRAPH:
            graph = b"".join(_graph(data, begin, end, name))
            yield from (_head(_GRAPH, len(graph)), graph)
        else:
            yield data[start:end]


def _graph(data: mmap.mmap, at: int, stop: int, name: str) -> Iterator[bytes]:
    for number, _, start, begin, end in wire.fields(data, at, stop):
        if number == _INITIALIZER and end - begin >= LEFT_FROM:
            yield _tensor(data, begin, end, name)
        else:
            yield data[start:end]


def _tensor(data: mmap.mmap, at: int, stop: int, name: str) -> bytes:
    """An initializer as a field of its graph, its raw data left where it is."""
    from onnx import TensorProto

    kept, raw = [], None
    for number, _, start, begin, end in wire.fields(data, at, stop):
        if number == _RAW_DATA and end - begin >= LEFT_FROM:
            raw = begin, end - begin
        else:
            kept.append(data[start:end])
    if raw is not None:
        where = TensorProto(data_location=TensorProto.EXTERNAL)
        for key, value in (("location", name), ("offset", raw[0]), ("length", raw[1])):
            where.external_data.add(key=key, value=str(value))
        kept.append(where.SerializeToString())
    tensor = b"".join(kept)
    return _head(_INITIALIZER, len(tensor)) + tensor


def _head(number: int, size: int) -> bytes:
    return protobuf.varint(number << 3 | protobuf.LENGTH_DELIMITED) + protobuf.varint(size)
