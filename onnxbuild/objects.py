"""Content-addressed files: the store's `objects` folder, which is itself a valid ONNX external-data folder.

    objects/<sha256>.onnx      a graph whose large tensors are external data
    objects/ab/cdef…           any other bytes, named by their SHA-256 (a tensor, a file of reference outputs)

A *ref* is an object's path relative to that folder. Objects are real files with one link, never changed once named.
Knows nothing of stages, keys or ONNX.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20  # bytes at a time: more is no faster, and several threads hold one each


def digest_of(ref: str) -> str:
    """The SHA-256, in hexadecimal, that a ref names."""
    return ref.removesuffix(".onnx").replace("/", "")


def blob_ref(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:]}"


def is_blob_ref(name: str) -> bool:
    """Whether a path has the form of a blob's ref."""
    return re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{62}", name) is not None


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_bytes(objects: Path, data: bytes | memoryview, *, graph: bool = False) -> str:
    """Keep bytes as an object (a graph if `graph`) and return its ref."""
    digest = hashlib.sha256(data).hexdigest()
    ref = f"{digest}.onnx" if graph else blob_ref(digest)
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
    if not _is_there(objects / ref, len(view)):
        write_atomic(objects / ref, [view])
    return ref


def add_file(objects: Path, path: Path) -> str:
    """Keep a copy of a file as an object and return its ref."""
    ref = blob_ref(sha256_file(path))
    if not _is_there(objects / ref, path.stat().st_size):
        with open(path, "rb") as file:
            write_atomic(objects / ref, iter(lambda: file.read(CHUNK), b""))
    return ref


def add_chunks(objects: Path, chunks: Callable[[], Iterable[bytes]], size: int) -> str:
    """Keep `size` bytes, which `chunks()` gives piece by piece each time it is called, as an object; its ref.

    They are read twice where the object is new: hashing first spares the writing where it is not.
    """
    digest = hashlib.sha256()
    for chunk in chunks():
        digest.update(chunk)
    ref = blob_ref(digest.hexdigest())
    if not _is_there(objects / ref, size):
        write_atomic(objects / ref, chunks())
    return ref


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file so that at any instant its name holds all of the new bytes or none of them, across a crash too."""

    def fill(file: BinaryIO) -> None:
        file.writelines(chunks)

    write_atomic_by(path, fill)


def write_atomic_by(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """As `write_atomic`, the bytes written by `fill(file)`: temporary name, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        with open(temporary, "xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def move(path: Path, dest: Path) -> None:
    """Give a finished file another name, atomically, on the same file system or another one."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(path, dest)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with open(path, "rb") as file:
            write_atomic(dest, iter(lambda: file.read(CHUNK), b""))
        path.unlink()
    else:
        _sync_folder(dest.parent)


def _is_there(path: Path, size: int) -> bool:
    """Whether an object of that size is there; one that is short was damaged, and is written again."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders can't be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
