"""What recipes name by module or package: found as Python's import would find it, and nothing imported.

No source of its own; light to import.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder, all_suffixes
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from onnxbuild.errors import StageError
from onnxbuild.system import observed

_PYTHONS_OWN = (BuiltinImporter, FrozenImporter, PathFinder)
_NAME = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
Importable = Annotated[
    str,
    Meta(
        pattern=rf"^{_NAME}:{_NAME}$(?!\n)",  # Python's `$` alone would let a last line break through
        max_length=200,
        extra_json_schema={"x-expected": "module:callable, resolved from the project root"},
    ),
]
Sha256 = Annotated[
    str, Meta(pattern=r"^([0-9a-f]{64})?$(?!\n)", description="64 hexadecimal digits; any other file is refused.")
]


def declared(path: str, package: str) -> str:
    """A declared file's path: below the folder of `package` where one is named, else as it is. Raises StageError."""
    if not package:
        return path
    folder = folder_of(package)
    if folder is None:
        raise StageError(f"the package '{package}' is not installed", f"pip install {package.partition('.')[0]}")
    return str(folder / path)


def folder_of(package: str) -> Path | None:
    """The folder of an installed package, the first where it has several; None where there is no such package."""
    below: Sequence[str] | None = [folder or "." for folder in sys.path]
    for number, part in enumerate(package.split(".")):
        found = spec(part, below, top=number == 0) if part and below else None  # no finder expects an empty name
        below = found.submodule_search_locations if found is not None else None
    return Path(next(iter(below))) if below else None


def spec(part: str, folders: Sequence[str], *, top: bool) -> ModuleSpec | None:
    """Where a module is, by its last name and the folders of what it is in; `top` where it is in nothing."""
    _look_for(part, folders)
    # By its last name alone: with a dotted one, namespace packages ask for their parents in sys.modules.
    for attempt in range(2):
        if attempt:
            importlib.invalidate_caches()  # a file may be younger than what the finders remember of its folder
        found = PathFinder.find_spec(part, list(folders))
        if found is not None:
            return found
    for finder in sys.meta_path if top else ():  # built-in modules, and hooks such as editable installations
        found = finder.find_spec(part, None) if hasattr(finder, "find_spec") else None
        if found is not None:
            if finder not in _PYTHONS_OWN:
                observed.doubt(f"{finder} knows where {part} is, and nothing tells what that rests on")
            return found
    return None


def _look_for(part: str, folders: Sequence[str]) -> None:
    """Note what decides where Python finds a module: the names in the folders, and what links among them lead to."""
    for folder in folders:
        observed.folder(folder)
        inner = os.path.join(folder, part)  # noqa: PTH118  # strings, as importlib has them
        if os.path.isdir(inner):  # noqa: PTH112  # ditto
            observed.folder(inner)
        for start in (inner, os.path.join(inner, "__init__")):  # noqa: PTH118  # ditto
            for path in (f"{start}{suffix}" for suffix in all_suffixes()):
                if os.path.lexists(path):
                    with contextlib.suppress(OSError):
                        observed.stat(path)
