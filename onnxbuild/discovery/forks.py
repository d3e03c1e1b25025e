"""What forked children of a stage's process (a DataLoader's workers, say) tell it of what they touch, ask for and import.

They write a line for each into a file without a name that they inherit, at once, since nobody knows how such a child ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import msgspec


class Forks:
    """Open it in the process that may fork; `begun` is called in each child as it begins."""

    def __init__(self, folder: str | None, begun: Callable[[], None]) -> None:
        self._folder = folder
        self._handle: int | None = None
        self.inside = False  # this is such a child
        self._begun = begun
        self._told: set[bytes] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._open, after_in_child=self._begin)

    def tell(self, *what: Any) -> None:
        """In a child: a line that was not told before."""
        line = msgspec.json.encode(what) + b"\n"
        if self._handle is not None and line not in self._told:
            self._told.add(line)
            with contextlib.suppress(OSError):  # the child closed what it did not know
                os.write(self._handle, line)

    def heard(self) -> Iterator[list[Any]]:
        """In the parent: the lines of all children until now."""
        if self._handle is None:
            return
        size = os.fstat(self._handle).st_size
        for line in os.pread(self._handle, size, 0).split(b"\n"):
            with contextlib.suppress(msgspec.DecodeError):  # a line that is being written
                yield msgspec.json.decode(line)

    def _open(self) -> None:
        if self._handle is None:
            handle, path = tempfile.mkstemp(dir=self._folder)
            self._handle = os.open(path, os.O_RDWR | os.O_APPEND)
            os.close(handle)
            os.unlink(path)  # noqa: PTH108  # a string

    def _begin(self) -> None:
        self.inside = True
        self._begun()
