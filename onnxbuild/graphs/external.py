"""Which other files an .onnx file names as the data of its tensors, read from its bytes without onnx.

Walks only the messages that can hold a tensor and steps over the weights themselves, so that a file of gigabytes takes
milliseconds: a run with nothing to do asks this. Field numbers are those of onnx/onnx.proto. Knows no rules about where
such a file may lie.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from onnxbuild.graphs import wire
from onnxbuild.system import files

_LOCATION = b"location"

# Which fields of a message hold which message, down to a tensor's external_data.
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def locations(path: Path) -> list[str]:
    """The `location` of every tensor with external data, sorted, each once; of a damaged file those before the damage.

    Raises OSError where the file can't be read.
    """
    with files.opened(path) as file, contextlib.ExitStack() as closing:
        try:
            data = closing.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:  # empty
            return []
        found: set[str] = set()
        with contextlib.suppress(wire.DamagedError):
            found.update(_walk(data, "model", 0, len(data)))
        return sorted(found)


def named_by(path: str) -> list[str]:
    """The files of external data of a model's file, as paths; none where it can't be read."""
    try:
        return [str(Path(path).parent / location) for location in locations(Path(path))]
    except OSError:
        return []


def _walk(data: mmap.mmap, message: str, start: int, end: int) -> Iterator[str]:
    inner = _INNER[message]
    for number, form, _, begin, stop in wire.fields(data, start, end):
        kind = inner.get(number) if form == wire.DELIMITED else None
        if kind == "entry":
            yield from _location(data, begin, stop)
        elif kind in ("graph", "tensor") or (kind and data.find(_LOCATION, begin, stop) >= 0):
            yield from _walk(data, kind, begin, stop)


def _location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    """The value of one StringStringEntryProto, where its key is "location"."""
    found = wire.fields(data, start, end)
    parts = {number: data[begin:stop] for number, form, _, begin, stop in found if form == wire.DELIMITED}
    if parts.get(1) == _LOCATION:
        yield parts.get(2, b"").decode("utf-8", errors="surrogateescape")
