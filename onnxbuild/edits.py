"""Notices files that were edited while a stage ran: no one can tell whether it read them before or after.

A declared file's digest is known from before. A discovered file is known only afterwards, so its change time tells: any
write sets it, also one that puts the modification time back. Knows nothing of stages or the store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from onnxbuild.contracts import Json
from onnxbuild.errors import StageError

TICK_NS = 10_000_000  # file times come from a clock that may lag by a kernel tick


class Before(Struct, frozen=True):
    """When a stage started, and the digests of the files that its recipe declares."""

    started_ns: int
    declared: dict[Path, str]


def before(document: Mapping[str, Json], files: Mapping[str, Path]) -> Before:
    """What is known of a stage's files as it starts; `files` maps a role to a declared file."""
    return Before(time.time_ns(), {path: document["inputs"][role] for role, path in files.items()})


def refuse(then: Before, discovered: Mapping[str, str], root: Path, digest_of: Callable[[Path], str]) -> None:
    """Raise StageError where a declared or discovered file is not what it was when the stage started."""
    edited = declared(then, digest_of) or _discovered(then, discovered, root)
    if edited is not None:
        raise StageError(f"{edited} was changed while the stage was running", "run again; nothing of it was kept")


def declared(then: Before, digest_of: Callable[[Path], str]) -> Path | None:
    """A declared file that was edited since the stage started."""
    for path, digest in then.declared.items():
        try:
            same = digest_of(path) == digest
        except OSError:
            same = False
        if not same or _touched(path, then.started_ns):
            return path
    return None


def _discovered(then: Before, found: Mapping[str, str], root: Path) -> Path | None:
    for name, digest in sorted(found.items()):
        kind, _, rest = name.partition(":")
        path = root / rest if kind == "file" else Path(rest)
        if kind in ("file", "path") and digest != "absent" and _touched(path, then.started_ns):
            return path
    return None


def _touched(path: Path, started_ns: int) -> bool:
    """Whether a file changed since. A time to come is no sign of it: a clock was set back, or is another machine's."""
    try:
        found = os.stat(path)  # noqa: PTH116  # hundreds of files
    except OSError:
        return True
    changed = found.st_ctime_ns if os.name != "nt" else found.st_mtime_ns  # there, ctime is the creation
    return started_ns - TICK_NS < changed <= time.time_ns() + TICK_NS
