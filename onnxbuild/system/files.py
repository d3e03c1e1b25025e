"""Files and folders, written so that a crash at any instant leaves them whole or absent; and the facts that tell them apart.

Knows no content and no names of the store's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from onnxbuild.system import failpoints

CHUNK = 1 << 20  # bytes at a time: more is no faster, and several threads hold one each
TEMPORARY = ".tmp-"  # what the name of a file begins with until it is whole


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file so that at any instant its name holds all of the new bytes or none of them, across a crash too."""

    def fill(file: BinaryIO) -> None:
        file.writelines(chunks)

    write_atomic_by(path, fill)


def write_atomic_by(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """As `write_atomic`, the bytes written by `fill(file)`: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}"
    try:
        with _opened(temporary) as file:
            failpoints.reach("write.begun", path)
            fill(file)
            file.flush()
            failpoints.reach("write.filled", path)
            os.fsync(file.fileno())
        failpoints.reach("write.synced", path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    failpoints.reach("write.renamed", path)
    sync_folder(path.parent)
    failpoints.reach("write.done", path)


def _opened(temporary: Path) -> BinaryIO:
    """A new file in a folder that is made where missing; the collector may remove one that is empty."""
    for _ in range(2):
        make_folder(temporary.parent)
        with contextlib.suppress(FileNotFoundError):
            return open(temporary, "xb")
    return open(temporary, "xb")


def move(path: Path, dest: Path) -> None:
    """Give a finished file another name, atomically, on the same file system or another one."""
    make_folder(dest.parent)
    failpoints.reach("move.begun", dest)
    try:
        os.replace(path, dest)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with open(path, "rb") as file:
            write_atomic(dest, iter(lambda: file.read(CHUNK), b""))
        path.unlink()
    else:
        failpoints.reach("move.renamed", dest)
        sync_folder(dest.parent)
    failpoints.reach("move.done", dest)


def remove(path: Path) -> None:
    """Take a file away, if it is there; also a folder that somebody put in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    failpoints.reach("remove.done", path)


Facts = list[int]


def facts(found: os.stat_result) -> Facts:
    """What tells a file from what it was before: device, inode, bytes, mtime and ctime in nanoseconds."""
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each one's name on the disk when this returns."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:  # another process was faster, and may not have come to the next step
        if not folder.is_dir():
            raise
    failpoints.reach("folder.made", folder)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
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
