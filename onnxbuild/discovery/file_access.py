"""Tells of every file that this process touches, as it does: by Python's audit events, and by wrappers where there are none.

Libraries that open files without a word to Python are `library_hooks`'. Knows nothing of what it is told for.
"""

from __future__ import annotations

import os
import sys
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any

from onnxbuild.discovery.accesses import How

Touch = Callable[[Any, How], None]

_METADATA = os.path.join("importlib", "metadata", "__init__.py")  # noqa: PTH118  # looks for dist-info all over sys.path
_WRITING = os.O_WRONLY | os.O_CREAT
# The event, which of its arguments is the path, and how that is touched.
_EVENTS = {
    "os.rename": (1, How.WRITE),
    "os.link": (1, How.CREATE),
    "os.symlink": (1, How.CREATE),
    "os.remove": (0, How.WRITE),
    "os.mkdir": (0, How.CREATE),
    "os.chdir": (0, How.LINK),
    "ctypes.dlopen": (0, How.READ),
}
_within = threading.local()  # an event that says less than the wrapper which caused it


def install(touch: Touch) -> None:
    """From now on call `touch` with each path and how it is touched."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not getattr(_within, "told", False):
                touch(path, _opened(mode, flags))
        elif event in ("os.listdir", "os.scandir"):
            caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001  # import lists folders too
            if not caller.startswith("<frozen importlib") and not caller.endswith(_METADATA):
                path = arguments[0]
                touch(_of_handle(path) if isinstance(path, int) else path or ".", How.LIST)
        elif event == "sqlite3.connect":
            for path, how in _database(arguments[0]):
                touch(path, how)
        elif event in _EVENTS:
            argument, how = _EVENTS[event]
            touch(arguments[argument], how)

    sys.addaudithook(hook)
    for question, how in (("stat", How.LOOK), ("access", How.LOOK), ("lstat", How.LINK), ("readlink", How.LINK)):
        _wrap(question, how, touch)
    os.open = _opening(os.open, touch)


def _opened(mode: Any, flags: int) -> How:
    if isinstance(mode, str):
        if "x" in mode:
            return How.CREATE
        return How.WRITE if "w" in mode or "a" in mode else How.UPDATE if "+" in mode else How.READ
    if flags & os.O_EXCL:
        return How.CREATE
    return How.WRITE if flags & _WRITING else How.UPDATE if flags & os.O_RDWR else How.READ


def _database(name: Any) -> list[tuple[Any, How]]:
    """The files of an SQLite database: what was committed last may still lie in the two beside it."""
    if not isinstance(name, str | bytes | os.PathLike):
        return []
    text = os.fsdecode(name)
    forms = [text] if text not in ("", ":memory:") else []
    if text.startswith("file:"):  # https://www.sqlite.org/uri.html
        path = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
        in_memory = "mode=memory" in text or path in ("", ":memory:")
        forms = [] if in_memory else [path]
    beside = [(f"{form}{end}", How.READ) for form in forms for end in ("-wal", "-journal")]
    return [*((form, How.UPDATE) for form in forms), *beside]


class _Wrapped:
    """In the place of one of os's functions; no function itself, which would turn into a method as a class's attribute."""

    def __init__(self, plain: Callable[..., Any], how: How, touch: Touch) -> None:
        self._plain, self._how, self._touch = plain, how, touch
        self.__name__ = plain.__name__

    def __call__(self, path: Any, *arguments: Any, **options: Any) -> Any:
        how = self._how
        if how is How.LINK and sys._getframe(1).f_code.co_name != "_joinrealpath":  # noqa: SLF001  # passes through it
            self._touch(_from(path, options.get("dir_fd")), How.LOOK)
        self._touch(_from(path, options.get("dir_fd")), how)
        return self._plain(path, *arguments, **options)


def _wrap(question: str, how: How, touch: Touch) -> None:
    """Tell of every path that is looked at by a function of os; os.path.exists, glob and pathlib come down to these."""
    plain = getattr(os, question)
    wrapped = _Wrapped(plain, how, touch)
    for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if plain in able:
            able.add(wrapped)
    setattr(os, question, wrapped)


def _opening(plain: Callable[..., int], touch: Touch) -> Callable[..., int]:
    """os.open, whose event does not say which folder a path is relative to."""

    def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            return plain(path, flags, mode)
        touch(_from(path, dir_fd), _opened(None, flags))
        _within.told = True
        try:
            return plain(path, flags, mode, dir_fd=dir_fd)
        finally:
            _within.told = False

    if plain in os.supports_dir_fd:
        os.supports_dir_fd.add(opening)
    return opening


def _from(path: Any, handle: Any) -> Any:
    """A path that is relative to an open folder, in full."""
    folder = _of_handle(handle) if isinstance(handle, int) else None
    return os.path.join(folder, os.fsdecode(path)) if folder and isinstance(path, str | bytes | os.PathLike) else path  # noqa: PTH118  # strings


def _of_handle(handle: int) -> str | None:
    """The path of what is open, where the system tells it."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return _readlink(f"{folder}/{handle}")
        except OSError:
            continue
    return None


_readlink = os.readlink  # as it is, before it is wrapped
