"""Modules as they are loaded in a process: where each came from, and where it looks for those inside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from typing import Any, NamedTuple


class Loaded(NamedTuple):
    """A loaded module: the file that it came from, "" for none, and the folders of a package."""

    origin: str
    folders: tuple[str, ...]

    @property
    def is_namespace(self) -> bool:
        """Whether it is a package of folders alone, without a file of its own."""
        return bool(self.folders) and not self.origin

    @property
    def is_made_up(self) -> bool:
        """Whether it came from no file or folder."""
        return not self.origin and not self.folders


def look(name: str, elsewhere: Mapping[str, Loaded]) -> Loaded | None:
    """The module of that name in this process, or in one that it forked; None where it isn't loaded."""
    module = sys.modules.get(name)
    return elsewhere.get(name) if module is None else Loaded(_origin(module), tuple(_folders(module)))


def _origin(module: Any) -> str:
    origin = _of(_of(module, "__spec__"), "origin") or _of(module, "__file__")
    return origin if isinstance(origin, str) and os.path.isabs(origin) else ""  # noqa: PTH117  # hot path


def _folders(module: Any) -> list[str]:
    """Where a package's modules are looked for; none of what is no package."""
    try:
        return [folder for folder in _of(module, "__path__") or () if isinstance(folder, str)]
    except TypeError:
        return []


def _of(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except Exception:  # noqa: BLE001  # whatever somebody put among the modules
        return None


def compile_anew(is_ours: Any) -> None:
    """Never read the bytecode of these source files: Python trusts it for its time and size alone."""
    stats = SourceFileLoader.path_stats

    def path_stats(loader: SourceFileLoader, path: str) -> Any:
        if is_ours(path):
            raise OSError(f"{path}: compiled anew")  # importlib then reads the source, and writes no bytecode
        return stats(loader, path)

    SourceFileLoader.path_stats = path_stats  # type: ignore[assignment, method-assign]  # for this process alone
