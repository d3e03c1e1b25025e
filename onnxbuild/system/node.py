"""Node.js and its packages on this machine, found as a shell and as node itself find them. Knows no package by name.

Runs `node --version` once per command at most; everything else is looked at, and nothing is loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from onnxbuild.system import files, observed

ABSENT = "absent"
LIMIT_S = 30  # node answers in a twentieth of a second
SMALLEST = 1 << 20  # bytes; node itself has a hundred times as many, a version manager's stand-in a few thousand


@observed.cached
def executable() -> str:
    """The program that `node` starts, "" where there is none on the PATH."""
    for folder in (observed.variable("PATH") or "").split(os.pathsep):
        path = os.path.join(folder or os.curdir, "node.exe" if os.name == "nt" else "node")  # noqa: PTH118  # hot path
        if observed.kind(path) == "file" and os.access(path, os.X_OK):
            return path
    return ""


@observed.cached
def version() -> str:
    """What node says its version is ("v20.20.2"), "absent" where there is no node, or none that runs."""
    path = executable()
    if not path:
        return ABSENT
    if observed.stat(path).st_size < SMALLEST:
        observed.doubt(f"{path} is no node, and nothing tells which one it starts")
    try:
        ran = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ABSENT
    return ran.stdout.strip()


def package(name: str, root: str | os.PathLike[str]) -> str:
    """The folder of a package that code in the folder `root` would load, "" for none: in its node_modules, or above.

    See "Loading from node_modules folders" in node's documentation.
    """
    above = os.path.abspath(root)  # noqa: PTH100  # realpath would leave the folder of a linked project
    while True:
        folder = os.path.join(above, "node_modules", name)  # noqa: PTH118  # hot path
        if observed.kind(os.path.join(folder, "package.json")) == "file":  # noqa: PTH118  # ditto
            return folder
        if above == os.path.dirname(above):  # noqa: PTH120  # ditto
            return ""
        above = os.path.dirname(above)  # noqa: PTH120  # ditto


def package_version(folder: str) -> str:
    """The version that the package in a folder has by its own word, "" where it has none."""
    try:
        told = json.loads(files.read(Path(folder, "package.json")))
    except (OSError, ValueError):
        return ""
    return str(told.get("version", "")) if isinstance(told, dict) else ""
