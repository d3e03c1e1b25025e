"""Steps over the fields of a message in protobuf's wire format, without protobuf: what a field holds is not looked at.

Source: https://protobuf.dev/programming-guides/encoding. Knows no messages and no field numbers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


class DamagedError(Exception):
    """The bytes are no message."""


def fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of the message in data[at:stop]: number, wire type, where the tag and the value begin, where it ends.

    Raises DamagedError where they end, and the message doesn't.
    """
    while at < stop:
        start = at
        tag, at = _varint(data, at, stop)
        kind = tag & 7
        begin = at
        if kind == DELIMITED:
            size, begin = _varint(data, at, stop)
            at = begin + size
        elif kind == VARINT:
            _, at = _varint(data, at, stop)
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise DamagedError
        if at > stop:
            raise DamagedError
        yield tag >> 3, kind, start, begin, at


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise DamagedError
