"""Named points at which a test has this process killed: around every write, so that no instant of it goes untried.

Armed by ONNXBUILD_FAILPOINT alone, which a command passes on to its children: "write.synced" kills the first process
that reaches it, "write.synced@*/traces/*:3" the third time a process reaches it with such a path; "stop write.synced"
stops it there until it is told to go on. Costs a comparison otherwise. Knows nothing of what is written.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "ONNXBUILD_FAILPOINT"
# Every point there is. `write`: the temporary file is there, is filled, is on the disk, has its name, and its folder is on
# the disk. `move`: before and after a finished file takes its name. `folder`: made, its parent not yet on the disk.
# `package`: between what is published. `remove`: a damaged or collected file is gone. `lease`: written, nothing in it.
POINTS = (
    "write.begun", "write.filled", "write.synced", "write.renamed", "write.done",
    "move.begun", "move.renamed", "move.done", "folder.made", "package.cleared", "package.moved",
    "remove.done", "lease.made",
)  # fmt: skip

_armed = os.environ.get(VARIABLE, "")
_count = 0


def reach(point: str, path: Path) -> None:
    """Be killed here, where that is asked for."""
    if _armed:
        _reached(point, path)


def _reached(point: str, path: Path) -> None:
    import fnmatch
    import signal

    global _count  # noqa: PLW0603  # one process dies once: there is nothing else to hold the count
    assert point in POINTS, point
    place, _, times = _armed.removeprefix("stop ").partition(":")
    name, _, pattern = place.partition("@")
    if name == point and fnmatch.fnmatch(str(path), pattern or "*"):
        _count += 1
        if _count == int(times or 1):
            os.kill(os.getpid(), signal.SIGSTOP if _armed.startswith("stop ") else signal.SIGKILL)
