"""Which imports are executed in a process, those of modules that are loaded already included.

A stage's process is forked from a template that has imported the heavy libraries, so its own list of loaded modules does
not say which of them the stage uses. What it asks to import does, together with what those libraries had imported.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any

_OWN_NAME = "onnxbuild"
_OWN_TOOLS = frozenset({"msgspec"})  # what our own code needs wherever it runs

# An import as it was asked for: the importer's name and package, the name, `from` what, the leading dots.
_Asked = tuple[str, str, str, tuple[str, ...], int]


class Imports:
    """Notes every import that is executed in this process, of loaded modules too."""

    def __init__(self) -> None:
        self._asked: set[_Asked] = set()
        self.once: dict[str, Callable[[Any], None]] = {}  # what is to be done with a module as soon as it is loaded
        self.told: Callable[..., None] | None = None  # called with each import as it is asked for
        self.imported: Callable[[], None] | None = None  # called after each

    def install(self) -> None:
        """Note all imports from now on."""
        by_statement, by_name = builtins.__import__, importlib.import_module
        by_question = importlib.util.find_spec

        def statement(
            name: str,
            globals: Any = None,  # noqa: A002  # the builtin's own names, by which it may be called
            locals: Any = None,  # noqa: A002  # ditto
            fromlist: Any = (),
            level: int = 0,
        ) -> Any:
            here = globals or {}
            self._note(here, name, tuple(fromlist or ()), level)
            found = by_statement(name, globals, locals, fromlist, level)
            self._loaded(top(name))
            return found

        def import_module(name: str, package: str | None = None) -> Any:
            bare = name.lstrip(".")
            here = sys._getframe(1).f_globals  # noqa: SLF001  # the importer
            self._note({"__name__": here.get("__name__"), "__package__": package}, bare, (), len(name) - len(bare))
            found = by_name(name, package)
            self._loaded(top(bare))
            return found

        def find_spec(name: str, package: str | None = None) -> Any:
            bare = name.lstrip(".")
            here = sys._getframe(1).f_globals  # noqa: SLF001  # whoever asks whether there is such a module
            self._note({"__name__": here.get("__name__"), "__package__": package}, bare, (), len(name) - len(bare))
            return by_question(name, package)

        builtins.__import__ = statement
        importlib.import_module = import_module
        importlib.util.find_spec = find_spec

    def restart(self) -> set[tuple[str, str]]:
        """Pairs of an importer and a module that it asked for until now; from here on they are noted anew."""
        asked, self._asked = self._asked, set()
        return self.full_names(asked)

    @staticmethod
    def full_names(asked: Iterable[_Asked]) -> set[tuple[str, str]]:
        """Pairs of an importer and a module, of imports as they were asked for."""
        return _full_names(asked)

    def _loaded(self, name: str) -> None:
        if name in self.once and name in sys.modules:
            self.once.pop(name)(sys.modules[name])
        if self.imported is not None:
            self.imported()

    def _note(self, here: Any, name: str, names: tuple[str, ...], level: int) -> None:
        importer = here.get("__name__") or ""
        if top(importer) in sys.stdlib_module_names:
            if level or top(name) in sys.stdlib_module_names:
                return  # found as a loaded module, if it is new
            importer = _on_behalf_of()
        package = (here.get("__package__") or _package(importer, here)) if level else ""
        self._asked.add((importer, package, name, names, level))
        if self.told is not None:
            self.told(importer, package, name, names, level)


def _on_behalf_of() -> str:
    """The module for which the standard library imports: an extension module's own imports come from importlib, say."""
    frame: FrameType | None = sys._getframe(3)  # noqa: SLF001  # a stack has no public face this cheap
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if top(name) not in sys.stdlib_module_names and frame.f_code.co_filename != __file__:
            return str(name)
        frame = frame.f_back
    return ""


def _package(importer: str, here: Any) -> str:
    return importer if "__path__" in here else importer.rpartition(".")[0]


def _full_names(asked: Iterable[_Asked]) -> set[tuple[str, str]]:
    found = set()
    for importer, package, name, names, level in asked:
        base = package.rsplit(".", level - 1)[0] if level else ""
        full = ".".join(part for part in (base, name) if part)
        found |= {(importer, full), *((importer, f"{full}.{inner}") for inner in names if inner != "*")}
    return found


def top(name: str) -> str:
    """The top-level package of a module."""
    return name.partition(".")[0]


def used_before(loaded: set[str], loading: Iterable[tuple[str, str]], asked: Iterable[tuple[str, str]]) -> set[str]:
    """Of the modules loaded before, those that were asked for since, and all that their packages had imported."""
    edges: dict[str, set[str]] = {}
    for importer, name in loading:
        if name in loaded:
            edges.setdefault(top(importer), set()).add(top(name))
    waiting = [top(name) for importer, name in asked if top(importer) != _OWN_NAME or top(name) not in _OWN_TOOLS]
    tops: set[str] = set()
    while waiting:
        package = waiting.pop()
        if package not in tops and package != _OWN_NAME:
            tops.add(package)
            waiting += edges.get(package, ())
    return {module for module in loaded if top(module) in tops}


def without_own_frames(error: BaseException) -> None:
    """Take this module's frames out of an exception's traceback, and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _plain(error.__traceback__)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # None ends the loop


def _plain(trace: TracebackType | None) -> TracebackType | None:
    kept = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            kept.append(trace)
        trace = trace.tb_next
    for this, following in zip(kept, [*kept[1:], None], strict=True):
        this.tb_next = following
    return kept[0] if kept else None
