"""What is installed beside a stage's own packages and still decides what its code gets: entry points, finders, versions.

Reads the files that packages leave where they are installed, and imports nothing. Looked at once per process.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from onnxbuild.system import distributions, files, observed

_PYTHONS_OWN = {"builtins", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "importlib"}
_HARMLESS = {"_distutils_hack", "onnxbuild", "six"}  # they find what lies in one package of theirs


def version(name: str) -> str:
    """The version of a distribution; "absent" where it isn't installed."""
    return distributions.distributions().get(distributions.normalise_name(name), ("absent", ""))[0]


def everything() -> str:
    """The digest of every installed distribution's name and version."""
    lines = sorted(f"{name} {version}" for name, (version, _) in distributions.distributions().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def entry_points(group: str) -> str:
    """The entry points of a group, a line each as "name = module:function [distribution version]"; all where "" is asked."""
    lines = (line for of, line in _entry_points() if group in ("", of))
    return "\n".join(sorted(lines)) or "absent"


@observed.cached
def _entry_points() -> list[tuple[str, str]]:
    """Every group and line of every installed distribution."""
    found = []
    for name, (version_, folder) in distributions.distributions().items():
        try:
            text = files.read(Path(folder, "entry_points.txt")).decode(errors="replace")
        except OSError:
            continue
        group = ""
        for line in map(str.strip, text.splitlines()):
            if line.startswith("[") and line.endswith("]"):
                group = line[1:-1].strip()
            elif line and not line.startswith(("#", ";")):
                found.append((group, f"{' '.join(line.split())} [{name} {version_}]"))
    return found


def finders(names: Sequence[str], file_digest: Callable[[Path], str]) -> str:
    """Where finders on sys.meta_path that are not Python's own lead these top-level modules, a line each; "absent": nowhere.

    setuptools' finders of editable installations say it in a table; of any other its own code is all that can be told.
    """
    lines: list[str] = []
    for finder in sys.meta_path:
        of = finder if isinstance(finder, type) else type(finder)
        module = sys.modules.get(of.__module__)
        if of.__module__.partition(".")[0] in _PYTHONS_OWN | _HARMLESS or module is None:
            continue
        tables = [table for table in (getattr(module, "MAPPING", None), getattr(module, "NAMESPACES", None)) if table]
        if tables:
            observed.doubt("a finder of an editable installation is asked anew each time")
            lines += [f"{name}={table[name]}" for table in tables for name in names if name in table]
        elif isinstance(file := getattr(module, "__file__", None), str):
            lines.append(f"{of.__module__}.{of.__qualname__}={_content(file, file_digest)}")
        else:
            lines.append(f"{of.__module__}.{of.__qualname__}=built in")
    return "\n".join(sorted(lines)) or "absent"


def _content(file: str, file_digest: Callable[[Path], str]) -> str:
    try:
        return file_digest(Path(os.path.realpath(file)))
    except OSError:
        return "absent"
