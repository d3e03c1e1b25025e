"""Content-addressed files: the store's `objects` folder, which is itself a valid ONNX external-data folder.

    objects/<sha256>.onnx      a graph whose large tensors are external data
    objects/ab/cdef…           any other bytes, named by their SHA-256 (a tensor, a file of reference outputs)

A *ref* is an object's path relative to that folder. Objects are real files with one link, never changed once named.
Every name is on the disk before anything is made to depend on it: a file is fsynced before it gets its name, its folder
after, and a new folder's parent before the folder is used. Knows nothing of stages, keys or ONNX.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from onnxbuild.store import leases
from onnxbuild.system.files import CHUNK, remove, sha256_file, write_atomic


def digest_of(ref: str) -> str:
    """The SHA-256, in hexadecimal, that a ref names."""
    return ref.removesuffix(".onnx").replace("/", "")


def blob_ref(digest: str) -> str:
    """The ref of an object that is no graph, by its SHA-256 in hexadecimal."""
    return f"{digest[:2]}/{digest[2:]}"


def is_blob_ref(name: str) -> bool:
    """Whether a path has the form of a blob's ref."""
    return re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{62}", name) is not None


def is_ref(name: str) -> bool:
    """Whether a path has the form of an object's ref."""
    return is_blob_ref(name) or re.fullmatch(r"[0-9a-f]{64}\.onnx", name) is not None


def add_bytes(objects: Path, data: bytes | memoryview, *, graph: bool = False) -> str:
    """Keep bytes as an object (a graph if `graph`) and return its ref."""
    digest = hashlib.sha256(data).hexdigest()
    ref = f"{digest}.onnx" if graph else blob_ref(digest)
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
    if not claim(objects, ref, len(view)):
        write_atomic(objects / ref, [view])
    return ref


def add_file(objects: Path, path: Path) -> str:
    """Keep a copy of a file as an object and return its ref."""
    ref = blob_ref(sha256_file(path))
    if not claim(objects, ref, path.stat().st_size):
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
    if not claim(objects, ref, size):
        write_atomic(objects / ref, chunks())
    return ref


def claim(objects: Path, ref: str, size: int) -> bool:
    """Whether an object of that size is there; one that is short was damaged, and is to be written again.

    If it is, it was used just now: the collector leaves alone what was written or claimed since the oldest running
    command began.
    """
    path = objects / ref
    with leases.together(objects):
        try:
            found = path.stat()
        except OSError:
            return False
        if stat.S_ISDIR(found.st_mode):
            remove(path)  # no file can be renamed onto it
            return False
        if found.st_size != size:
            return False
        if time.time_ns() - found.st_mtime_ns > leases.GRACE_NS // 2:  # not each time: it costs the digest's memory
            with contextlib.suppress(OSError):
                os.utime(path)
        return True
