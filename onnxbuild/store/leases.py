"""Who is using the store, so that the collector removes nothing that a running command relies on.

    leases/<pid>-<token>   one per running command, locked while it lives: what it is, then a line per key it looked for
    objects/.lock          shared for the instant of relying on something, exclusive while the collector removes

A key is in the lease before its traces are looked for, and an object's time is renewed as it is relied upon, both under
the shared lock. So the collector, alone, sees all that is in use: the leased keys, and whatever is younger than the oldest
lease. The locks are flock's, which the system releases when a process dies; a lease that isn't locked is a dead one's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import msgspec

from onnxbuild.store import layout
from onnxbuild.system import failpoints, files, machine

GRACE_NS = 3_600_000_000_000  # an hour: clocks of two machines differ, and not every use renews an object's time

flock: ModuleType | None
try:
    import fcntl as flock
except ImportError:  # Windows
    flock = None


class Holder(msgspec.Struct, frozen=True):
    """A running command: what it is, when it began (nanoseconds, by the store's clock), and the keys it looked for."""

    pid: int
    host: str
    command: str
    since_ns: int = 0
    keys: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"`{self.command}` (process {self.pid} on {self.host})"


def this_process() -> Holder:
    """Who this process is, as the holder of a lease or a lock."""
    return Holder(os.getpid(), machine.host(), " ".join(["onnxbuild", *sys.argv[1:]]))


class Lease:
    """One running command's lease on a store. Where locks can't be had there is none, and nobody can collect either."""

    def __init__(self, folder: Path, objects: Path, say: Callable[[str], None]) -> None:
        self._path = folder / f"{os.getpid()}-{os.urandom(4).hex()}"
        self._keys: set[str] = set()
        self._say = say
        self._gate = _open(objects / layout.LOCK)
        self._file: int | None = None
        self._stays = False  # whether nobody may collect until we end, as our lease can't be written
        if self._gate is None:
            return
        with self._together():
            try:
                self._file = self._made(folder)
            except OSError:
                self._stays = True

    @contextlib.contextmanager
    def using(self, key: str) -> Iterator[None]:
        """Within it, the key's traces may be looked for; all that they need stays until the lease ends."""
        with self._together():
            if self._file is not None and key not in self._keys:
                self._keys.add(key)
                line = key.encode() + b"\n"
                try:
                    self._stays = os.write(self._file, line) < len(line) or self._stays
                except OSError:
                    self._stays = True
            yield

    def close(self) -> None:
        """The command needs nothing more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._file)
        if self._gate is not None:
            os.close(self._gate)
        self._file = self._gate = None

    def _made(self, folder: Path) -> int:
        files.make_folder(folder)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        failpoints.reach("lease.made", self._path)
        try:
            _lock(file, exclusive=True, wait=True)
            holder = msgspec.structs.replace(this_process(), since_ns=os.fstat(file).st_mtime_ns)
            os.write(file, msgspec.json.encode(holder) + b"\n")
        except OSError:
            self._path.unlink(missing_ok=True)
            os.close(file)
            raise
        return file

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        if self._gate is None or flock is None:
            yield
            return
        if not _lock(self._gate, exclusive=False, wait=False):
            self._say(f"waiting for {_said_in(self._gate)} to end")
            _lock(self._gate, exclusive=False, wait=True)
        try:
            yield
        finally:
            if not self._stays:
                flock.flock(self._gate, flock.LOCK_UN)


@contextlib.contextmanager
def together(objects: Path) -> Iterator[None]:
    """Within it, the collector removes nothing."""
    gate = _open(objects / layout.LOCK)
    try:
        if gate is not None:
            _lock(gate, exclusive=False, wait=True)
        yield
    finally:
        if gate is not None:
            os.close(gate)


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Within it, nobody comes to rely on anything more of the store in `folder`. Raises OSError where that can't be had."""
    path = folder / "objects" / layout.LOCK
    gate = _open(path)
    if gate is None:
        fact = "nothing can be written or locked here, so nothing can be removed while others may use it"
        raise OSError(errno.EROFS, fact, str(path))
    try:
        if not _lock(gate, exclusive=True, wait=False):
            say("waiting for a command that is using the store at this moment")
            _lock(gate, exclusive=True, wait=True)
        os.truncate(gate, 0)
        os.write(gate, str(this_process()).encode())
        yield
    finally:
        os.close(gate)


def living(folder: Path, *, remove: bool = True) -> list[Holder]:
    """The commands that use the store in `folder`; to be called `alone` where the leases of dead ones are to go."""
    found: list[Holder] = []
    leases = folder / "leases"
    for path in sorted(leases.iterdir()) if leases.is_dir() and flock is not None else []:
        if not layout.is_ours(folder, path):
            continue
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # whatever somebody put there
        except FileNotFoundError:  # its command has just ended
            continue
        try:
            if not _is_dead(file):
                found.append(_read(file))
            elif remove:
                path.unlink(missing_ok=True)
        finally:
            os.close(file)
    return found


def _is_dead(file: int) -> bool:
    try:
        return _lock(file, exclusive=False, wait=False)
    except OSError:  # left by another machine on a file system that has locks for it alone: nobody can tell
        return False


def _read(file: int) -> Holder:
    first, *keys = os.pread(file, os.fstat(file).st_size, 0).split(b"\n")
    try:
        holder = msgspec.json.decode(first, type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Holder(0, "", "")  # since ever, so nothing at all is collected
    return msgspec.structs.replace(holder, keys=frozenset(key.decode(errors="replace") for key in keys))


def _open(path: Path) -> int | None:
    """The lock's file, made where missing; None where there are no locks or nothing can be written."""
    if flock is None:
        return None
    try:
        files.make_folder(path.parent)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    try:
        flock.flock(file, flock.LOCK_UN)
    except OSError:  # a file system without locks
        os.close(file)
        return None
    return file


def _lock(file: int, *, exclusive: bool, wait: bool) -> bool:
    """Whether the lock is ours."""
    assert flock is not None
    how = (flock.LOCK_EX if exclusive else flock.LOCK_SH) | (0 if wait else flock.LOCK_NB)
    try:
        flock.flock(file, how)
    except BlockingIOError:
        return False
    return True


def _said_in(file: int) -> str:
    return os.pread(file, 4096, 0).decode(errors="replace") or "another command"
