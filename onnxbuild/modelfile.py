"""Reads and writes ONNX models deterministically, in and out of the store's form.

In the store's form a graph is one small file whose large tensors are external data named by their SHA-256, relative to
the objects folder; equal models have equal bytes. Knows nothing of stages, keys or recipes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from onnxbuild import objects as store
from onnxbuild import tensors, wire

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

INLINE_BELOW = 1024  # bytes; smaller tensors stay in the graph
PAGE_ALIGN_FROM = 1 << 20  # bytes; such tensors start on a page, so that a runtime can map them
PAGE = 64 << 10  # the mapping granularity of Windows, and a multiple of everyone else's
WRITERS = 4  # threads that hash and write tensors: both leave Python's lock, and fsync waits for the disk
ALIGN = 64  # bytes; a cache line, the alignment of all other tensors

# What an exporter or optimizer notes about its own work: Python stack traces, class names, rules that fired. It changes
# with a comment in the model's file or an option that changed nothing, and no runtime reads it. (onnxsim.range* is the
# user's.)
TOOL_NOTES = r"pkg\.|namespace$|onnxsim\.(?!range)"
# Three steps deep, or below a folder where people's files are: "/m/0k4j", say, is a class of Open Images.
ABSOLUTE_PATH = (
    r"""(?:^|[\s"'=(,\[])(?:(?:/[\w.~+@-]+){3}|/(?:home|root|Users|private|tmp|var|opt|usr|mnt)/\w)"""
    r"""|\b[A-Za-z]:[\\/]\w|file://"""
)


def normalise(model: ModelProto) -> None:
    """Bring a model, in place, into the one form that equal models share.

    Dropped: doc strings, inferred `value_info`, tools' notes, and metadata that holds absolute paths. Sorted:
    initializers, functions, operator set imports, attributes and metadata. Tensors whose data is in the message are
    held as raw bytes. What a runtime computes stays as it was; doing it again changes nothing.
    """
    model.ClearField("doc_string")
    _clean_metadata(model)
    _sort(model.functions, key=lambda f: (f.domain, f.name, f.overload))
    for holder in (model, *model.functions):
        for entry in holder.opset_import:
            entry.domain = entry.domain  # always present, as protobuf would keep two forms of ""
        _sort(holder.opset_import, key=lambda entry: entry.domain)
    for body in tensors.bodies(model):
        _normalise_body(body)
    for training in model.training_info:
        for bindings in (training.initialization_binding, training.update_binding):
            _sort(bindings, key=lambda entry: entry.key)
    for tensor in (*tensors.large_candidates(model), *tensors.other_tensors(model)):
        tensor.ClearField("doc_string")
        _clean_metadata(tensor)
        if not tensors.is_external(tensor) and not tensors.is_string(tensor):
            _hold_raw(tensor)


def _normalise_body(body: Any) -> None:
    body.ClearField("doc_string")
    body.ClearField("value_info")
    _clean_metadata(body)
    for value in (*body.input, *body.output):
        if not isinstance(value, str):  # a function's are names
            _clean_value(value)
    _sort(getattr(body, "initializer", None), key=lambda tensor: tensor.name)
    _sort(getattr(body, "sparse_initializer", None), key=lambda sparse: sparse.values.name)
    for attribute in getattr(body, "attribute_proto", ()):
        attribute.ClearField("doc_string")
    for node in body.node:
        node.ClearField("doc_string")
        for field in ("name", "domain", "overload"):
            if not getattr(node, field):  # present but empty means the same as absent
                node.ClearField(field)
        _clean_metadata(node)
        _sort(node.attribute, key=lambda attribute: attribute.name)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")


def _clean_value(value: ValueInfoProto) -> None:
    value.ClearField("doc_string")
    _clean_metadata(value)


def _clean_metadata(message: Any) -> None:
    kept = sorted(
        (entry.key, entry.value)
        for entry in message.metadata_props
        if not re.match(TOOL_NOTES, entry.key) and not re.search(ABSOLUTE_PATH, entry.value)
    )
    if [(entry.key, entry.value) for entry in message.metadata_props] != kept:
        message.ClearField("metadata_props")
        for key, value in kept:
            message.metadata_props.add(key=key, value=value)


def _sort(field: Any, key: Callable[[Any], Any]) -> None:
    # in place: sorting a copy would hold every tensor of an unsorted model twice
    if field is not None and len(field) > 1:
        field.sort(key=key)


def _hold_raw(tensor: TensorProto) -> None:
    data = tensors.inline_bytes(tensor)
    typed = any(len(getattr(tensor, field)) for field in tensors.TYPED_FIELDS)
    if typed or not tensor.HasField("raw_data") or tensor.HasField("data_location") or len(tensor.external_data):
        tensors.set_inline(tensor, data)


def save(model: ModelProto, folder: Path | None, objects: Path) -> tuple[str, list[str]]:
    """Normalise a model and keep it in the store: the graph's ref, and the refs of its large tensors in order of name.

    `folder` is what the model's external tensors are relative to now (None where it has none). A tensor that already is
    one of the store's objects is neither read nor written. `model` is left in the store's form. Raises StageError where
    external data is missing or doesn't fit its tensor, and where the model holds what this onnx does not know.
    """
    from concurrent.futures import ThreadPoolExecutor

    large: list[TensorProto] = []
    small = list(tensors.other_tensors(model))
    for tensor in tensors.large_candidates(model):
        apart = not tensors.is_string(tensor) and tensors.nbytes(tensor) >= INLINE_BELOW
        (large if apart else small).append(tensor)
    with ThreadPoolExecutor(WRITERS) as pool:
        refs = list(pool.map(lambda tensor: _keep(tensor, folder, objects), large))
    for tensor, ref in zip(large, refs, strict=True):
        tensors.set_external(tensor, ref)
    for tensor in small:
        _read_in(tensor, folder)
    normalise(model)
    wire.require_known(model)  # now that it is small
    return store.add_bytes(objects, model.SerializeToString(deterministic=True), graph=True), sorted(set(refs))


def _keep(tensor: TensorProto, folder: Path | None, objects: Path) -> str:
    """Keep a tensor's bytes as an object, unless they are one already, and return its ref."""
    if not tensors.is_external(tensor):
        return store.add_bytes(objects, tensors.inline_bytes(tensor))
    region = tensors.region(tensor, folder)
    location = tensors.location(tensor)
    if folder == objects and store.is_blob_ref(location) and region.offset == 0:
        return location
    return store.add_chunks(objects, region.chunks, region.length)


def structure(path: Path | str) -> ModelProto:
    """The model without its external data."""
    import onnx

    return onnx.load(path, load_external_data=False)


def load(path: Path | str) -> ModelProto:
    """The model with all of its data in the message; needs that much memory."""
    model = structure(path)
    read_in(model, Path(path).parent)
    return model


def read_in(model: ModelProto, folder: Path) -> None:
    """Bring a model's external data, which lies in `folder`, into the message."""
    for tensor in (*tensors.large_candidates(model), *tensors.other_tensors(model)):
        _read_in(tensor, folder)


def total_bytes(model: ModelProto) -> int:
    """The size of all tensors together, a shared one counted each time; string tensors left out."""
    every = (*tensors.large_candidates(model), *tensors.other_tensors(model))
    return sum(tensors.nbytes(tensor) for tensor in every if not tensors.is_string(tensor))


def signature(model: ModelProto) -> dict[str, list[dict[str, Any]]]:
    """The model's interface: {"inputs": [{"name", "dtype", "shape"}], "outputs": [...]}.

    `dtype` is numpy's name (float32, bfloat16, ..., "string"), or ONNX's where the value is no tensor ("sequence"). A
    shape's entries are an int, the name of a dynamic dimension, or None; the shape is None where even the rank is open.
    Initializers that are listed as inputs too, as IR versions below 4 require, are not inputs.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return {
        "inputs": [describe(value) for value in model.graph.input if value.name not in constants],
        "outputs": [describe(value) for value in model.graph.output],
    }


def describe(value: ValueInfoProto) -> dict[str, Any]:
    """One input or output, as `signature` lists it."""
    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return {"name": value.name, "dtype": (kind or "unknown").removesuffix("_type"), "shape": None}
    tensor = getattr(value.type, kind)
    return {"name": value.name, "dtype": dtype_name(tensor.elem_type), "shape": _shape(tensor)}


def dtype_name(element: int) -> str:
    """What numpy calls an ONNX element type; one that this onnx does not know goes by its number."""
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    if element == TensorProto.UNDEFINED:
        return "unknown"
    try:
        return "string" if element == TensorProto.STRING else tensor_dtype_to_np_dtype(element).name
    except KeyError:
        return f"type {element}"  # of a later ONNX, or of none


def _shape(tensor: Any) -> list[int | str | None] | None:
    if not tensor.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]


def write(graph: Path, dest: Path, external_data: bool = False) -> list[Path]:  # noqa: FBT001, FBT002  # reads well by name
    """Write a graph of the store as a model that stands alone, and return its files, the model last.

    `dest` is the model file. Its weights are in it, or in `dest` + ".data" if `external_data` or if it would pass
    protobuf's limit of 2 GiB; there a weight that several tensors share lies once. Equal graphs give equal bytes.
    Weights are copied in chunks, one at a time.
    """
    if not external_data:
        size, pieces = _with_weights(structure(graph), graph.parent)
        if size <= wire.LIMIT:
            store.write_atomic(dest, wire.written(pieces))
            return [dest]
    return _write_external(structure(graph), graph.parent, dest)


def _with_weights(model: ModelProto, folder: Path) -> tuple[int, list[wire.Piece]]:
    """The size and the pieces of the model's file with all weights in it; no pieces where that is past the limit."""
    if total_bytes(model) > wire.LIMIT:
        return wire.LIMIT + 1, []
    for tensor in _below_initializers(model):
        _read_in(tensor, folder)

    def streamed(tensor: TensorProto) -> tuple[int, Callable[[], Iterable[bytes]]] | None:
        if not tensors.is_external(tensor):
            return None
        region = tensors.region(tensor, folder)
        return region.length, region.chunks

    return wire.model_pieces(model, streamed)


def _below_initializers(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor but the main graph's initializers, which `large_candidates` gives first."""
    yield from itertools.islice(tensors.large_candidates(model), len(model.graph.initializer), None)
    yield from tensors.other_tensors(model)


def _read_in(tensor: TensorProto, folder: Path | None) -> None:
    if tensors.is_external(tensor):
        tensors.set_inline(tensor, b"".join(tensors.chunks(tensor, folder)))


def _write_external(model: ModelProto, folder: Path, dest: Path) -> list[Path]:
    data = dest.with_name(f"{dest.name}.data")
    for tensor in tensors.other_tensors(model):
        _read_in(tensor, folder)
    placed: dict[tensors.Region, int] = {}
    end = 0
    for tensor in tensors.large_candidates(model):
        if tensors.is_external(tensor):
            region = tensors.region(tensor, folder)
            if region not in placed:
                placed[region] = -end % (PAGE if region.length >= PAGE_ALIGN_FROM else ALIGN) + end
                end = placed[region] + region.length
            tensors.set_external(tensor, data.name, placed[region])
    if not placed:  # nothing is large enough to be worth a second file
        store.write_atomic(dest, [model.SerializeToString(deterministic=True)])
        return [dest]
    store.write_atomic_by(data, lambda file: _fill(file, placed))
    store.write_atomic(dest, [model.SerializeToString(deterministic=True)])
    return [data, dest]


def _fill(file: BinaryIO, placed: dict[tensors.Region, int]) -> None:
    for region, offset in placed.items():
        file.write(bytes(offset - file.tell()))
        file.writelines(region.chunks())
