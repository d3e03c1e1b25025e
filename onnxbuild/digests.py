"""Digests of files, remembered by what stat says of them, so that a 10 GB checkpoint is hashed once.

A remembered digest is taken only while device, inode, size, mtime and ctime (integers, nanoseconds) are all unchanged.
The file is fsynced before it is looked at, since dirty mmap pages can change content without touching any of the five;
and nothing younger than two seconds is remembered, since a second write within the clock's tick would go unseen. The memory
is disposable: damaged or lost, everything is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

import msgspec

from onnxbuild import objects

MINIMUM_AGE_NS = 2_000_000_000
SMALL = 1 << 16  # hashing this little is as fast as remembering it


class Digests:
    """SHA-256 of files, with a memory in `file`; `paranoid` neither reads nor trusts it."""

    def __init__(self, file: Path, *, paranoid: bool = False) -> None:
        self._file = file
        self._paranoid = paranoid
        self._known: dict[str, tuple[list[int], str]] | None = None
        self._changed = False

    def of(self, path: Path) -> str:
        """The SHA-256 of a file, in hexadecimal. Raises OSError where it can't be read."""
        found = os.stat(path)  # noqa: PTH116  # hot path
        if found.st_size <= SMALL or self._paranoid:
            return objects.sha256_file(path)
        name = str(path)
        remembered = self._load().get(name)
        if remembered is not None and remembered[0] == _facts(found):
            return remembered[1]
        return self._hash(path, name)

    def matches(self, path: Path, digest: str) -> bool:
        """Whether a file is there and has that digest."""
        try:
            return self.of(path) == digest
        except OSError:
            return False

    def save(self) -> None:
        """Write the memory, if anything was added. Never fails: it only saves work."""
        if self._changed and self._known is not None:
            with contextlib.suppress(OSError):
                objects.write_atomic(self._file, [msgspec.json.encode(self._known)])
            self._changed = False

    def _hash(self, path: Path, name: str) -> str:
        with open(path, "rb") as file:
            with contextlib.suppress(OSError):  # a read-only file system has nothing dirty
                os.fsync(file.fileno())
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        settled = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) >= MINIMUM_AGE_NS
        if settled and _facts(before) == _facts(after):
            self._load()[name] = (_facts(after), digest)
            self._changed = True
        return digest

    def _load(self) -> dict[str, tuple[list[int], str]]:
        if self._known is None:
            try:
                self._known = msgspec.json.decode(self._file.read_bytes(), type=dict[str, tuple[list[int], str]])
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                self._known = {}
        return self._known


def _facts(found: os.stat_result) -> list[int]:
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
