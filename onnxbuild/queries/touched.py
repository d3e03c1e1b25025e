"""What of the things that a trace names a change set touches: files, folders, links and where Python finds modules.

By paths alone: it tells of a trace that is newer than the change, too, whose digests all hold. A folder on the way to a
file counts, since a link or a submodule may have changed there. Knows no recipe.
"""

from __future__ import annotations

import os
from pathlib import Path

from onnxbuild.discovery import inputs, places
from onnxbuild.system import distributions
from onnxbuild.system.changes import GONE, NEW, Changes

_HOPS = 40  # links on the way to a file, as the kernel has it


class Touched:
    """Answers for one change set; each thing that is asked for is looked at once."""

    def __init__(self, changes: Changes) -> None:
        self._top = changes.top
        self._changed = {f"{changes.top}{os.sep}{path}": path for path in changes.paths}
        self._links: dict[str, str] = {}
        # by folder: the names in it that came or went, each with the changed path that says so
        self._moved: dict[str, dict[str, str]] = {}
        self._note_moved(changes)
        self._stems = {
            folder: {name.split(".", 1)[0]: path for name, path in names.items()}
            for folder, names in self._moved.items()
        }
        self._known: dict[tuple[str, str], str] = {}

    def path(self, path: str) -> str:
        """The changed path by which a file or folder may be another, "" for none; `path` is an absolute one."""
        if path in self._changed:  # rather than another one of a folder that is new
            return self._changed[path]
        for at in self._trail(path):
            if at in self._changed:
                return self._changed[at]
            folder, name = os.path.split(at)
            if found := self._moved.get(folder, {}).get(name):
                return found
        return ""

    def named(self, name: str, root: str) -> str:
        """The changed path by which a name of a trace may no longer stand for the same, "" for none; see `inputs`."""
        asked = (name, root)
        if asked not in self._known:
            self._known[asked] = self._look(name, Path(root))
        return self._known[asked]

    def _look(self, name: str, root: Path) -> str:
        try:
            one = inputs.parse(name)
        except KeyError:  # of a later version: its digest is not known either
            return ""
        if isinstance(one, inputs.Content):
            return self.path(str(one.path(root)))
        if isinstance(one, inputs.Folder):
            place = os.path.normpath(places.where(one.place, root))
            return self.path(place) or (self._in_folder(place) if one.kind == "list" else "")
        if isinstance(one, inputs.Modules):
            return self._modules(one, root)
        if isinstance(one, inputs.Package):
            folder = distributions.distributions().get(one.place.partition(" ")[0], ("", ""))[1]
            return self.path(folder) if folder else ""
        return ""

    def _in_folder(self, folder: str) -> str:
        return next(iter(self._moved.get(self._real(folder), {}).values()), "")

    def _modules(self, one: inputs.Modules, root: Path) -> str:
        """Whether a file or folder came or went that has the name of one of these modules, where they are looked for."""
        if not self._stems:
            return ""
        if one.kind == "inside":
            folders = [str(root / one.place.rpartition(":")[0])]
        else:
            folders = [str(root), *distributions.search_path()][one.kind == "tools" :]
        for folder in map(self._real, folders):
            for name in one.names:
                at = folder
                for part in name.split("."):
                    if found := self._stems.get(at, {}).get(part):
                        return found
                    at = self._real(f"{at}{os.sep}{part}")
                    if found := self._stems.get(at, {}).get("__init__"):
                        return found
        return ""

    def _note_moved(self, changes: Changes) -> None:
        """Take down each path that came or went, and each folder that did with it."""
        came = [path for path, how in changes.paths.items() if how == NEW]
        above = {path: _above(path) for path in changes.paths if changes.paths[path] in (NEW, GONE)}
        asked = dict.fromkeys(folder for path in came for folder in above[path])
        before = changes.there_at_revision(asked) if asked else set()
        for path, folders in above.items():
            self._note(path, path)
            for folder in folders:
                was = folder in before or changes.paths[path] == GONE
                if was and os.path.isdir(f"{changes.top}{os.sep}{folder}"):
                    break  # it was there and is, and so is what it lies in
                self._note(folder, path)

    def _note(self, moved: str, path: str) -> None:
        folder, name = os.path.split(f"{self._top}{os.sep}{moved}")
        self._moved.setdefault(folder, {}).setdefault(name, path)

    def _real(self, path: str) -> str:
        trail = self._trail(path)
        return trail[-1] if trail else path

    def _trail(self, path: str) -> list[str]:
        """All that is passed on the way to a path, each link and where it leads; the last is the path without links."""
        passed, hops, at = [], 0, ""
        ahead = [part for part in reversed(path.split(os.sep)) if part]
        while ahead:
            part = ahead.pop()
            if part in (".", ".."):
                at = os.path.dirname(at) if part == ".." else at
                continue
            at = f"{at}{os.sep}{part}"
            passed.append(at)
            aim = self._aim(at)
            if aim and hops < _HOPS:
                hops += 1
                ahead += [part for part in reversed(aim.split(os.sep)) if part]
                at = "" if os.path.isabs(aim) else os.path.dirname(at)
        if passed and passed[-1] != at:  # it ends in a step upwards
            passed.append(at)
        return passed

    def _aim(self, path: str) -> str:
        """Where a link leads, "" for what is none."""
        if path not in self._links:
            try:
                self._links[path] = os.readlink(path)
            except OSError:
                self._links[path] = ""
        return self._links[path]


def _above(path: str) -> list[str]:
    """The folders that a path lies in, the innermost first."""
    found = []
    while path := os.path.dirname(path):
        found.append(path)
    return found
