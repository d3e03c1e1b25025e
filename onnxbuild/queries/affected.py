"""Which recipes a change set can affect, and why: by what their last runs rest on. Reads no recipe, plans nothing.

A recipe is left out only where its last run tells all that a build reads: its file, its declared files, its packages and
whatever its stages were found to use are as they were then, and the change set touches none of them. Then the builds
before and after it read the same. Where anything is not as it was, the recipe is named, whoever changed it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

import onnxbuild
from onnxbuild.discovery import inputs
from onnxbuild.discovery.names import OWN
from onnxbuild.queries import pins
from onnxbuild.queries.touched import Touched
from onnxbuild.store import traces
from onnxbuild.store.digests import Digests
from onnxbuild.store.traces import Basis, Latest
from onnxbuild.system import distributions, machine, project
from onnxbuild.system.changes import GONE, NEW, Changes

NEVER = "never built here, so nothing is known of what its code reads"
_PROJECT = "pyproject.toml"
_PROCESSOR = {"cpu", "cpu_flags", "cores"}  # that a build is measured on: what its code reads does not depend on it

Stores = Callable[[str], tuple[Path, Digests]]  # by a project's root: its store's folder, and a memory of digests
Kind = Literal["recipe", "input", "package", "code", "store"]


class Cause(Struct, frozen=True):
    """Why a change set can affect a recipe.

    `kind`: recipe (its file, its lock), input (a file, folder or module that its build reads), package (a version, or a
    pin), code (onnxbuild's own), store (what was built does not tell). `path` is the changed path, from the top of the work
    tree, "" where something else is not as it was; `stages` are those that read it.
    """

    kind: Kind
    text: str
    path: str = ""
    stages: list[str] = []


class Affected(Struct, frozen=True):
    """A recipe that a change set can affect. `name` is None, and so is `seconds`, of one that was never built here;
    `seconds` is what its stages took together when they were last run.
    """

    path: str  # as it was given
    name: str | None
    reasons: list[Cause]
    seconds: float | None


class _Use(Struct, frozen=True):
    """Something that is not as it was, of those that traces or a basis name; `stages` come later."""

    kind: Kind
    text: str
    path: str


class _Project:
    """One project, whose recipes share what was looked at."""

    def __init__(self, root: str, store: Path, digests: Digests, touched: Touched, changes: Changes) -> None:
        self.root, self._store, self._digests = root, store, digests
        self._touched, self._changes = touched, changes
        self._now: dict[str, str] = {}
        self._facets: dict[tuple[str, ...], dict[str, str]] = {}
        self._uses: dict[str, list[_Use] | None] = {}  # by the digest of what was discovered, which names a trace's file
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

    def uses(self, place: str) -> list[_Use] | None:
        """What is not as it was, or was changed, of all that a trace depends on; None where the trace is lost."""
        known = place.rpartition("/")[2]
        if known not in self._uses:
            found = traces.discovered(self._store, place)
            self._uses[known] = None if found is None else list(self.changed(found))
            self._packages[known] = frozenset(_packages(found or {}))
            if any(_seeks(name, digest) for name, digest in (found or {}).items()):
                self._seeks.add(known)
        return self._uses[known]

    def changed(self, names: Mapping[str, str]) -> Iterator[_Use]:
        """Of these names, with their digests, what is not as it was, and what the change set touches."""
        for name, was in names.items():
            path = self._touched.named(name, self.root)
            if path:
                yield _Use("input", f"{path} {self._changes.paths[path]}", path)
            elif (now := self.digest(name)) != was:
                yield self._not_as_it_was(name, was, now)

    def _not_as_it_was(self, name: str, was: str, now: str) -> _Use:
        if now == "unknown":
            return _Use("store", f"what its last build recorded as {name} is of a later onnxbuild", "")
        one = inputs.parse(name)
        said = " ".join(one.say(was, now).split())
        if isinstance(one, inputs.Package):
            return _Use("package", f"{said}, as it was last built", "")
        return _Use("input", f"{said} since its last build here", "")

    def packages(self, latest: Latest, basis: Basis) -> dict[str, set[str]]:
        """The distributions that a recipe's build uses, each with the stages that are known to."""
        found: dict[str, set[str]] = {_family(distributions.normalise_name(name)): set() for name in basis.tools}
        for name in _packages(basis.reads):
            found.setdefault(name, set())
        for stage, place in latest.traces.items():
            for name in self._packages.get(place.rpartition("/")[2], ()):
                found.setdefault(name, set()).add(stage)
        return found

    def seeking(self, latest: Latest) -> list[str]:
        """The stages that looked for modules, or for plug-ins, which a package may bring that is not installed yet."""
        return sorted(stage for stage, place in latest.traces.items() if place.rpartition("/")[2] in self._seeks)


class Search:
    """Goes through recipes, for one change set."""

    def __init__(self, changes: Changes, stores: Stores) -> None:
        self._changes, self._stores = changes, stores
        self._touched = Touched(changes)
        self._projects: dict[str, _Project] = {}
        self._roots: dict[str, str] = {}
        self._pins = {
            path: pins.moved(path, *contents)
            for path in changes.paths
            if pins.is_pins(path, *(contents := self._both(path)))
        }
        self._marks = {
            path: os.path.join(changes.top, os.path.dirname(path), "")
            for path, how in changes.paths.items()
            if os.path.basename(path) == _PROJECT and how in (NEW, GONE)
        }
        own = os.path.realpath(OWN) + os.sep
        of_ours = (path for path in changes.paths if f"{changes.top}{os.sep}{path}".startswith(own))
        self._code = next(of_ours, "")

    def of(self, path: str) -> Affected | None:
        """A recipe that the change set can affect, with the reasons, the most telling first; None for any other.

        Raises UserError where its store is refused.
        """
        absolute = os.path.abspath(path)
        folder = os.path.dirname(absolute)
        if folder not in self._roots:
            self._roots[folder] = project.root_of(absolute)
        here = self._project(self._roots[folder])
        latest = here.latest(absolute)
        basis = latest.basis if latest else None
        causes = [*self._of_recipe(absolute, latest)]
        if latest is None or basis is None:
            why = NEVER if latest is None else "last built by an older onnxbuild, so not all is known of what it reads"
            causes += [Cause("store", why)] if self._changes.paths else []
        else:
            causes += self._of_build(here, latest, basis)
            if not causes and here.digest(f"file:{os.path.relpath(absolute, here.root)}") != basis.sha256:
                causes = [Cause("recipe", "the recipe is not as it was when it was last built here")]
        name = latest.recipe if latest else None
        return Affected(path, name, causes, basis.seconds if basis else None) if causes else None

    def _project(self, root: str) -> _Project:
        if root not in self._projects:
            self._projects[root] = _Project(root, *self._stores(root), self._touched, self._changes)
        return self._projects[root]

    def _both(self, path: str) -> tuple[bytes | None, bytes | None]:
        """A changed file before and now; nothing of one that can't say which packages are installed."""
        if not path.endswith((".txt", ".in", ".toml", ".lock")):
            return None, None
        before = None if self._changes.paths[path] == NEW else self._changes.before(path)
        return before, self._changes.now(path)

    def _of_recipe(self, path: str, latest: Latest | None) -> Iterator[Cause]:
        """The recipe's own file, its lock, and what says where its project begins."""
        touched = self._touched.path(path)
        if touched:
            yield Cause("recipe", f"{touched} {self._changes.paths[touched]}", touched)
        stem, _ = os.path.splitext(path)
        names = [stem, *([os.path.join(os.path.dirname(path), latest.recipe)] if latest else [])]
        for lock in dict.fromkeys(f"{name}.lock.yaml" for name in names):
            if at := self._touched.path(lock):
                yield Cause("recipe", f"{at} {self._changes.paths[at]}", at)
        for at, folder in self._marks.items():
            if path.startswith(folder):
                yield Cause("recipe", f"{at} {self._changes.paths[at]}, so the project may begin elsewhere", at)

    def _of_build(self, here: _Project, latest: Latest, basis: Basis) -> list[Cause]:
        """All that the last run of a recipe rests on and is, or may be, another."""
        found: dict[tuple[Kind, str, str], list[str]] = {}
        lost = [stage for stage, place in latest.traces.items() if here.uses(place) is None]
        for use in here.changed(basis.reads):
            found.setdefault((use.kind, use.text, use.path), [])
        for stage, place in sorted(latest.traces.items()):
            for use in here.uses(place) or ():
                found.setdefault((use.kind, use.text, use.path), []).append(stage)
        causes = [_cause(kind, text, path, stages) for (kind, text, path), stages in found.items()]
        return [
            *sorted(causes, key=lambda one: (not one.path, one.kind != "input", one.text)),
            *self._of_packages(here, latest, basis, {cause.text.partition(" ")[0] for cause in causes}),
            *self._of_pins(here, latest, basis),
            *self._of_unknown(latest, basis, lost),
        ]

    def _of_packages(self, here: _Project, latest: Latest, basis: Basis, told: set[str]) -> Iterator[Cause]:
        """Versions that are not as they were."""
        facets = tuple(sorted(basis.platform.keys() - _PROCESSOR))
        before = {name: basis.platform[name] for name in facets} | basis.tools
        now = here.facets(facets) | _versions(tuple(basis.tools))
        for name, version in before.items():
            if now.get(name, "absent") != version and name not in told:
                yield Cause("package", f"{name} {version} -> {now.get(name, 'absent')}: that is what is installed here")

    def _of_pins(self, here: _Project, latest: Latest, basis: Basis) -> Iterator[Cause]:
        """Pins that may move some version."""
        uses = here.packages(latest, basis) if self._pins else {}
        for path, one in self._pins.items():
            if one.anything:
                yield Cause("package", one.anything, path)
            if one.node and any(name.startswith(machine.NPM) for name in basis.platform):
                yield Cause("package", one.node, path)
            for name, words in one.packages.items():
                if (family := _family(name)) in uses:
                    yield _cause("package", words, path, sorted(uses[family]))
                elif name in one.new and (stages := here.seeking(latest)):
                    text = f"{words}, and what it brings may be what was looked for and was not there"
                    yield _cause("package", text, path, stages)

    def _of_unknown(self, latest: Latest, basis: Basis, lost: list[str]) -> Iterator[Cause]:
        """What keeps it from being told that nothing changed."""
        if not self._changes.paths:
            return
        if self._code:
            yield Cause("code", f"{self._code} {self._changes.paths[self._code]}, which is of onnxbuild itself", self._code)
        if basis.version != onnxbuild.__version__:
            yield Cause("code", f"onnxbuild {basis.version} -> {onnxbuild.__version__}, as it was last built")
        unknown = sorted({*lost, *basis.unknown, *(latest.keys.keys() - latest.traces.keys())})
        if unknown:
            some = f"{', '.join(unknown[:3])}{' and others' if unknown[3:] else ''}"
            text = f"its last run left no result of {some}, so it is not known what is read there"
            yield Cause("store", text, "", unknown)


def _cause(kind: Kind, text: str, path: str, stages: list[str]) -> Cause:
    """A cause with its stages, which its sentence names where they are few."""
    stages = list(dict.fromkeys(stages))
    shown = f"{', '.join(stages[:3])}{f' and {len(stages) - 3} more' if stages[3:] else ''}"
    return Cause(kind, f"{text} ({shown})" if stages else text, path, stages)


def _packages(names: Iterable[str]) -> Iterator[str]:
    """The distributions among what a trace depends on."""
    for name in names:
        kind, _, place = name.partition(":")
        if kind in ("dist", "version") and place:
            yield _family(distributions.normalise_name(place.partition(" ")[0]))


def _seeks(name: str, digest: str) -> bool:
    """Whether a name of a trace stands for something that a package may bring which is not installed yet."""
    kind, _, place = name.partition(":")
    if kind in ("import", "tools", "inside"):
        found = digest.splitlines() if "=" in digest else []
        return len(found) < len(place.rpartition(":")[2].split(" "))
    return kind in ("plugins", "finders", "site") or name == "version:"


_looked: dict[tuple[str, ...], dict[str, str]] = {}


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    if names not in _looked:
        _looked[names] = distributions.versions(names)
    return _looked[names]


def _family(name: str) -> str:
    """A distribution's name, or that of the package which it and others provide."""
    return next((package for package, pattern in distributions.VARIANTS.items() if re.fullmatch(pattern, name)), name)
