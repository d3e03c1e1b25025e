"""Where Python finds modules: by the names in folders, without importing anything.

Follows importlib's own order: folder by folder, a package before a module, an extension before source before bytecode; a
folder without __init__ only where there is nothing else. Finders that others put on sys.meta_path are `plugins`'.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES

from onnxbuild.system import distributions, observed

INSTALLED = "installed"  # where a module is found that a distribution answers for
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)  # importlib's order

_Places = Sequence[tuple[str, frozenset[str]]]  # folders and the names in them


def on_path(names: Sequence[str], root: str, *, project: bool) -> list[str]:
    """A line for each module that the path leads to, as "models.net=models/net.py"; the `project`'s folder comes first."""
    folders = [root, *distributions.search_path()][not project :]
    standard = next((i for i, folder in enumerate(folders) if distributions.is_standard_library(folder)), len(folders))
    others = [(folder, _names(folder)) for folder in folders if not distributions.is_standard_library(folder)]
    before = others[:standard]  # the folders that come first even for a module of the standard library
    return _lines(
        [(name, before if name.partition(".")[0] in sys.stdlib_module_names else others) for name in names], root
    )


def in_folder(folder: str, names: Sequence[str], root: str) -> list[str]:
    """A line for each module that lies in one folder."""
    places = [] if distributions.is_standard_library(folder) else [(folder, _names(folder))]
    return _lines([(name, places) for name in names], root)


def say(before: str, now: str) -> str:
    """A sentence on what is found elsewhere than it was; the lines of before and of now."""
    was, is_ = (dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in (before, now))
    changed = [name for name in sorted(was.keys() | is_.keys()) if was.get(name) != is_.get(name)]
    changed = [name for name in changed if name.rpartition(".")[0] not in changed]
    name = changed[0]
    more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
    if name not in is_:
        return f"the module {name} is gone: it was {was[name]}{more}"
    if name not in was:
        return f"the module {name} is there now: {is_[name]}{more}"
    return f"the module {name} is now {is_[name]}, not {was[name]}{more}"


def _lines(wanted: Sequence[tuple[str, _Places]], root: str) -> list[str]:
    found = ((name, _locate(name, places)) for name, places in wanted)
    return [f"{name}={' '.join(dict.fromkeys(_shown(path, root) for path in where))}" for name, where in found if where]


def _locate(name: str, places: _Places) -> list[str]:
    """Where Python finds a module among these folders: its file, or its folders where it is a namespace package."""
    head, _, tail = name.partition(".")
    portions = []
    for folder, names in places:
        inner = f"{folder}{os.sep}{head}"
        if head in names and (found := _first("__init__", _names(inner))):
            return [] if tail else [f"{inner}{os.sep}{found}"]  # what is in a package, `in_folder` says
        if found := _first(head, names):
            return [] if tail else [f"{folder}{os.sep}{found}"]
        if head in names and observed.kind(inner) == "folder":
            portions.append((inner, _names(inner)))
    if tail:
        return _locate(tail, portions)
    return [f"{inner}{os.sep}" for inner, _ in portions]


def _first(name: str, names: frozenset[str]) -> str:
    return next((f"{name}{suffix}" for suffix in _SUFFIXES if f"{name}{suffix}" in names), "")


def _names(folder: str) -> frozenset[str]:
    return _installed_names(folder) if folder in distributions.sites() else _listed_now(folder)


def _listed_now(folder: str) -> frozenset[str]:
    try:
        return frozenset(observed.listdir(folder))
    except OSError:
        return frozenset()


# What is installed is looked at once per process, as its versions are.
_installed_names = observed.cached(_listed_now)


def _shown(path: str, root: str) -> str:
    if distributions.site_of(path, root):
        return INSTALLED
    return path[len(root) + 1 :].replace(os.sep, "/") if path.startswith(root + os.sep) else path
