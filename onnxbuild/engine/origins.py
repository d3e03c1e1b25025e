"""What a recipe's build was made from: the recipe, the files that its export took or was found to use, and versions.

Asks the file system for sizes alone; digests are those of the export's document and trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Companion
from onnxbuild.discovery import inputs as discovered
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.report.types import Package, RecipeReport, Source
from onnxbuild.store import keys
from onnxbuild.store.traces import Trace
from onnxbuild.system import distributions, observed

_TOOLS = re.compile("python|node|npm:.+")  # the facets of a key that are versions


def recipe(loaded: recipes.Loaded) -> RecipeReport:
    """The recipe's place in the project, and its digests."""
    path, root = loaded.path.absolute(), loaded.root.absolute()
    place = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    resolved = keys.key_of(msgspec.to_builtins(loaded.recipe))
    bases = {_relative(base, root): sha256 for base, sha256 in loaded.bases.items()}
    return RecipeReport(place, loaded.sha256, loaded.content_sha256, resolved, bases)


def versions(run: RecipeRun) -> dict[str, str]:
    """The versions in keys that are of no Python package: Python's own, node's and those of its packages."""
    found = {name: value for done in run.done.values() if done.trace is not None for name, value in _tools(done.trace)}
    return {name.removeprefix("npm:"): value for name, value in sorted(found.items())}


def _tools(trace: Trace) -> Iterator[tuple[str, str]]:
    yield from ((name, value) for name, value in trace.document["platform"].items() if _TOOLS.fullmatch(name))


def packages(run: RecipeRun, tools: Mapping[str, str]) -> list[Package]:
    """What was installed and used: `tools`, the distributions whose versions are in keys, those that stages were found to
    load, and the versions of no Python package that are in keys.
    """
    traces = [done.trace for done in run.done.values() if done.trace is not None]
    named = {name for trace in traces for name in trace.discovered if name.startswith("dist:")}
    loaded = dict(discovered.parse(name).place.split(" ", 1) for name in sorted(named))
    known = {distributions.normalise_name(name): version for name, version in (loaded | dict(tools)).items()}
    found = [Package(name, version, "pypi") for name, version in known.items() if version != distributions.ABSENT]
    for facet, value in {name: value for trace in traces for name, value in _tools(trace)}.items():
        name, _, version = f"{facet} {value}".removeprefix("python ").rpartition(" ")  # Python's says which one it is
        kind: Literal["npm", "generic"] = "npm" if name.startswith("npm:") else "generic"
        found.append(Package(name.removeprefix("npm:"), version, kind))
    return sorted(found, key=lambda one: (one.name, one.kind))


def sources(run: RecipeRun) -> list[Source]:
    """The files that the export was made from, those that the recipe names and what they name in turn first."""
    stage = next(stage for stage in run.plan.stages if stage.name == run.plan.source)
    trace = run.done[stage.name].trace
    if trace is None:
        return []
    root, digests = run.loaded.root, trace.document["inputs"]
    named = {role: recipes.resolve(root, path) for role, path in stage.files.items()}
    named |= _companions(stage.companions(named) if stage.companions else {})
    written = {role: _installed(path) for role, path in stage.files.items()}
    given = [
        Source(written.get(role) or _relative(path, root), digests[role], _bytes(path), declared=True)
        for role, path in named.items()
        if role in digests
    ]
    known = {source.path for source in given}
    found = [
        Source(one.place, digest, _bytes(root / one.place))
        for name, digest in sorted(trace.discovered.items())
        if (one := discovered.parse(name)).kind == "file" and re.fullmatch("[0-9a-f]{64}", digest)
    ]
    return [*given, *(source for source in found if source.path not in known)]


def _companions(found: Mapping[str, Companion]) -> dict[str, Path]:
    return {role: one.path for role, one in found.items() if not one.refused}


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else _installed(str(path))


def _installed(path: str) -> str:
    """A file of an installed package as the package's own name for it, the same on every machine; others as they are."""
    places = (folder for folder in distributions.search_path() if Path(path).is_relative_to(folder))
    return next((Path(path).relative_to(folder).as_posix() for folder in places), path)


def _bytes(path: Path) -> int | None:
    try:
        return observed.stat(path).st_size
    except OSError:
        return None
