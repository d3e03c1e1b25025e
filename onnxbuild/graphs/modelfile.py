"""Reads and writes ONNX models deterministically, in and out of the store's form.

In the store's form a graph is one small file whose large tensors are external data named by their SHA-256, relative to
the objects folder; equal models have equal bytes. Knows nothing of stages, keys or recipes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from onnxbuild.graphs import notes, protobuf, tensors
from onnxbuild.graphs.normalise import normalise
from onnxbuild.graphs.notes import Notes
from onnxbuild.store import objects as store
from onnxbuild.system import files

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

GIVE = "give an .onnx file, such as build/<name>/model.onnx"  # a remedy for what is none
INLINE_BELOW = 1024  # bytes; smaller tensors stay in the graph
PAGE_ALIGN_FROM = 1 << 20  # bytes; such tensors start on a page, so that a runtime can map them
PAGE = 64 << 10  # the mapping granularity of Windows, and a multiple of everyone else's
WRITERS = 4  # threads that hash and write tensors: both leave Python's lock, and fsync waits for the disk
ALIGN = 64  # bytes; a cache line, the alignment of all other tensors


def save(model: ModelProto, folder: Path | None, objects: Path, own: Notes = notes.NONE) -> tuple[str, list[str]]:
    """Normalise a model and keep it in the store: the graph's ref, and the refs of its large tensors in order of name.

    `folder` is what the model's external tensors are relative to now (None where it has none). A tensor that already is
    one of the store's objects is neither read nor written. `own` is what the model's author wrote, which is kept. `model`
    is left in the store's form. Raises StageError where external data is missing or doesn't fit its tensor, and where the
    model holds what this onnx does not know.
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
    normalise(model, own)
    protobuf.require_known(model)  # now that it is small
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


def standalone_bytes(model: ModelProto) -> int:
    """About the size of the files that `write` makes of a model in the store's form: shared tensors lie there each time."""
    every = (*tensors.large_candidates(model), *tensors.other_tensors(model))
    return int(model.ByteSize()) + sum(tensors.nbytes(tensor) for tensor in every if tensors.is_external(tensor))


def write(graph: Path, dest: Path, external_data: bool = False, room: int = 0) -> list[Path]:  # noqa: FBT001, FBT002  # reads well by name
    """Write a graph of the store as a model that stands alone, and return its files, the model last.

    `dest` is the model file. Its weights are in it, or in `dest` + ".data" if `external_data` or if it would pass
    protobuf's limit of 2 GiB; there a weight that several tensors share lies once. Equal graphs give equal bytes.
    Weights are copied in chunks, one at a time. `room` is how many bytes are added to the file later.
    """
    return write_model(structure(graph), graph.parent, dest, external_data, room)


def write_model(
    model: ModelProto,
    folder: Path,
    dest: Path,
    external_data: bool = False,  # noqa: FBT001, FBT002  # see above
    room: int = 0,
) -> list[Path]:
    """As `write`, for a model whose external data lies in `folder`; the message is changed."""
    if not external_data:
        whole = type(model)()
        whole.CopyFrom(model)
        size, pieces = _with_weights(whole, folder)
        if size + room <= protobuf.LIMIT:
            files.write_atomic(dest, protobuf.written(pieces))
            return [dest]
    return _write_external(model, folder, dest)


def _with_weights(model: ModelProto, folder: Path) -> tuple[int, list[protobuf.Piece]]:
    """The size and the pieces of the model's file with all weights in it; no pieces where that is past the limit."""
    if total_bytes(model) > protobuf.LIMIT:
        return protobuf.LIMIT + 1, []
    for tensor in _below_initializers(model):
        _read_in(tensor, folder)

    def streamed(tensor: TensorProto) -> tuple[int, Callable[[], Iterable[bytes]]] | None:
        if not tensors.is_external(tensor):
            return None
        region = tensors.region(tensor, folder)
        return region.length, region.chunks

    return protobuf.model_pieces(model, streamed)


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
        files.write_atomic(dest, [model.SerializeToString(deterministic=True)])
        return [dest]
    files.write_atomic_by(data, lambda file: _fill(file, placed))
    files.write_atomic(dest, [model.SerializeToString(deterministic=True)])
    return [data, dest]


def _fill(file: BinaryIO, placed: dict[tensors.Region, int]) -> None:
    for region, offset in placed.items():
        file.write(bytes(offset - file.tell()))
        file.writelines(region.chunks())
