"""Tells of every file that this process touches, as it does: by Python's audit events, and by wrappers where there are none.

How a path is touched: "read", "write", "update" (opened to read and write), "create" (only if it is not there), "list" (its
names), "look" (what kind of thing it is) or "link" (where it leads). Blind spots: native code that opens files without a
word to Python, but for what is wrapped here; paths relative to an open folder. Knows nothing of what it is told for.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from onnxbuild.discovery.import_hooks import Imports

Touch = Callable[[Any, str], None]

# Environment variables that children get and that decide which files a library reads.
VARIABLES = frozenset({"HF_HOME", "TORCH_HOME"})

_METADATA = os.path.join("importlib", "metadata", "__init__.py")  # noqa: PTH118  # looks for dist-info all over sys.path
_WRITING = os.O_WRONLY | os.O_CREAT
# What torch opens natively by a name that it is given.
_TORCH = (("jit", "load"), ("export", "load"), ("", "from_file"), ("UntypedStorage", "from_file"))


def install(touch: Touch, asked: Callable[[str], None], imports: Imports) -> None:
    """From now on call `touch` with each path and how it is touched, and `asked` with each of VARIABLES that is read."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            touch(path, _opened(mode, flags))
        elif event in ("os.listdir", "os.scandir"):
            caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001  # import lists folders too
            if not caller.startswith("<frozen importlib") and not caller.endswith(_METADATA):
                touch(arguments[0] or ".", "list")
        elif event in _EVENTS:
            argument, how = _EVENTS[event]
            touch(arguments[argument], how)

    sys.addaudithook(hook)
    for question, how in (("stat", "look"), ("access", "look"), ("lstat", "link"), ("readlink", "link")):
        _wrap(question, how, touch)
    _wrap_environment(asked)
    _once(imports, "safetensors", lambda module: _listen_to_safetensors(module, touch))
    _once(imports, "torch", lambda module: _listen_to_torch(module, touch, imports))


# The event, which of its arguments is the path, and how that is touched.
_EVENTS = {
    "os.rename": (1, "write"),
    "os.remove": (0, "write"),
    "os.chdir": (0, "link"),
    "sqlite3.connect": (0, "update"),
    "ctypes.dlopen": (0, "read"),
}


def _opened(mode: Any, flags: int) -> str:
    if isinstance(mode, str):
        if "x" in mode:
            return "create"
        return "write" if "w" in mode or "a" in mode else "update" if "+" in mode else "read"
    if flags & os.O_EXCL:
        return "create"
    return "write" if flags & _WRITING else "update" if flags & os.O_RDWR else "read"


class _Wrapped:
    """In the place of one of os's functions; no function itself, which would turn into a method as a class's attribute."""

    def __init__(self, plain: Callable[..., Any], how: str, touch: Touch) -> None:
        self._plain, self._how, self._touch = plain, how, touch
        self.__name__ = plain.__name__

    def __call__(self, path: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("dir_fd") is None:
            self._touch(path, self._how)
        return self._plain(path, *arguments, **options)


def _wrap(question: str, how: str, touch: Touch) -> None:
    """Tell of every path that is looked at by a function of os; os.path.exists, glob and pathlib come down to these."""
    plain = getattr(os, question)
    wrapped = _Wrapped(plain, how, touch)
    for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if plain in able:
            able.add(wrapped)
    setattr(os, question, wrapped)


def _wrap_environment(asked: Callable[[str], None]) -> None:
    kind = type(os.environ)
    plain = kind.__getitem__

    def getitem(environment: Any, name: Any) -> Any:
        if name in VARIABLES:
            asked(name)
        return plain(environment, name)

    kind.__getitem__ = getitem  # type: ignore[method-assign]  # for this process alone


def _once(imports: Imports, library: str, listen: Callable[[Any], None]) -> None:
    imports.once[library] = listen
    if library in sys.modules:
        listen(sys.modules[library])


def _listen_to_torch(torch: Any, touch: Touch, imports: Imports) -> None:
    if not hasattr(getattr(torch, "jit", None), "load"):  # torch imports itself before it is whole
        imports.once["torch"] = lambda module: _listen_to_torch(module, touch, imports)
        return
    for place, name in _TORCH:
        holder = getattr(torch, place, None) if place else torch
        plain = getattr(holder, name, None)
        if plain is not None:
            told = _told(plain, touch)
            setattr(holder, name, staticmethod(told) if isinstance(holder, type) else told)


def _told(plain: Callable[..., Any], touch: Touch) -> Any:
    """A function whose first argument is a file that it reads."""

    @functools.wraps(plain)
    def told(*arguments: Any, **options: Any) -> Any:
        for path in (*arguments[:1], *(options[name] for name in ("f", "filename") if name in options)):
            touch(path, "read")
        return plain(*arguments, **options)

    return told


def _listen_to_safetensors(safetensors: Any, touch: Touch) -> None:
    """Its weights are read natively, and a model's code may well use it by itself."""
    plain = safetensors.safe_open

    class safe_open:  # noqa: N801  # in the place of a class of that name
        def __new__(cls, filename: Any, *arguments: Any, **options: Any) -> Any:
            touch(filename, "read")
            return plain(filename, *arguments, **options)

    safetensors.safe_open = safe_open
