"""From a touched path to the names that a trace has for it; see `inputs` for those.

Decides what of a machine is an input at all. Knows no modules and no process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnxbuild
from onnxbuild.discovery import inputs, places
from onnxbuild.discovery.accesses import Access, How
from onnxbuild.system import distributions

OWN = str(Path(onnxbuild.__file__).resolve().parent) + os.sep  # our own code enters a key as each stage's VERSION
OWN_NAME = "onnxbuild"
_KERNEL = ("/proc/", "/sys/", "/dev/")  # what it tells of this instant
_SYSTEM = ("/etc/", "/usr/", "/lib/", "/lib64/", "/run/")
_DATA = ("/dev/shm/", "/run/media/", "/usr/local/share/")  # noqa: S108  # though below one of those


class Names:
    """The names of paths, for a project and what lies in it and is no input."""

    def __init__(self, root: Path, ignore: Iterable[Path]) -> None:
        self.root = str(root.absolute())
        self.roots = tuple(dict.fromkeys((self.root, str(root.resolve()))))
        self._ignore = {form for path in ignore for form in (str(path.absolute()), str(path.resolve()))}
        self._ignore_below = tuple(f"{path}{os.sep}" for path in self._ignore)
        temporary = {f(tempfile.gettempdir()) + os.sep for f in (os.path.abspath, os.path.realpath)}
        self._temporary = tuple(temporary)
        # a project below the temporary folder has its neighbours there too
        self._neighbours = tuple(
            f"{folder}{root[len(folder) :].split(os.sep, 1)[0]}{os.sep}"
            for folder in temporary
            for root in self.roots
            if root.startswith(folder)
        )
        self._above = {parent for place in (*self.roots, sys.prefix, sys.base_prefix) for parent in _and_above(place)}

    def of(self, path: str, access: Access, *, home: bool) -> list[str]:
        """The names of a touched path; none where it is no input. `home`: somebody asked where that is."""
        inner = self.inside(path)
        if inner is not None:
            return self._in_project(path, inner, access)
        names = self._elsewhere(path, access)
        if names and names[0].startswith("?"):
            at = places.outside(path, self.root, relative=access.relative, absolute=access.absolute, home=home)
            return [_named(names[0][1:], place) for place in at]
        return names

    def links(self, path: str, access: Access, *, home: bool) -> list[str]:
        """The names of a link whose aim was asked for."""
        inner = self.inside(path)
        if inner is not None:
            return [] if inputs.is_passed_over(inner) else [f"link:{places.below_root(inner)}"]
        if path in self._above or self.is_shy(path, access) or self.is_others(path) or path.startswith(_KERNEL):
            return []
        at = places.outside(path, self.root, relative=access.relative, absolute=access.absolute, home=home)
        return [f"link:{place}" for place in at]

    def _in_project(self, path: str, inner: str, access: Access) -> list[str]:
        how = access.first
        if inputs.is_passed_over(inner) or (how is How.LOOK and not inner):
            return []
        if how is How.LIST or (how is How.LOOK and os.path.isdir(path)):  # noqa: PTH112  # hot path
            own = f"{path}{os.sep}".startswith(OWN)
            passed_over = own or self.is_ignored(path) or inputs.is_published(path, inner)
            kind = "list" if how is How.LIST else "kind"
            return [] if passed_over else [f"{kind}:{places.below_root(inner) or '.'}"]
        if os.path.isfile(path):  # noqa: PTH113  # hot path
            return self._known(path)
        return (
            [f"file:{places.below_root(inner)}"]
            if inner and not self.is_ignored(path) and not self.is_others(path)
            else []
        )

    def _elsewhere(self, path: str, access: Access) -> list[str]:
        """As `of`; "?file", "?list" and "?kind" where the place is still to be written down."""
        if f"{os.sep}__pycache__{os.sep}" in path:
            return self._of_bytecode(path) if access.forked else []
        there = os.path.isfile(path)  # noqa: PTH113  # hot path
        looked = access.first is How.LOOK
        if self.is_others(path):
            site = distributions.site_of(path, self.root) if there and not looked else ""
            return self._known(path) if site and not _is_metadata(path, site) else []
        if self._says_nothing(path, access, there=there):
            return []
        if there:
            known = self._known(path)
            return ["?file"] if known == [f"path:{path}"] else known
        if access.first is How.LIST:
            return ["?list"]
        return ["?kind"] if looked and os.path.isdir(path) else ["?file"]  # noqa: PTH112  # hot path

    def _says_nothing(self, path: str, access: Access, *, there: bool) -> bool:
        """Whether a path outside the project is no input as it was touched."""
        if path in self._above or self.is_ignored(path) or (path.startswith(_KERNEL) and not path.startswith(_DATA)):
            return True
        if self.is_shy(path, access) and (access.first is How.LOOK or not there or _is_system(path)):
            return True
        return access.walked and access.there is not None  # on the way to what was asked for

    def is_shy(self, path: str, access: Access) -> bool:
        """Whether a path says something only where the project's own code asked: settings of whoever builds, what is
        temporary and the system's come and go, and libraries look around a lot.
        """
        return not access.by_code and self.needs_author(path)

    def needs_author(self, path: str) -> bool:
        """Whether it matters who asks for a path."""
        if self.inside(path) is not None:
            return False
        temporary = path.startswith(self._temporary) and not path.startswith(self._neighbours)
        return temporary or f"{os.sep}." in path or _is_system(path)

    def _known(self, path: str) -> list[str]:
        name = self.file(path)
        return [name] if name else []

    def file(self, path: str) -> str | None:
        """The name of a file that is there; None for one that is no input."""
        while not os.path.isfile(path):  # noqa: PTH113  # a module in an archive
            path, before = os.path.dirname(path), path  # noqa: PTH120  # hot path
            if path == before:
                return None
        for form in _forms(path):
            if form.startswith(OWN) or distributions.is_standard_library(form) or self.is_ignored(form):
                return None
            if site := distributions.site_of(form, self.root):
                inner = form[len(site) + 1 :]
                owner = distributions.owner(site, inner)
                if owner == OWN_NAME:
                    return None
                return f"dist:{owner} {distributions.distributions()[owner][0]}" if owner else f"site:{inner}"
            if inside := self.inside(form):
                return f"file:{places.below_root(inside)}"
        return f"path:{path}"

    def _of_bytecode(self, path: str) -> list[str]:
        try:
            source = importlib.util.source_from_cache(path)
        except ValueError:
            return []
        return self._known(source) if os.path.isfile(source) else []  # noqa: PTH113  # hot path

    def relative(self, path: str) -> str | None:
        """A folder's path below the root, "." for that itself; None where it lies elsewhere or is another's."""
        inner = self.inside(path)
        return None if inner is None or self.is_others(path) else inner or "."

    def inside(self, path: str) -> str | None:
        """A path relative to the project root, with slashes; None where it lies elsewhere."""
        for root in self.roots:
            if path == root or path.startswith(root + os.sep):
                return path[len(root) + 1 :].replace(os.sep, "/")
        return None

    def is_ignored(self, path: str) -> bool:
        """Whether it is no input, or lies below what is none."""
        return path in self._ignore or path.startswith(self._ignore_below)

    def is_others(self, path: str) -> bool:
        """Whether a file or folder is our own, the standard library's or an installed distribution's."""
        return any(
            form.startswith(OWN)
            or distributions.is_standard_library(form)
            or bool(distributions.site_of(form, self.root))
            for form in _forms(path)
        )


def _forms(path: str) -> Iterator[str]:
    """A path, and what it really is: asked for last, since that looks at every folder on the way."""
    yield path
    if (real := os.path.realpath(path)) != path:
        yield real


def _named(kind: str, place: str) -> str:
    """A file from the root upwards is `file`, any other is `path`."""
    if kind == "file" and not place.startswith("../"):
        return f"path:{place}"
    return f"{kind}:{place}"


def _is_system(path: str) -> bool:
    own = (*_SYSTEM, f"{sys.prefix}{os.sep}", f"{sys.base_prefix}{os.sep}")
    return f"{path}{os.sep}".startswith(own) and not path.startswith(_DATA)


def _and_above(place: str) -> Iterable[str]:
    yield from (str(parent) for parent in (Path(place), *Path(place).parents))


def _is_metadata(path: str, site: str) -> bool:
    """Whether a file says what is installed; libraries that look for plug-ins read all of those."""
    return path[len(site) + 1 :].split(os.sep, 1)[0].endswith((".dist-info", ".egg-info", ".pth"))
