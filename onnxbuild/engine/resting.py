"""What a run rests on, noted as it ends, so that it can be told later which change set can affect it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxbuild
from onnxbuild import recipe as recipes
from onnxbuild.discovery import places
from onnxbuild.engine.status import Done
from onnxbuild.plan import asking
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import decision
from onnxbuild.queries.lookup import Lookup
from onnxbuild.recipe import filling
from onnxbuild.recipe.types import chosen
from onnxbuild.sources import SOURCES
from onnxbuild.store.traces import Basis
from onnxbuild.system import distributions


def basis(
    loaded: recipes.Loaded,
    stages: Sequence[Stage],
    done: Mapping[str, Done],
    files: Mapping[str, Mapping[str, Path]],
    lookup: Lookup,
) -> Basis:
    """What a recipe's run rests on. `files` are those that each stage was given, by role. Raises OSError."""
    reads, told = _told(loaded, lookup)
    tools: dict[str, str] = {}
    platform: dict[str, str] = {}
    seconds = 0.0
    unknown = [] if told else ["describe"]
    for stage in stages:
        trace = done[stage.name].trace if stage.name in done else None
        if trace is None or not trace.outcome.cacheable:
            if stage.name in done and not done[stage.name].lost and done[stage.name].report.status == "skipped":
                tools |= distributions.versions(stage.tools)  # it may be for want of one
            else:
                unknown.append(stage.name)
            continue
        inputs = trace.document["inputs"]
        reads |= {name_of(path, loaded.root): inputs[role] for role, path in files.get(stage.name, {}).items()}
        reads |= lookup.today(_listed(stage, files.get(stage.name, {}), loaded.root))
        tools |= trace.document["tools"]
        platform |= trace.document["platform"]
        seconds += trace.seconds
    bases = {name_of(path, loaded.root): sha256 for path, sha256 in loaded.bases.items()}
    return Basis(loaded.sha256, onnxbuild.__version__, reads, tools, platform, unknown, round(seconds, 3), bases)


def _listed(stage: Stage, files: Mapping[str, Path], root: Path) -> list[str]:
    """The names, as a trace has them, of the folders that were looked through for a stage's files."""
    if not stage.folder:
        return []
    top = recipes.resolve(root, stage.folder)
    found = {top, *(folder for path in files.values() for folder in path.parents if folder.is_relative_to(top))}
    inside = sorted(folder.relative_to(root).as_posix() for folder in found if folder.is_relative_to(root))
    return [f"list:{places.below_root(folder)}" for folder in inside]


def _told(loaded: recipes.Loaded, lookup: Lookup) -> tuple[dict[str, str], bool]:
    """What was found to be used by the stage that asked the model of its interface, and whether that is known; of a recipe
    that says all there is to say, nothing.
    """
    kind, options = chosen(loaded.recipe.model)
    if not filling.missing(loaded.positions.data, opset=not SOURCES[kind].exporters(options)):
        return {}, True
    stage = asking.describing(kind, options)
    trace = decision.decide(stage, decision.given(stage, {}, loaded.root), lookup, loaded.root).trace
    return ({}, False) if trace is None else (dict(trace.discovered), True)


def name_of(path: Path, root: Path) -> str:
    """The name that a trace would have for a declared file: see `discovery.inputs`."""
    if path.is_relative_to(root):
        return f"file:{places.below_root(path.relative_to(root).as_posix())}"
    folder = next((folder for folder in distributions.search_path() if path.is_relative_to(folder)), None)
    return f"path:{path}" if folder is None else f"site:{path.relative_to(folder).as_posix()}"
