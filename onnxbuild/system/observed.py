"""What this process has looked at while it made up its mind, noted in the places where it is looked at.

An answer that rests on files, folders, variables and the machine may be given again for as long as each of them is as it
was. So whoever consults one of them does it through this module, and every record that is open then gets a *fact*: what was
looked at, and how it was. `now` looks at the same thing again. A fact is named by a letter and a name:

    f/a/b.yaml    a file whose content was read: device, inode, bytes, mtime and ctime of it, opened
    s/a/b         the same of a file or a folder that was looked at, or whose names were listed
    k/a/b         whether there is a file or a folder
    l/a/b         where a symbolic link leads
    r/a/b         a path without the links on its way
    eHOME         an environment variable
    mcpu          a fact about the machine

What stat says of a file stands for its content only where that has settled: two writes within a tick of the clock look
alike, and a page that is mapped and dirty changes without a word (on a file system in memory, which writes nothing back, a
write through a mapping is never told by stat). A record that met such a file is in *doubt*, and so is one
that saw the same thing twice, and different. Light to import; knows nothing of what it is looked at for.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, TypeVar

    R = TypeVar("R")

MINIMUM_AGE_NS = 2_000_000_000  # a second write within the clock's tick would go unseen
WRITTEN_BACK_NS = 3_600_000_000_000  # what was mapped and dirty is on the disk by then, and a write renews the time
NOTHING = ""  # how an environment variable is that is not set, and what is not there
FOREVER = 1 << 63

Facts = list[int]


class Record:
    """What was looked at while it was open: by the fact's name, how it was."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.until_ns = FOREVER  # when the answer is to be thought over, whatever the facts
        self.doubt = ""  # why these facts are not enough to stand for the answer

    def note(self, what: str, how: str) -> None:
        """Take a fact; one that was taken before, and was another then, leaves doubt."""
        if self.facts.setdefault(what, how) != how:
            self.doubt = self.doubt or f"{what[1:]} changed meanwhile"

    def extend(self, other: Record) -> None:
        """Take all that another record holds."""
        for what, how in other.facts.items():
            self.note(what, how)
        self.until_ns = min(self.until_ns, other.until_ns)
        self.doubt = self.doubt or other.doubt


_open: list[Record] = []


class _World:
    """What one process looks at, until it is to look anew."""

    turn = 0  # raised by `forget`


def begin() -> Record:
    """Open a record; it notes all that this process looks at until it is ended."""
    record = Record()
    _open.append(record)
    return record


def end(record: Record) -> None:
    """Close a record; one that is closed already stays as it is."""
    with suppress(ValueError):
        _open.remove(record)


def cached(function: Callable[..., R]) -> Callable[..., R]:
    """As functools.cache until `forget`, and whoever gets a cached value has looked at all that it rests on, too."""
    known: dict[object, tuple[R, Record]] = {}
    turn = _World.turn

    def call(*arguments: object) -> R:
        nonlocal turn
        if turn != _World.turn:
            known.clear()
            turn = _World.turn
        if arguments not in known:
            record = begin()
            try:
                known[arguments] = function(*arguments), record
            finally:
                end(record)
        else:
            for one in _open:
                one.extend(known[arguments][1])
        return known[arguments][0]

    call.cache_clear = known.clear  # type: ignore[attr-defined]  # as functools.cache has it
    call.__wrapped__ = function  # type: ignore[attr-defined]  # ditto
    return call


def forget() -> None:
    """From here on, all that is cached is looked at anew: another command begins in this process."""
    _World.turn += 1


def facts(found: os.stat_result) -> Facts:
    """What tells a file from what it was before: device, inode, bytes, mtime and ctime in nanoseconds."""
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def settled(found: os.stat_result) -> bool:
    """Whether any later write gives a file another time than it has."""
    return time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) >= MINIMUM_AGE_NS


def note(what: str, how: str) -> None:
    """Note a fact."""
    for record in _open:
        record.note(what, how)


def doubt(why: str) -> None:
    """What is looked at has no fact that could stand for it."""
    for record in _open:
        record.doubt = record.doubt or why


def until(time_ns: int) -> None:
    """At this time of the epoch, in nanoseconds, the answer is to be thought over."""
    for record in _open:
        record.until_ns = min(record.until_ns, time_ns)


# Looking, as the functions of `os` do


def stat(path: str | os.PathLike[str]) -> os.stat_result:
    """os.stat."""
    try:
        found = os.stat(path)
    except OSError as error:
        note(f"s{os.fspath(path)}", _failed(error))
        raise
    if _open:
        note(f"s{os.fspath(path)}", _how(found))
    return found


def kind(path: str | os.PathLike[str]) -> str:
    """Whether a path leads to a "folder" or a "file" (or whatever else); "" where nothing can be found there."""
    found = _kind(path)
    note(f"k{os.fspath(path)}", found)
    return found


def listdir(folder: str | os.PathLike[str]) -> list[str]:
    """os.listdir."""
    before = _facts_of(folder)
    try:
        return os.listdir(folder)
    finally:
        if _open:
            _listed(folder, before)


def folder(path: str | os.PathLike[str]) -> None:
    """Note a folder whose names are looked at by somebody else, after this call."""
    before = _facts_of(path)
    _listed(path, before)


def readlink(path: str | os.PathLike[str]) -> str:
    """os.readlink."""
    try:
        found = os.readlink(path)
    except OSError as error:
        note(f"l{os.fspath(path)}", _failed(error))
        raise
    note(f"l{os.fspath(path)}", found)
    return found


def realpath(path: str | os.PathLike[str]) -> str:
    """os.path.realpath."""
    found = os.path.realpath(os.fspath(path))
    note(f"r{os.fspath(path)}", found)
    return found


def variable(name: str) -> str | None:
    """An environment variable."""
    value = os.environ.get(name)
    note(f"e{name}", NOTHING if value is None else f"={value}")
    return value


@contextmanager
def reading(path: str | os.PathLike[str], file: BinaryIO, *, ours: bool = False) -> Iterator[None]:
    """Within it, a file is read that is open; `ours` if only we write such files, whole and to the disk."""
    if not _open:
        yield
        return
    before = os.fstat(file.fileno())
    if not ours and time.time_ns() - before.st_mtime_ns < WRITTEN_BACK_NS:
        with suppress(OSError):  # a read-only file system has nothing dirty
            os.fsync(file.fileno())
        before = os.fstat(file.fileno())
    try:
        yield
    except BaseException:
        doubt(f"{os.fspath(path)} could not be read to the end")
        raise
    after = os.fstat(file.fileno())
    if facts(before) != facts(after) or not settled(after):
        doubt(f"{os.fspath(path)} was written just now")
    note(f"f{os.fspath(path)}", _how(after))


def not_read(path: str | os.PathLike[str], error: OSError) -> None:
    """Note a file that can't be opened."""
    if _kind(path) == "folder":
        kind(path)
    else:
        note(f"f{os.fspath(path)}", _failed(error))


# Looking again


def now(what: str) -> str:
    """How a fact's subject is now."""
    try:
        return _LOOKS[what[0]](what[1:])
    except OSError as error:
        return _failed(error)


def hold(facts: Iterator[tuple[str, str]]) -> bool:
    """Whether everything is as it was; looks no further than the first thing that is not."""
    return all(now(what) == how for what, how in facts)


def _how(found: os.stat_result) -> str:
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _failed(error: OSError) -> str:
    return f"error {error.errno}"


def _kind(path: str | os.PathLike[str]) -> str:
    return "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else NOTHING


def _facts_of(path: str | os.PathLike[str]) -> str:
    try:
        return _how(os.stat(path))
    except OSError as error:
        return _failed(error)


def _listed(folder: str | os.PathLike[str], before: str) -> None:
    with suppress(OSError):
        if not settled(os.stat(folder)):
            doubt(f"a name in {os.fspath(folder)} was made or removed just now")
    note(f"s{os.fspath(folder)}", before)
    note(f"s{os.fspath(folder)}", _facts_of(folder))


def _opened_now(path: str) -> str:
    """Opened, since a file system of several machines tells the truth about a file when it is opened."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        return _how(os.fstat(handle))
    finally:
        os.close(handle)


def _variable(name: str) -> str:
    return f"={os.environ[name]}" if name in os.environ else NOTHING


def _machine(name: str) -> str:
    from onnxbuild.system import machine

    return machine.facets([name])[name]


_LOOKS: dict[str, Callable[[str], str]] = {
    "f": _opened_now,
    "s": lambda path: _how(os.stat(path)),
    "k": _kind,
    "l": os.readlink,
    "r": os.path.realpath,
    "e": _variable,
    "m": _machine,
}
