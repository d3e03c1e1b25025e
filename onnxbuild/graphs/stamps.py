"""What a published model says of where it comes from, in its `metadata_props`: its stamp.

    onnxbuild.recipe           the recipe's name
    onnxbuild.recipe_sha256    the digest of what it says: of its canonical JSON, every default in it
    onnxbuild.model_sha256     of the file itself without its stamp: its top-level fields in the order of their numbers
    onnxbuild.weights_sha256   of the file of external data beside it, where it has one

So whoever has the file alone can tell whether it is still what was built. A stamp is no signature: anyone can write one.
It is the last thing that is written, and nothing that is built from a graph ever has one. Reads and writes protobuf's
wire format, so that weights are never in memory; imports nothing heavy. Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from onnxbuild.graphs import protobuf, wire
from onnxbuild.system import files

RECIPE, RECIPE_SHA256 = "onnxbuild.recipe", "onnxbuild.recipe_sha256"
MODEL_SHA256, WEIGHTS_SHA256 = "onnxbuild.model_sha256", "onnxbuild.weights_sha256"
KEYS = frozenset({RECIPE, RECIPE_SHA256, MODEL_SHA256, WEIGHTS_SHA256})
_GRAPH, _METADATA = 7, 14
_KEY, _VALUE = 1, 2


class NoModelError(Exception):
    """A file that is no ONNX model."""


class Stamped(Struct, frozen=True):
    """A model's file without its stamp: its digest and size; and the stamp, empty where it has none.

    `several` says that a key stands there more than once: whoever wrote it a second time was not us.
    """

    sha256: str
    bytes: int
    stamp: dict[str, str] = {}
    several: bool = False


def append(model: Path, recipe: str, recipe_sha256: str, weights: Path | None = None) -> Stamped:
    """Stamp a model's file, which has no stamp yet and may be of gigabytes: fields that come later add to a message.

    Gives what it was before, which is what the stamp says of it. Raises OSError.
    """
    bare = read(model)
    stamp = {RECIPE: recipe, RECIPE_SHA256: recipe_sha256, MODEL_SHA256: bare.sha256}
    if weights is not None:
        stamp[WEIGHTS_SHA256] = files.sha256_file(weights)
    with open(model, "ab") as file:
        file.write(_fields(stamp))
        file.flush()
        os.fsync(file.fileno())
    return bare


def room(recipe: str) -> int:
    """The most bytes that a recipe's stamp takes."""
    digest = "0" * 64
    return len(_fields({RECIPE: recipe, RECIPE_SHA256: digest, MODEL_SHA256: digest, WEIGHTS_SHA256: digest}))


def read(path: Path) -> Stamped:
    """A model's file: its stamp, and its digest without it. Reads all of it, in pieces.

    Raises OSError where it can't be read, and NoModelError.
    """
    with files.opened(path) as file, contextlib.ExitStack() as closing:
        try:
            data = closing.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:  # empty
            raise NoModelError from None
        try:
            kept, stamp = _parted(data)
        except wire.DamagedError:
            raise NoModelError from None
        if not any(number == _GRAPH for number, *_ in kept):
            raise NoModelError
        kept.sort(key=lambda field: field[0])  # a library that writes it again may put a later one first
        digest = hashlib.sha256()
        with memoryview(data) as view:
            for _, start, end in kept:
                with view[start:end] as part:
                    digest.update(part)
        size = sum(end - start for _, start, end in kept)
        return Stamped(digest.hexdigest(), size, dict(stamp), len(dict(stamp)) < len(stamp))


def _parted(data: mmap.mmap) -> tuple[list[tuple[int, int, int]], list[tuple[str, str]]]:
    """The fields that are not of the stamp, each with its number and place, and the stamp. Raises DamagedError."""
    kept: list[tuple[int, int, int]] = []
    stamp: list[tuple[str, str]] = []
    for number, form, start, begin, end in wire.fields(data, 0, len(data)):
        entry = _entry(data, begin, end) if (number, form) == (_METADATA, wire.DELIMITED) else None
        if entry is not None and entry[0] in KEYS:
            stamp.append(entry)
        else:
            kept.append((number, start, end))
    return kept, stamp


def _entry(data: mmap.mmap, start: int, end: int) -> tuple[str, str] | None:
    """A StringStringEntryProto; None of one that is damaged, which is nobody's stamp."""
    parts: dict[int, bytes] = {}
    with contextlib.suppress(wire.DamagedError, UnicodeDecodeError):
        for number, form, _, begin, stop in wire.fields(data, start, end):
            if form == wire.DELIMITED:
                parts[number] = data[begin:stop]
        return parts.get(_KEY, b"").decode(), parts.get(_VALUE, b"").decode()
    return None


def _fields(stamp: Mapping[str, str]) -> bytes:
    return b"".join(_delimited(_METADATA, b"".join(_texts(key, value))) for key, value in stamp.items())


def _texts(key: str, value: str) -> Iterator[bytes]:
    yield _delimited(_KEY, key.encode())
    yield _delimited(_VALUE, value.encode())


def _delimited(number: int, content: bytes) -> bytes:
    return protobuf.varint(number << 3 | wire.DELIMITED) + protobuf.varint(len(content)) + content
