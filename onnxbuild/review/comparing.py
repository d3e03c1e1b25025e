"""Two sides put side by side: what is different between their locks, their graphs, their measurements and their recipes.

Of two sides of which one has no graph, onnx is not loaded. Knows no form in which it is told.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import UNSET

from onnxbuild.errors import usage
from onnxbuild.queries.workspace import Places
from onnxbuild.report.changes import Diff, Fact, Number, OpCount
from onnxbuild.review.lockfile import Error, File, Lock, Platform
from onnxbuild.review.sides import Read
from onnxbuild.text import units

DIGITS = 12  # of a SHA-256


class _Said(NamedTuple):
    """What two locks say differently. `made` are the digests of graph and weights."""

    interface: list[Fact]
    model: list[Fact]
    ops: list[OpCount]
    sizes: list[Number]
    parity: list[Number]
    inputs: list[Fact]
    made: list[Fact]
    files: list[Fact]
    missing: list[str]


def compare(before: Read, after: Read, places: Places | None = None, root: Path | None = None) -> Diff:
    """All that is different between two sides. Raises UserError where they have nothing in common that could be compared,
    and UserError or StageError where a graph can't be read.

    `places` has the stores in which it is noted where nodes come from; see `tracing` for `root`.
    """
    locks = _both(before, after)
    said = _Said([], [], [], [], [], [], [], [], []) if locks is None else _locks(*locks)
    missing = [*before.missing, *after.missing, *said.missing, *_unknown(before, after)]
    found: dict[str, Any] = {"interface": said.interface, "model": said.model, "ops": said.ops, "sizes": said.sizes}
    structure = None
    files = [*said.made, *said.files]
    if before.model and after.model:
        from onnxbuild.graphs import comparison
        from onnxbuild.review import tracing

        traced = (tracing.lines(before, places, root), tracing.lines(after, places, root)) if places else (None, None)
        compared = comparison.compare(before.model, after.model, traced)
        structure = compared.structure
        dims = [fact for fact in said.interface if fact.subject.startswith("dimension ")]
        found = {"model": compared.model, "ops": compared.ops, "sizes": compared.sizes}
        found["interface"] = [*compared.interface, *dims]
        files = [fact for fact in said.files if "/" in fact.subject]  # of targets: the model's own were compared
    parts = [structure.removed, structure.added, structure.changed, structure.tensors] if structure else []
    effects = [found["interface"], found["model"], found["ops"], said.parity, files, *parts]
    return Diff(
        version=1,
        before=before.side,
        after=after.side,
        same=not any(effects) and "nothing" not in (before.side.kind, after.side.kind),
        structure=structure,
        parity=said.parity,
        latency=_latency(before, after),
        inputs=said.inputs,
        files=files,
        recipe=_recipe(before.recipe, after.recipe),
        not_compared=list(dict.fromkeys(missing)),
        **found,
    )


def _both(before: Read, after: Read) -> tuple[Lock, Lock] | None:
    """The locks of both, of a mere file what a lock would say of it; None where graphs alone are compared, or nothing."""
    one, other = before.lock, after.lock
    kinds = [before.side.kind, after.side.kind]
    if kinds == ["nothing", "nothing"]:
        raise usage(f"{before.missing[0]}, nor at {after.side.name}", "give a recipe that one of the two has")
    if (one and other) or "nothing" in kinds or (before.model and after.model):
        return (one, other) if one and other else None
    from onnxbuild.review import files

    if one is not None and after.model is not None:
        return one, files.as_lock(after.model, one)
    if other is not None and before.model is not None:
        return files.as_lock(before.model, other), other
    why = "; ".join([*before.missing, *after.missing])
    raise usage(
        f"{before.side.name} and {after.side.name} can't be compared: {why}", "build what is not built, or lock it"
    )


def _locks(one: Lock, other: Lock) -> _Said:
    """What is different between two locks, on the platforms that both have."""
    common = [name for name in one.platforms if name in other.platforms]
    said = _Said([*_interface(one, other), *_facts("dimension ", one.dims, other.dims)], [], [], [], [], [], [], [], [])
    said.model.extend(_fact("IR version", str(one.ir_version), str(other.ir_version)))
    said.inputs.extend(_facts("", _shas(one.sources), _shas(other.sources)))
    for name in common or [""]:
        sides = tuple(lock.platforms.get(name) for lock in (one, other))
        _graph(said, *(_of_graph(lock, platform) for lock, platform in zip((one, other), sides, strict=True)))
        if sides[0] is not None and sides[1] is not None:
            _platform(said, sides[0], sides[1], f" on {name}" if len(common) > 1 else "")
    if not common:
        platforms = [", ".join(lock.platforms) or "none" for lock in (one, other)]
        text = f"tools, weights, files and errors: of {platforms[0]} before, of {platforms[1]} after"
        said.missing.append(text)
    return said


def _of_graph(lock: Lock, platform: Platform | None) -> dict[str, Any]:
    """The facts of a graph, which stand under the platform where a pass is for its hardware."""
    names = ("opset_imports", "ops", "parameters", "bytes", "graph_sha256")
    held = {name: getattr(lock, name) for name in names}
    return {name: getattr(platform, name, UNSET) if value is UNSET else value for name, value in held.items()}


def _graph(said: _Said, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    known = [name for name in one if one[name] is not UNSET and other[name] is not UNSET]
    pairs = {name: (one[name], other[name]) for name in known if one[name] != other[name]}
    for domain, before, after in _different(*pairs.get("opset_imports", ({}, {}))):
        subject = "opset" if domain == "ai.onnx" else f"opset of {domain}"
        said.model.append(Fact(subject, None if before is None else str(before), None if after is None else str(after)))
    said.ops.extend(
        OpCount(op, before or 0, after or 0) for op, before, after in _different(*pairs.get("ops", ({}, {})))
    )
    if "ops" in pairs:
        counts = [float(sum(side.values())) for side in pairs["ops"]]
        said.sizes.extend(_numbers("nodes", counts[0], counts[1], "nodes"))
    for name, subject, unit in (("parameters", "parameters", "parameters"), ("bytes", "size", "bytes")):
        if name in pairs:
            said.sizes.extend(_numbers(subject, float(pairs[name][0]), float(pairs[name][1]), unit))
    if "graph_sha256" in pairs:
        said.made.append(Fact("graph", *(digest[:DIGITS] for digest in pairs["graph_sha256"])))
    said.missing.extend(f"{name}: only one of the two depends on the hardware" for name in one if name not in known)


def _platform(said: _Said, one: Platform, other: Platform, on: str) -> None:
    said.inputs.extend(_facts("", one.tools, other.tools, on))
    digests = (one.weights_sha256[:DIGITS], other.weights_sha256[:DIGITS])
    said.made.extend(_fact(f"weights{on}", *digests))
    said.files.extend(_facts("", _shas(one.files), _shas(other.files), on))
    for what in sorted({*one.parity, *other.parity}):
        for output, before, after in _different(one.parity.get(what, {}), other.parity.get(what, {})):
            subject = f"{output}{'' if what == 'onnx' else f' of {what}'}{on}"
            said.parity.extend(_errors(subject, before, after))
    for what, before, after in _different(one.metric, other.metric):
        said.parity.extend(_numbers(f"metric of {'the source model' if what == 'source' else what}{on}", before, after))


def _errors(subject: str, before: Error | None, after: Error | None) -> Iterator[Number]:
    for name, words in (("max_abs", "largest error"), ("max_rel", "relative"), ("used", "of the tolerance")):
        old, new = (getattr(one, name, UNSET) for one in (before, after))
        yield from _numbers(f"{subject}, {words}", *(None if one is UNSET else one for one in (old, new)))
    losses = [one.losses if one is not None else {} for one in (before, after)]
    for name in sorted({*losses[0], *losses[1]}):
        yield from _numbers(f"{subject}, loss of {name}", *(one.get(name) for one in losses))


def _interface(one: Lock, other: Lock) -> Iterator[Fact]:
    """Inputs and outputs; one that is alone on each side, of one type, is a new name."""
    for role, before, after in (("input", one.inputs, other.inputs), ("output", one.outputs, other.outputs)):
        gone, new = ([name for name in a if name not in b] for a, b in ((before, after), (after, before)))
        renamed = len(gone) == len(new) == 1 and before[gone[0]] == after[new[0]]
        if renamed:
            yield Fact(f"name of {role} '{gone[0]}'", gone[0], new[0])
        for name, old, now in _different(before, after):
            if not renamed or name not in (*gone, *new):
                yield Fact(f"{role} '{name}'", old, now)
        if before.keys() == after.keys() and list(before) != list(after):
            yield Fact(f"order of the {role}s", ", ".join(before), ", ".join(after))


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _facts(start: str, one: Mapping[str, str], other: Mapping[str, str], end: str = "") -> Iterator[Fact]:
    for name, before, after in _different(one, other):
        yield Fact(f"{start}{name}{end}", before, after)


def _fact(subject: str, before: str | None, after: str | None) -> Iterator[Fact]:
    if before != after:
        yield Fact(subject, before, after)


def _numbers(subject: str, before: float | None, after: float | None, unit: Any = "") -> Iterator[Number]:
    if before != after:
        yield Number(subject, before, after, unit)


def _shas(files: Mapping[str, File]) -> dict[str, str]:
    """Files by content, in short."""
    return {
        path: f"{one.sha256[:DIGITS]}{'' if one.bytes is UNSET else f', {units.size(one.bytes)}'}"
        for path, one in files.items()
    }


def _latency(before: Read, after: Read) -> list[Number]:
    """Percentiles in milliseconds, where both were measured."""
    sides = [read.report.benchmark if read.report else None for read in (before, after)]
    if sides[0] is None or sides[1] is None:
        return []
    return [Number(name, getattr(sides[0], name), getattr(sides[1], name), "ms") for name in ("p50", "p90", "p99")]


def _unknown(before: Read, after: Read) -> Iterator[str]:
    """What can't be compared, since one side doesn't hold it."""
    kinds = {before.side.kind, after.side.kind}
    if "nothing" in kinds:
        return
    if "file" in kinds:
        yield "parity, latency, tools and the recipe: an .onnx file says nothing of them"
        return
    if "lock" in kinds:
        yield "single nodes and weights, and latency: a lock file holds digests and counts"
    elif len({bool(read.report and read.report.benchmark) for read in (before, after)}) > 1:
        yield "latency: not measured in both builds"


def _recipe(before: str | None, after: str | None) -> list[str]:
    """A unified diff of two recipes, its head left out."""
    if before is None or after is None:
        return []
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[2:]
