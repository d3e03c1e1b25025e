"""What a build was made from: the recipe, the files that its stages took or were found to use, and versions.

Asks the file system for sizes alone; digests are those of the stages' documents and traces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild.discovery import inputs as discovered
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.report.types import Package, RecipeReport, Source
from onnxbuild.store import keys
from onnxbuild.store.traces import Trace
from onnxbuild.system import distributions, observed
from onnxbuild.system.files import sha256_of_listing

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
    """The files that the build was made from and proved with: those that the recipe names and what they name in turn, the
    model's own first, and those that the stages' code was found to use. A folder of data counts as one.
    """
    stages = sorted(run.plan.stages, key=lambda stage: stage.name != run.plan.source)
    traced = [(stage, done.trace) for stage in stages if (done := run.done.get(stage.name)) and done.trace is not None]
    given: dict[str, Source] = {}
    folders: dict[str, dict[str, tuple[str, int | None]]] = {}
    for stage, trace in traced:
        for role, path in run.files.get(stage.name, {}).items():
            digest, top = trace.document["inputs"].get(role), f"{stage.folder.rstrip('/')}/"
            if digest is not None and stage.folder and role.startswith(top):
                folders.setdefault(top, {})[role.removeprefix(top)] = (digest, _bytes(path))
            elif digest is not None:
                name = _installed(stage.files[role]) if role in stage.files else _relative(path, run.loaded.root)
                given.setdefault(name, Source(name, digest, _bytes(path), declared=True))
    found = {one.path: one for _, trace in reversed(traced) for one in _found(trace, run.loaded.root)}
    data = [_folder(name, files) for name, files in sorted(folders.items())]
    return [*given.values(), *data, *(source for path, source in sorted(found.items()) if path not in given)]


def _folder(name: str, files: Mapping[str, tuple[str, int | None]]) -> Source:
    """A folder by the files in it that are data, each with its digest and its size."""
    sizes = [size for _, size in files.values()]
    known = [size for size in sizes if size is not None]
    digest = sha256_of_listing({file: sha256 for file, (sha256, _) in files.items()})
    return Source(name, digest, sum(known) if len(known) == len(sizes) else None, declared=True)


def _found(trace: Trace, root: Path) -> Iterator[Source]:
    """The files of the project that a stage's code was found to use."""
    for name, digest in sorted(trace.discovered.items()):
        one = discovered.parse(name)
        if one.kind == "file" and re.fullmatch("[0-9a-f]{64}", digest):
            yield Source(one.place, digest, _bytes(root / one.place))


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
