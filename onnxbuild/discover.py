"""What a stage turned out to depend on: the modules it loaded and the files it opened.

Names are the same on every machine: `file:recipes/models/resnet.py` (below the project root), `dist:torch 2.13.0` (a
distribution, known by the digest of its RECORD), `path:/somewhere/else.py` (any other file). The recording half runs in
the child; the checking half in the parent, and imports nothing heavy. Blind spot: files that native code opens without
Python knowing, which is why weights are declared inputs.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from onnxbuild import toolchain

_OWN = "onnxbuild"  # our own code enters a key as each stage's VERSION


class Recorder:
    """Records, in a child, what is loaded and opened from now on."""

    def __init__(self, root: Path, ignore: Iterable[Path]) -> None:
        self.root = root.resolve()
        self.modules_before = set(sys.modules)
        self.opened: set[str] = set()
        self._ignore = tuple(str(path.resolve()) + os.sep for path in ignore)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open":
            return
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and any(letter in mode for letter in "wax+")) or (
            mode is None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if isinstance(path, str | bytes | os.PathLike) and not writes:
            self.opened.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  # resolve() would open things here

    def names(self, preloaded: Iterable[str] = ()) -> set[str]:
        """The names of everything recorded, and of the modules in `preloaded`."""
        found = set()
        opened = sorted(self.opened)  # what is opened from here on is our own doing
        loaded = (set(sys.modules) - self.modules_before) | set(preloaded)
        for module in loaded:
            origin = _origin(sys.modules.get(module))
            if origin and (name := self._name(origin)):
                found.add(name)
        for path in opened:
            inside = path.startswith(str(self.root) + os.sep)
            if inside and not _in_site_packages(path) and "__pycache__" not in path and (name := self._name(path)):
                found.add(name)
        return found

    def _name(self, path: str) -> str | None:
        path = os.path.realpath(path)
        if path.startswith(self._ignore) or not os.path.isfile(path):  # noqa: PTH113  # hot path
            return None
        if site := _in_site_packages(path):
            return _distribution_name(path, site)
        if _in_own_package(path) or _in_standard_library(path):
            return None
        if path.startswith(str(self.root) + os.sep):
            return f"file:{Path(path).relative_to(self.root).as_posix()}"
        return f"path:{path}"


def digest(name: str, root: Path, file_digest: Callable[[Path], str]) -> str:
    """Today's digest of a recorded name; "absent" where it is gone or is another version."""
    kind, _, rest = name.partition(":")
    if kind == "dist":
        distribution, _, version = rest.partition(" ")
        installed = toolchain.distributions().get(distribution, ("absent", ""))[0]
        return toolchain.record_digest(distribution) if installed == version else f"absent, {installed} is installed"
    try:
        return file_digest(root / rest if kind == "file" else Path(rest))
    except OSError:
        return "absent"


def say(name: str, before: str, now: str) -> str:
    """A sentence on why a recorded name no longer holds."""
    kind, _, rest = name.partition(":")
    if kind == "dist":
        distribution, _, version = rest.partition(" ")
        if now.startswith("absent"):
            return f"{distribution} {version} -> {now.removeprefix('absent, ').removesuffix(' is installed')}"
        return f"{distribution} {version}: its installed files changed"
    return f"{rest} {'is gone' if now == 'absent' else 'changed'}" if before != now else f"{rest} is unchanged"


def _origin(module: Any) -> str | None:
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or getattr(module, "__file__", None)
    return origin if isinstance(origin, str) and os.path.isabs(origin) else None  # noqa: PTH117  # hot path


def _in_site_packages(path: str) -> str | None:
    for marker in (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"):
        if marker in path:
            return path[: path.rindex(marker) + len(marker)]
    return None


def _distribution_name(path: str, site: str) -> str | None:
    top = path[len(site) :].split(os.sep, 1)[0].split(".", 1)[0]
    for name in sorted(toolchain.owners().get(top, ())):
        if name != _OWN:
            return f"dist:{name} {toolchain.distributions()[name][0]}"
    return None if _OWN in toolchain.owners().get(top, ()) else f"path:{path}"


def _in_own_package(path: str) -> bool:
    return path.startswith(str(Path(__file__).resolve().parent) + os.sep)


def _in_standard_library(path: str) -> bool:
    places = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sys.base_prefix}
    return any(path.startswith(os.path.realpath(place) + os.sep) for place in places if place)
