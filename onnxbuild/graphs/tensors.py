"""The tensors of an ONNX model, wherever they are held: all of them in order, their sizes, and their bytes.

A tensor's bytes are ONNX's raw form: little-endian, packed where an element is smaller than a byte. They may be in the
message (`raw_data` or a typed field such as `float_data`) or in a file beside the model (external data). Knows nothing
of stores and digests. Bytes in files are read in chunks, so that a caller needs no memory for a whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from onnxbuild.errors import StageError
from onnxbuild.system.files import CHUNK

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


class Region(NamedTuple):
    """Bytes of a file: `length` of them from `offset` on."""

    path: Path
    offset: int
    length: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes, at most `objects.CHUNK` at a time."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            left = self.length
            while left:
                chunk = file.read(min(left, CHUNK))
                if not chunk:
                    raise StageError(f"{self.path.name} ended {left} bytes early while it was being read")
                left -= len(chunk)
                yield chunk


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """The main graph, those of `training_info`, and every subgraph of a node, in the order of the file."""
    for graph in (model.graph, *(g for t in model.training_info for g in (t.initialization, t.algorithm))):
        yield graph
        yield from _subgraphs(graph.node)
    for function in model.functions:
        yield from _subgraphs(function.node)


def _subgraphs(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for graph in graphs_of(attribute):
                yield graph
                yield from _subgraphs(graph.node)


def graphs_of(attribute: AttributeProto) -> list[GraphProto]:
    """The subgraphs that an attribute holds."""
    return ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)


def within(node: NodeProto) -> list[GraphProto]:
    """The subgraphs of a node: the branches of an If, the body of a Loop."""
    return [graph for attribute in node.attribute for graph in graphs_of(attribute)]


def bodies(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """Everything that holds nodes."""
    yield from graphs(model)
    yield from model.functions


def large_candidates(model: ModelProto) -> Iterator[TensorProto]:
    """The tensors that tools accept as external data: initializers, and the `value` of a Constant node, at any depth.

    Checked with onnx 1.23.2, onnxruntime 1.31.1, onnxsim 0.8.1 and onnx-ir 1.1.0, in subgraphs and functions too.
    """
    for body in bodies(model):
        yield from getattr(body, "initializer", ())
        for node in body.node:
            if node.op_type == "Constant" and is_standard(node.domain):
                yield from (a.t for a in node.attribute if a.name == "value" and a.HasField("t"))


def other_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """The tensors that kernels read as an attribute, and the parts of sparse ones: always kept in the message."""
    for body in bodies(model):
        for sparse in getattr(body, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in body.node:
            constant = node.op_type == "Constant" and is_standard(node.domain)
            for attribute in node.attribute:
                if attribute.HasField("t") and not (constant and attribute.name == "value"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (
                    *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                    *attribute.sparse_tensors,
                ):
                    yield from (sparse.values, sparse.indices)


def is_standard(domain: str) -> bool:
    """Whether a domain is ONNX's own; tools write it in two ways."""
    return domain in ("", "ai.onnx")


def is_external(tensor: TensorProto) -> bool:
    """Whether a tensor's data lies in another file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def location(tensor: TensorProto) -> str:
    """Where an external tensor says its bytes are, relative to the model's folder."""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def is_string(tensor: TensorProto) -> bool:
    """Whether a tensor holds strings, which are never external."""
    return bool(tensor.data_type == tensor.STRING)


def elements(tensor: TensorProto) -> int:
    """The number of elements; 1 for a scalar."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def nbytes(tensor: TensorProto) -> int:
    """The size of the tensor's raw bytes, from its type and shape. Strings have none.

    Raises StageError for an element type that this onnx does not know.
    """
    from onnx import TensorProto as T
    from onnx.helper import tensor_dtype_to_np_dtype

    packed = {T.UINT4: 4, T.INT4: 4, T.FLOAT4E2M1: 4, T.UINT2: 2, T.INT2: 2}
    bits = packed.get(tensor.data_type)
    if bits is None:
        try:
            bits = 8 * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except KeyError:
            raise StageError(f"tensor '{tensor.name}' has an unknown element type ({tensor.data_type})") from None
    return (elements(tensor) * bits + 7) // 8


def region(tensor: TensorProto, folder: Path | None) -> Region:
    """Where an external tensor's bytes are, `folder` being the model's.

    Raises StageError where the file is missing, too short or outside the folder, or disagrees with the tensor's shape.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = location(tensor)
    name = f"external data '{place}' of tensor '{tensor.name}'"
    if folder is None:
        raise StageError(f"{name}: the model was not read from a file, so there is no folder to look in")
    pure = PurePosixPath(place.replace("\\", "/"))
    if not place or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise StageError(f"{name} lies outside the model's folder", "Put the file beside the model, named relatively.")
    path = folder / pure
    size = nbytes(tensor)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        available = path.stat().st_size - offset
    except ValueError:
        raise StageError(f"{name}: offset or length is not a number") from None
    except OSError as error:
        hint = f"The file belongs beside the model, in {folder}."
        raise StageError(f"{name} can't be read: {error.strerror}", hint) from None
    if length != size:
        raise StageError(f"{name} has {length} bytes where type and shape {list(tensor.dims)} need {size}")
    if offset < 0 or available < size:
        raise StageError(f"{name} is cut short: {max(available, 0)} bytes from offset {offset} on, {size} needed")
    return Region(path, offset, size)


def inline_bytes(tensor: TensorProto) -> bytes:
    """The raw bytes of a tensor whose data is in the message; typed fields are converted."""
    from onnx import numpy_helper

    data: bytes
    size = nbytes(tensor)  # first: it refuses a type that is not known
    if tensor.HasField("raw_data"):
        data = tensor.raw_data
    elif any(len(getattr(tensor, field)) for field in TYPED_FIELDS):
        try:
            data = numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
        except ValueError as error:  # its values are in the field of another type
            raise StageError(f"tensor '{tensor.name}' can't be read: {error}") from None
    else:
        data = b""
    if len(data) != size:
        raise StageError(
            f"tensor '{tensor.name}' has {len(data)} bytes where type and shape {list(tensor.dims)} need {size}"
        )
    return data


def chunks(tensor: TensorProto, folder: Path | None) -> Iterator[bytes]:
    """The raw bytes of any tensor but a string one, piece by piece."""
    if is_external(tensor):
        yield from region(tensor, folder).chunks()
    else:
        yield inline_bytes(tensor)


def set_inline(tensor: TensorProto, data: bytes) -> None:
    """Hold the tensor's bytes in the message, in the one form that equal tensors share."""
    _clear(tensor)
    tensor.raw_data = data


def set_external(tensor: TensorProto, location: str, offset: int | None = None) -> None:
    """Point the tensor at bytes in a file beside the model."""
    size = nbytes(tensor)
    _clear(tensor)
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", size)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def _clear(tensor: TensorProto) -> None:
    for field in ("raw_data", "data_location", "external_data", *TYPED_FIELDS):
        tensor.ClearField(field)
