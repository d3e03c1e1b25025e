"""Notices files that were edited while a stage ran: no one can tell whether it read them before or after.

A declared file is known from before, by its digest and by what stat said of it; a discovered one by what stat said as
the stage first touched it, so that another file in its place is seen too. Its change time tells of what was written before
that: any write sets it, also one that puts the content or the modification time back. It is compared with that of the
scratch folder, made just before the stage: both come from the file system's clock, which lags behind the machine's by a
kernel tick and never runs ahead of a later change. Knows nothing of stages or the store.

Blind spot: a name added to a folder after the stage has looked there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from msgspec import Struct

from onnxbuild.contracts import Json
from onnxbuild.discovery import inputs
from onnxbuild.system.observed import Facts, facts

WRITTEN = "written"  # in a command's scratch folder: what its stages wrote in the project, a path per line


class Before(Struct, frozen=True):
    """When a stage started, by the file system's clock, and what was known of the files that its recipe declares."""

    started_ns: int
    declared: dict[Path, tuple[str, Facts | None]]  # digest; None: not there


def before(document: Mapping[str, Json], files: Mapping[str, Path], scratch: Path) -> Before:
    """What is known of a stage's files as it starts; `files` maps a role to a declared file. Raises OSError.

    `scratch` is the stage's own folder, made a moment ago.
    """
    digests = document["inputs"]
    return Before(_changed(os.stat(scratch)), {path: (digests[role], _facts(path)) for role, path in files.items()})  # noqa: PTH116  # as below


def find(
    then: Before,
    today: Mapping[str, str],
    discovered: Mapping[str, Facts | None],
    missing: Collection[str],
    root: Path,
    digest_of: Callable[[Path], str],
) -> Path | None:
    """A declared or discovered file that is not what it was when the stage started.

    `today` are the digests of what the stage depends on, `discovered` what stat said of it as it was first touched, where
    that is known; `missing` are the names among them that it did not find.
    """
    return declared(then, digest_of) or _discovered(then, today, discovered, missing, root)


def by_stages(scratch: Path) -> set[Path]:
    """What the stages of a command have written in its project until now; `scratch` is the folder of one of them."""
    try:
        return {Path(os.fsdecode(line)) for line in (scratch.parent / WRITTEN).read_bytes().splitlines()}
    except OSError:
        return set()


def declared(then: Before, digest_of: Callable[[Path], str]) -> Path | None:
    """A declared file that was edited since the stage started."""
    for path, (digest, known) in then.declared.items():
        try:
            same = _facts(path) == known and digest_of(path) == digest
        except OSError:
            same = False
        if not same:
            return path
    return None


def _discovered(
    then: Before, today: Mapping[str, str], found: Mapping[str, Facts | None], missing: Collection[str], root: Path
) -> Path | None:
    for name, digest in sorted(today.items()):
        path = inputs.file_of(name, root)
        if path is None:
            continue
        gone = digest == inputs.ABSENT
        if gone != (name in missing) or (not gone and _touched(path, found.get(name), then.started_ns)):
            return path
    return None


def _touched(path: Path, known: Facts | None, started_ns: int) -> bool:
    """Whether a file changed since. A time to come is no sign of it: a clock was set back, or is another machine's."""
    try:
        now = os.stat(path)  # noqa: PTH116  # hundreds of files
    except OSError:
        return True
    return known not in (None, facts(now)) or started_ns < _changed(now) <= time.time_ns()


def _facts(path: Path) -> Facts | None:
    try:
        return facts(os.stat(path))  # noqa: PTH116  # as above
    except OSError:
        return None


def _changed(found: os.stat_result) -> int:
    return found.st_ctime_ns if os.name != "nt" else found.st_mtime_ns  # there, ctime is the creation
