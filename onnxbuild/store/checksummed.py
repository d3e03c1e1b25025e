"""Files of JSON behind a seal: the SHA-256 of the file's place and content, a newline, the content.

Neither a flipped bit, nor half a file, nor a whole one from elsewhere passes for what was written there. Knows nothing
of what it is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

from onnxbuild.system import files

T = TypeVar("T")


class DamagedError(Exception):
    """A sealed file isn't what was written there."""


def write(path: Path, place: str, content: object) -> None:
    """Write a value as JSON; `place` is what the file is called within the store."""
    body = msgspec.json.encode(content, order="deterministic")
    if path.is_dir():  # damage like any other, but that no file can be renamed onto it
        files.remove(path)
    files.write_atomic(path, [_seal(place, body), b"\n", body])


def read(path: Path, place: str, kind: type[T]) -> T:
    """The value that was written there. Raises DamagedError, or OSError."""
    try:
        seal, _, body = files.read(path).partition(b"\n")
    except (IsADirectoryError, files.IrregularError) as error:
        raise DamagedError(str(path)) from error
    if seal != _seal(place, body):
        raise DamagedError(str(path))
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # written by another version of ours
        raise DamagedError(str(path)) from error


def _seal(place: str, body: bytes) -> bytes:
    digest = hashlib.sha256(place.encode(errors="surrogateescape"))
    digest.update(b"\n")
    digest.update(body)
    return digest.hexdigest().encode()
