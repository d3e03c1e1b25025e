"""Files of JSON behind a seal. Knows nothing of what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from onnxbuild.store.seal import DamagedError, sealed, unsealed
from onnxbuild.system import files

__all__ = ["DamagedError", "read", "write"]

T = TypeVar("T")


def write(path: Path, place: str, content: object) -> None:
    """Write a value as JSON; `place` is what the file is called within the store."""
    body = msgspec.json.encode(content, order="deterministic")
    if path.is_dir():  # damage like any other, but that no file can be renamed onto it
        files.remove(path)
    files.write_atomic(path, sealed(place, body))


def read(path: Path, place: str, kind: type[T]) -> T:
    """The value that was written there. Raises DamagedError, or OSError."""
    try:
        return msgspec.json.decode(unsealed(place, files.read(path, ours=True)), type=kind)
    except (
        IsADirectoryError,
        files.IrregularError,
        DamagedError,
        msgspec.MsgspecError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:  # written by another version of ours
        raise DamagedError(str(path)) from error
