"""What the recipes of a project were last built of, and which of it is not as it was, or is touched by a change set.

Reads the store's latest runs and each distinct set of what was discovered once, whichever traces have it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from onnxbuild.discovery import inputs
from onnxbuild.queries.touched import Touched
from onnxbuild.store import traces
from onnxbuild.store.digests import Digests
from onnxbuild.store.traces import Basis, Latest
from onnxbuild.system import distributions, machine
from onnxbuild.system.changes import Changes

Kind = Literal["recipe", "input", "package", "code", "store"]


class Use(Struct, frozen=True):
    """Something that is not as it was, of those that traces or a basis name; `stages` come later."""

    kind: Kind
    text: str
    path: str


class Project:
    """One project, whose recipes share what was looked at."""

    def __init__(self, root: str, store: Path, digests: Digests, touched: Touched, changes: Changes) -> None:
        self.root, self._store, self._digests = root, store, digests
        self._touched, self._changes = touched, changes
        self._now: dict[str, str] = {}
        self._facets: dict[tuple[str, ...], dict[str, str]] = {}
        self._uses: dict[str, list[Use] | None] = {}  # by the digest of what was discovered, which names a trace's file
        self._packages: dict[str, frozenset[str]] = {}
        self._seeks: set[str] = set()  # of those, the ones where a module was looked for that was not there
        self._latest: dict[str, list[Latest]] = {}
        for _, latest in traces.all_latest(store):
            if latest is not None and latest.project in ("", root):
                file = os.path.normpath(os.path.join(os.path.abspath(store), latest.file))
                self._latest.setdefault(file, []).append(latest)

    def latest(self, path: str) -> Latest | None:
        """The last run of the recipe in a file; where its name was changed, the one of the file as it is."""
        runs = self._latest.get(path, [])
        now = self.digest(f"file:{os.path.relpath(path, self.root)}") if runs else ""
        return next((one for one in runs if one.basis and one.basis.sha256 == now), runs[-1] if runs else None)

    def digest(self, name: str) -> str:
        """Today's digest of a name that a trace has."""
        if name not in self._now:
            self._now[name] = inputs.digest(name, Path(self.root), self._digests.of)
        return self._now[name]

    def facets(self, names: tuple[str, ...]) -> dict[str, str]:
        """Today's facets of the machine."""
        if names not in self._facets:
            self._facets[names] = machine.facets(names, self.root)
        return self._facets[names]

    def uses(self, place: str) -> list[Use] | None:
        """What is not as it was, or was changed, of all that a trace depends on; None where the trace is lost."""
        known = place.rpartition("/")[2]
        if known not in self._uses:
            found = traces.discovered(self._store, place)
            self._uses[known] = None if found is None else list(self.changed(found))
            self._packages[known] = frozenset(_packages(found or {}))
            if any(_seeks(name, digest) for name, digest in (found or {}).items()):
                self._seeks.add(known)
        return self._uses[known]

    def changed(self, names: Mapping[str, str]) -> Iterator[Use]:
        """Of these names, with their digests, what is not as it was, and what the change set touches."""
        for name, was in names.items():
            path = self._touched.named(name, self.root)
            if path:
                yield Use("input", f"{path} {self._changes.paths[path]}", path)
            elif (now := self.digest(name)) != was:
                yield self._not_as_it_was(name, was, now)

    def _not_as_it_was(self, name: str, was: str, now: str) -> Use:
        if now == "unknown":
            return Use("store", f"what its last build recorded as {name} is of a later onnxbuild", "")
        one = inputs.parse(name)
        said = " ".join(one.say(was, now).split())
        return Use("package" if isinstance(one, inputs.Package) else "input", f"{said} since its last build here", "")

    def packages(self, latest: Latest, basis: Basis) -> dict[str, set[str]]:
        """The distributions that a recipe's build uses, each with the stages that are known to."""
        found: dict[str, set[str]] = {family(distributions.normalise_name(name)): set() for name in basis.tools}
        for name in _packages(basis.reads):
            found.setdefault(name, set())
        for stage, place in latest.traces.items():
            for name in self._packages.get(place.rpartition("/")[2], ()):
                found.setdefault(name, set()).add(stage)
        return found

    def seeking(self, latest: Latest) -> list[str]:
        """The stages that looked for modules, or for plug-ins, which a package may bring that is not installed yet."""
        return sorted(stage for stage, place in latest.traces.items() if place.rpartition("/")[2] in self._seeks)


def _packages(names: Iterable[str]) -> Iterator[str]:
    """The distributions among what a trace depends on."""
    for name in names:
        kind, _, place = name.partition(":")
        if kind in ("dist", "version") and place:
            yield family(distributions.normalise_name(place.partition(" ")[0]))


def _seeks(name: str, digest: str) -> bool:
    """Whether a name of a trace stands for something that a package may bring which is not installed yet."""
    kind, _, place = name.partition(":")
    if kind in ("import", "tools", "inside"):
        found = digest.splitlines() if "=" in digest else []
        return len(found) < len(place.rpartition(":")[2].split(" "))
    return kind in ("plugins", "finders", "site") or name == "version:"


def family(name: str) -> str:
    """A distribution's name, or that of the package which it and others provide."""
    return next((package for package, pattern in distributions.VARIANTS.items() if re.fullmatch(pattern, name)), name)
