"""Which recipes a change set can affect, and why: by what their last runs rest on. Reads no recipe, plans nothing.

A recipe is left out only where its last run tells all that a build reads: its file, its declared files, its packages and
whatever its stages were found to use are as they were then, and the change set touches none of them. Then the builds
before and after it read the same. Where anything is not as it was, the recipe is named, whoever changed it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

import onnxbuild
from onnxbuild.discovery.names import OWN
from onnxbuild.queries import last_builds, pins
from onnxbuild.queries.last_builds import Kind, Project
from onnxbuild.queries.touched import Touched
from onnxbuild.store.digests import Digests
from onnxbuild.store.traces import Basis, Latest
from onnxbuild.system import distributions, machine, project
from onnxbuild.system.changes import GONE, NEW, Changes

NEVER = "never built here, so nothing is known of what its code reads"
_PROJECT = "pyproject.toml"
_PROCESSOR = {"cpu", "cpu_flags", "cores"}  # that a build is measured on: what its code reads does not depend on it

Stores = Callable[[str], tuple[Path, Digests]]  # by a project's root: its store's folder, and a memory of digests


class Cause(Struct, frozen=True):
    """Why a change set can affect a recipe.

    `kind`: recipe (its file, its bases, its lock), input (a file, folder or module that its build reads), package (a
    version, or a pin), code (onnxbuild's own), store (what was built does not tell). `path` is the changed path, from the
    top of the work tree, "" where something else is not as it was; `stages` are those that read it.
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


class Search:
    """Goes through recipes, for one change set."""

    def __init__(self, changes: Changes, stores: Stores) -> None:
        self._changes, self._stores = changes, stores
        self._touched = Touched(changes)
        self._projects: dict[str, Project] = {}
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
                causes = [Cause("recipe", "the recipe changed since its last build here")]
        name = latest.recipe if latest else None
        return Affected(path, name, causes, basis.seconds if basis else None) if causes else None

    def _project(self, root: str) -> Project:
        if root not in self._projects:
            self._projects[root] = Project(root, *self._stores(root), self._touched, self._changes)
        return self._projects[root]

    def _both(self, path: str) -> tuple[bytes | None, bytes | None]:
        """A changed file before and now; nothing of one that can't say which packages are installed."""
        if not path.endswith((".txt", ".in", ".toml", ".lock")):
            return None, None
        before = None if self._changes.paths[path] == NEW else self._changes.before(path)
        return before, self._changes.now(path)

    def _of_recipe(self, path: str, latest: Latest | None) -> Iterator[Cause]:
        """The recipe's own file, its lock, and what says where its project begins."""
        stem, _ = os.path.splitext(path)
        names = [stem, *([os.path.join(os.path.dirname(path), latest.recipe)] if latest else [])]
        touched = (self._touched.path(one) for one in (path, *(f"{name}.lock.yaml" for name in names)))
        for at in dict.fromkeys(filter(None, touched)):
            yield Cause("recipe", f"{at} {self._changes.paths[at]}", at)
        for at, folder in self._marks.items():
            if path.startswith(folder):
                yield Cause("recipe", f"{at} {self._changes.paths[at]}, so the project may begin elsewhere", at)

    def _of_build(self, here: Project, latest: Latest, basis: Basis) -> list[Cause]:
        """All that the last run of a recipe rests on and is, or may be, another."""
        found: dict[tuple[Kind, str, str], list[str]] = {}
        lost = [stage for stage, place in latest.traces.items() if here.uses(place) is None]
        for use in here.changed(basis.reads):
            found.setdefault((use.kind, use.text, use.path), [])
        for stage, place in sorted(latest.traces.items()):
            for use in here.uses(place) or ():
                found.setdefault((use.kind, use.text, use.path), []).append(stage)
        causes = [_cause(kind, text, path, stages) for (kind, text, path), stages in found.items()]
        bases = here.changed(basis.bases)
        return [
            *(Cause("recipe", f"its base {use.text}", use.path) for use in bases),
            *sorted(causes, key=lambda one: (not one.path, one.kind != "input", one.text)),
            *self._of_packages(here, basis, {cause.text.partition(" ")[0] for cause in causes}),
            *self._of_pins(here, latest, basis),
            *self._of_unknown(latest, basis, lost),
        ]

    def _of_packages(self, here: Project, basis: Basis, told: set[str]) -> Iterator[Cause]:
        """Versions that are not as they were."""
        facets = tuple(sorted(basis.platform.keys() - _PROCESSOR))
        before = {name: basis.platform[name] for name in facets} | basis.tools
        now = here.facets(facets) | _versions(tuple(basis.tools))
        for name, version in before.items():
            if now.get(name, "absent") != version and name not in told:
                yield Cause("package", f"{name} {version} -> {now.get(name, 'absent')} since its last build here")

    def _of_pins(self, here: Project, latest: Latest, basis: Basis) -> Iterator[Cause]:
        """Pins that may move some version."""
        uses = here.packages(latest, basis) if self._pins else {}
        for path, one in self._pins.items():
            if one.anything:
                yield Cause("package", one.anything, path)
            if one.node and any(name.startswith(machine.NPM) for name in basis.platform):
                yield Cause("package", one.node, path)
            for name, words in one.packages.items():
                if (family := last_builds.family(name)) in uses:
                    yield _cause("package", words, path, sorted(uses[family]))
                elif name in one.new and (stages := here.seeking(latest)):
                    text = f"{words}, and what it brings may be what was looked for and was not there"
                    yield _cause("package", text, path, stages)

    def _of_unknown(self, latest: Latest, basis: Basis, lost: list[str]) -> Iterator[Cause]:
        """What keeps it from being told that nothing changed."""
        if not self._changes.paths:
            return
        if self._code:
            yield Cause(
                "code", f"{self._code} {self._changes.paths[self._code]}, which is of onnxbuild itself", self._code
            )
        if basis.version != onnxbuild.__version__:
            yield Cause("code", f"onnxbuild {basis.version} -> {onnxbuild.__version__} since its last build here")
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


_looked: dict[tuple[str, ...], dict[str, str]] = {}


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    if names not in _looked:
        _looked[names] = distributions.versions(names)
    return _looked[names]
