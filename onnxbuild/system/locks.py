"""Locks between processes: who builds a stage, who publishes into a folder.

A lock is a file under flock, which the system releases when its holder dies, however it dies; what the file says (the
holder's process, for messages) decides nothing. Locks only save work: where files can't be locked (a read-only or a network
file system without flock, Windows) everyone gets every lock. Knows nothing of what is locked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from types import ModuleType

import msgspec

from onnxbuild.system import files, machine

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Holder(msgspec.Struct, frozen=True):
    """Who has a lock and since when, in seconds of the epoch; `pid` is 0 where it has not said so yet."""

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return who if self.host in ("", machine.host()) else f"{who} on {self.host}"


class Lock:
    """A lock that was taken. `real` is False where nothing keeps others out."""

    def __init__(self, path: Path, handle: int | None) -> None:
        self._path = path
        self._handle = handle

    @property
    def real(self) -> bool:
        """Whether the system keeps others out; False where there is no flock."""
        return self._handle is not None

    def release(self) -> None:
        """Let others have it. The file goes first: whoever opened it meanwhile finds it gone and makes a new one.

        It stays where it is another one's by now: the holder of a folder's lock may have removed the folder with it.
        """
        if self._handle is not None:
            with contextlib.suppress(OSError):
                if _is_still_there(self._handle, self._path):
                    self._path.unlink()
            os.close(self._handle)
            self._handle = None


def take(path: Path) -> Lock | Holder:
    """The lock on this file, or who has it; never waits, never fails."""
    if fcntl is None:
        return Lock(path, None)
    try:
        files.make_folder(path.parent)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still_there(handle, path):
                    _sign(handle)
                    return Lock(path, handle)
            except BlockingIOError:
                holder = _read(handle)
                os.close(handle)
                return holder
            except OSError:
                os.close(handle)
                raise
            os.close(handle)  # its last holder removed it after we had opened it
    except OSError:
        return Lock(path, None)


def _is_still_there(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))  # noqa: PTH116  # the form that pairs with fstat
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock holds, only its messages are poorer
        os.ftruncate(handle, 0)
        os.pwrite(handle, msgspec.json.encode(Holder(os.getpid(), machine.host(), time.time())), 0)


def _read(handle: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(handle, 4096, 0), type=Holder)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Holder(0, "", time.time())


def remove_folder(folder: Path) -> None:
    """Remove a folder whose lock is in it, as ".lock", and that nobody has; one without a lock only where it is empty."""
    if not (folder / ".lock").exists():
        with contextlib.suppress(OSError):
            folder.rmdir()
        return
    lock = take(folder / ".lock")
    if isinstance(lock, Lock) and lock.real:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
