"""Files and folders, written so that a crash at any instant leaves them whole or absent.

Whatever others may have put in a file's place is read by `opened` alone: a regular file, also behind links, and no more
of it than its size says. Knows no content and no names of the store's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from onnxbuild.system import failpoints, observed

CHUNK = 1 << 20  # bytes at a time: more is no faster, and several threads hold one each
TEMPORARY = ".tmp-"  # what the name of a file begins with until it is whole


class IrregularError(OSError):
    """What is there is no regular file (`what` says what it is), or none that has an end."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EINVAL, f"{what}, and only regular files are read", str(path))
        self.what = what


def kind_of(mode: int) -> str:
    """What a file's mode says it is, in words: "a named pipe"; "" for a regular file."""
    kinds = {
        stat.S_IFREG: "",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "no file of a known kind")


@contextlib.contextmanager
def opened(path: Path, *, ours: bool = False) -> Iterator[BinaryIO]:
    """A regular file, to be read. Raises IrregularError for anything else but a folder, and OSError; never waits.

    `ours` says that nobody but us writes it, whole and to the disk.
    """
    try:
        file = _open(path)
    except OSError as error:
        observed.not_read(path, error)
        raise
    with file, observed.reading(path, file, ours=ours):
        yield file


def _open(path: Path) -> BinaryIO:
    _require_regular(path, os.stat(path).st_mode)  # noqa: PTH116  # hot path; opening a device may already do something
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # the caller closes it
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
    except OSError:
        file.close()
        raise
    return file


def read(path: Path, *, ours: bool = False) -> bytes:
    """The content of a small regular file. Raises as `opened`."""
    with opened(path, ours=ours) as file:
        return b"".join(_chunks(file, path))


def sha256_file(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal. Raises as `opened`."""
    with opened(path) as file:
        return sha256_of(file, path)


def sha256_of_listing(digests: Mapping[str, str]) -> str:
    """One SHA-256 for files with theirs, by path: that of the lines which sha256sum prints of them, in order of the paths.

    It is Go's Hash1 of a folder, in hexadecimal, which in-toto names dirHash.
    """
    lines = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def sha256_of(file: BinaryIO, path: Path) -> str:
    """As `sha256_file`, of a file that is open already."""
    digest = hashlib.sha256()
    for chunk in _chunks(file, path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """What a file holds; IrregularError where that is more than its size, as of files under /proc."""
    total = 0
    size = os.fstat(file.fileno()).st_size
    while chunk := file.read(min(CHUNK, size + 1)):
        total += len(chunk)
        if total > size and total > (size := os.fstat(file.fileno()).st_size):
            raise IrregularError(path, f"holds more than the {size:,} bytes that its size says")
        yield chunk


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise IrregularError(path, f"is {kind_of(mode)}")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
    """Take a file away, if it is there; also a folder in its place, with nothing but folders in it. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path, topdown=False):
            if names:  # somebody's, and not ours to remove
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            Path(folder).rmdir()
    else:
        path.unlink(missing_ok=True)
    failpoints.reach("remove.done", path)


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
