"""Digests of files, remembered by what stat says of them, so that a 10 GB checkpoint is hashed once.

A remembered digest is taken only while device, inode, size, mtime and ctime (integers, nanoseconds) are all unchanged.
The file is fsynced before it is looked at, since dirty mmap pages can change content without touching any of the five;
and nothing younger than two seconds is remembered, since a second write within the clock's tick would go unseen. The memory
is disposable: damaged or lost, everything is hashed again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from onnxbuild.store import checksummed
from onnxbuild.system import files, observed
from onnxbuild.system.observed import Facts, facts

SMALL = 1 << 16  # hashing this little is as fast as remembering it

Memory = dict[str, tuple[Facts, str]]  # absolute path to what stat said and the digest


class Digests:
    """SHA-256 of files, with a memory in `file`; `paranoid` neither reads nor trusts it."""

    def __init__(self, file: Path, *, paranoid: bool = False, warn: Callable[[str], None] | None = None) -> None:
        self._file = file
        self._warn = warn
        self._paranoid = paranoid
        self._load = observed.cached(self._read)
        self._new: Memory = {}
        self._damaged = False

    def of(self, path: Path) -> str:
        """The SHA-256 of a file, in hexadecimal. Raises OSError where it can't be read."""
        found = observed.stat(path)
        if found.st_size <= SMALL or self._paranoid:
            return files.sha256_file(path)
        name = str(path)
        remembered = self._load().get(name)
        if remembered is not None and remembered[0] == facts(found):
            return remembered[1]
        return self._hash(path, name)

    def matches(self, path: Path, digest: str) -> bool:
        """Whether a file is there and has that digest."""
        try:
            return self.of(path) == digest
        except OSError:
            return False

    def save(self) -> None:
        """Write the memory, if anything was added, and forget files that are gone. Never fails: it only saves work."""
        if self._new or self._damaged:
            others = {name: known for name, known in self._read().items() if Path(name).exists()}
            with contextlib.suppress(OSError):
                checksummed.write(self._file, self._file.name, others | self._new)
            self._new, self._damaged = {}, False
            self._load.cache_clear()  # type: ignore[attr-defined]  # as functools.cache has it

    def _hash(self, path: Path, name: str) -> str:
        with files.opened(path) as file:
            with contextlib.suppress(OSError):  # a read-only file system has nothing dirty
                os.fsync(file.fileno())
            before = os.fstat(file.fileno())
            digest = files.sha256_of(file, path)
            after = os.fstat(file.fileno())
        if observed.settled(after) and facts(before) == facts(after):
            self._load()[name] = self._new[name] = (facts(after), digest)
        return digest

    def _read(self) -> Memory:
        try:
            return checksummed.read(self._file, self._file.name, Memory)
        except checksummed.DamagedError:
            if self._warn and not self._damaged:
                self._warn(f"{self._file}: damaged, taken as not there; large files are hashed again")
            self._damaged = True
        except OSError:
            pass
        return {}
