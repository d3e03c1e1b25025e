"""Makes folders whose names are on the disk before anything is put into them. Knows nothing of what that is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from onnxbuild import failpoints


def make(folder: Path) -> None:
    """Make a folder and those above it that are missing, each one's name on the disk when this returns."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:  # another process was faster, and may not have come to the next step
        if not folder.is_dir():
            raise
    failpoints.reach("folder.made", folder)
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if os.name == "nt":  # folders can't be opened there
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # someone else's folder that may be passed through but not listed
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(handle)
