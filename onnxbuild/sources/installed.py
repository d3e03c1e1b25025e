"""Files that installed packages ship, found without importing the package. No source of its own; light to import."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from onnxbuild.errors import StageError


def declared(path: str, package: str) -> str:
    """A declared file's path: below the folder of `package` where one is named, else as it is. Raises StageError."""
    if not package:
        return path
    top, *inner = package.split(".")
    spec = find_spec(top)  # of a dotted name, find_spec imports the parents
    if spec is None or not spec.submodule_search_locations:
        raise StageError(f"the package '{package}' is not installed", f"pip install {top}")
    return str(Path(next(iter(spec.submodule_search_locations)), *inner, path))
