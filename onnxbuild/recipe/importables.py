"""Whether "module:function" can be imported, found out without running any code.

Walks from package to package as Python's import would, but imports nothing, then reads the module's source; the project's
own files are compiled on the way. What source can't tell (a star import, a compiled module, names made at run time) is
given the benefit of the doubt.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.sources import installed
from onnxbuild.sources.installed import folder_of
from onnxbuild.system import files
from onnxbuild.text.wording import did_you_mean, nearest

if TYPE_CHECKING:
    import ast

__all__ = ["folder_of", "problem"]

# A module that holds one of these may have names that its source does not bind.
_DYNAMIC = re.compile(r"\bimport\s*\(?\s*\*|\b__getattr__\b|\bglobals\s*\(|\bsys\.modules\b|\bexec\s*\(")


def problem(name: str, root: Path) -> tuple[str, str] | None:
    """The fact and the hint of why "module:function" can't be imported from `root`, None where nothing tells so."""
    module, _, attribute = name.partition(":")
    folders = [str(root), *(folder or "." for folder in sys.path)]
    spec: ModuleSpec | None = None
    above = ""
    for part in module.split("."):
        below = folders if spec is None else spec.submodule_search_locations
        above_spec, spec = spec, None if below is None else installed.spec(part, below, top=not above)
        if spec is None:
            return _no_module(part, above, above_spec, root)
        if wrong := _not_valid(spec, root):
            return wrong
        above = f"{above}.{part}" if above else part
    return _no_attribute(attribute.partition(".")[0], module, spec, root) if spec is not None else None


def _no_module(part: str, above: str, parent: ModuleSpec | None, root: Path) -> tuple[str, str] | None:
    if parent is None:
        fact = f"no module '{part}' in {root} or among the installed packages"
        return fact, nearest(part, _modules([str(root)])) or "modules are found from the project root"
    source = _source(parent)
    if parent.origin is not None and (source is None or _DYNAMIC.search(source) or "__path__" in source):
        return None
    folders = list(parent.submodule_search_locations or ())
    if not folders:
        return f"'{above}' is a module, not a package: it holds no module '{part}'", f"write {above}:<function>"
    return f"no module '{part}' in {_shown(Path(folders[0]), root)}", did_you_mean(part, _modules(folders))


def _modules(folders: Sequence[str]) -> Iterator[str]:
    """The modules and packages in some folders."""
    for folder in folders:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if os.access(folder, os.R_OK) else []
        for entry in entries:
            if entry.name.endswith(".py") and entry.name != "__init__.py":
                yield entry.name.removesuffix(".py")
            elif entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir():
                yield entry.name


def _source(spec: ModuleSpec) -> str | None:
    """A module's source, None where it has none that can be read: an empty file says that there is nothing."""
    content = _content(spec)
    return None if content is None else content.decode("utf-8", errors="replace")


def _content(spec: ModuleSpec) -> bytes | None:
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        return files.read(Path(spec.origin))
    except OSError:
        return None


def _not_valid(spec: ModuleSpec, root: Path) -> tuple[str, str] | None:
    """Where a file of the project's own is not valid Python. What is installed is, and may be large."""
    path = Path(spec.origin or "")
    inside = path.relative_to(root).parts if path.is_relative_to(root) else ("site-packages",)
    if {"site-packages", "dist-packages"} & {*inside} or (content := _content(spec)) is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the module's own invalid escapes are not the recipe's
            compile(content, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        place = f"{_shown(path, root)}:{error.lineno}" if error.lineno else _shown(path, root)
        return f"{place}: not valid Python: {error.msg}", "mend the file"
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def _no_attribute(name: str, module: str, spec: ModuleSpec, root: Path) -> tuple[str, str] | None:
    if spec.origin is None and spec.submodule_search_locations is not None:  # a folder without __init__.py
        folder = Path(next(iter(spec.submodule_search_locations)))
        fact = f"{_shown(folder, root)} is a folder of modules, and has no '{name}' of its own"
        return fact, did_you_mean(name, (f"{module}.{below}" for below in _modules([str(folder)])))
    source = _source(spec)
    usual = rf"^(async\s+def|def|class)\s+{name}\b"  # without the cost of parsing
    if source is None or _DYNAMIC.search(source) or re.search(usual, source, re.MULTILINE):
        return None
    file = _shown(Path(str(spec.origin)), root)
    try:
        names = _top_level(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # said of the project's own files before
        return None
    public = [other for other in names if not other.startswith("_")]
    return None if name in names else (f"{file} has no '{name}' at its top level", did_you_mean(name, public))


def _shown(path: Path, root: Path) -> str:
    """A path as the user knows it: from the project root where it lies below."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _top_level(source: str) -> list[str]:
    """The names that a module's source binds at its top level, in order."""
    import ast

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the module's own invalid escapes are not the recipe's
        tree = ast.parse(source)
    return list(dict.fromkeys(name for statement in tree.body for name in _bound(statement)))


def _bound(statement: ast.AST) -> Iterator[str]:
    """The names that a statement binds in the scope it stands in."""
    import ast

    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    if isinstance(statement, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return
    if isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store):
        yield statement.id
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.MatchAs | ast.MatchStar | ast.ExceptHandler) and statement.name:
        yield statement.name
    for part in ast.iter_child_nodes(statement):
        yield from _bound(part)
