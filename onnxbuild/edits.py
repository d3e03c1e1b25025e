"""Notices files that were edited while a stage ran: no one can tell whether it read them before or after.

A declared file is known from before, by its digest and by what stat said of it. A discovered file is known only
afterwards, so its change time tells: any write sets it, also one that puts the content or the modification time back. It
is compared with that of the scratch folder, made just before the stage: both come from the file system's clock, which
lags behind the machine's by a kernel tick and never runs ahead of a later change. Knows nothing of stages or the store.

Blind spots: a discovered file on a file system of another clock (another machine's) or of whole seconds, as FAT's; a name
added to a folder after the stage has looked there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from msgspec import Struct

from onnxbuild import discover
from onnxbuild.contracts import Json
from onnxbuild.errors import StageError

Facts = tuple[int, ...] | None  # None: it is not there


class Before(Struct, frozen=True):
    """When a stage started, by the file system's clock, and what was known of the files that its recipe declares."""

    started_ns: int
    declared: dict[Path, tuple[str, Facts]]


def before(document: Mapping[str, Json], files: Mapping[str, Path], scratch: Path) -> Before:
    """What is known of a stage's files as it starts; `files` maps a role to a declared file. Raises OSError.

    `scratch` is the stage's own folder, made a moment ago.
    """
    digests = document["inputs"]
    return Before(_changed(os.stat(scratch)), {path: (digests[role], _facts(path)) for role, path in files.items()})  # noqa: PTH116  # as below


def refuse(
    then: Before, discovered: Mapping[str, str], missing: Collection[str], root: Path, digest_of: Callable[[Path], str]
) -> None:
    """Raise StageError where a declared or discovered file is not what it was when the stage started.

    `discovered` is what the stage depends on, by today's digest; `missing` are the names among them that it did not find.
    """
    edited = declared(then, digest_of) or _discovered(then, discovered, missing, root)
    if edited is not None:
        raise StageError(f"{edited} was changed while the stage was running", "run again; nothing of it was kept")


def declared(then: Before, digest_of: Callable[[Path], str]) -> Path | None:
    """A declared file that was edited since the stage started."""
    for path, (digest, facts) in then.declared.items():
        try:
            same = _facts(path) == facts and digest_of(path) == digest
        except OSError:
            same = False
        if not same:
            return path
    return None


def _discovered(then: Before, found: Mapping[str, str], missing: Collection[str], root: Path) -> Path | None:
    for name, digest in sorted(found.items()):
        if not discover.is_file(name):
            continue
        path = discover.path(name, root)
        gone = digest == discover.ABSENT
        if gone != (name in missing) or (not gone and _touched(path, then.started_ns)):
            return path
    return None


def _touched(path: Path, started_ns: int) -> bool:
    """Whether a file changed since. A time to come is no sign of it: a clock was set back, or is another machine's."""
    try:
        return started_ns < _changed(os.stat(path)) <= time.time_ns()  # noqa: PTH116  # hundreds of files
    except OSError:
        return True


def _facts(path: Path) -> Facts:
    try:
        found = os.stat(path)  # noqa: PTH116  # as above
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _changed(found: os.stat_result) -> int:
    return found.st_ctime_ns if os.name != "nt" else found.st_mtime_ns  # there, ctime is the creation
