"""How a build differs from what its lock file expects, each difference a line; and the ratchet on its errors.

    graph: op Conv 53 -> 52
    tool onnx: 1.23.2 -> 1.24.0
    parity onnx y: error 1.2e-06 -> 3.4e-05, 28 times the locked one, though within the tolerance (2.1 % of it)

Errors are not compared digit by digit: one that is ten times the locked one is a drift, and no other. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from onnxbuild.parity import gates
from onnxbuild.parity.comparators import COMPARATORS
from onnxbuild.review import facts as reviewed
from onnxbuild.review.facts import OF_GRAPH, Facts
from onnxbuild.review.lockfile import Error, File, Lock, Platform
from onnxbuild.text import units

RATCHET = 10  # times the locked error, or one rounding step where that is larger
ABSENT = "absent"
_LOCKED = "when it was locked"


class Comparison(NamedTuple):
    """What is other than expected, and why something could not be compared, "" where all was."""

    drifts: list[str]
    uncompared: str


def compare(lock: Lock, facts: Facts, *, published: bool = True) -> Comparison:
    """A build against a lock. One that is not `published` yet lacks some of its files, which are passed over."""
    platform = lock.platforms.get(facts.platform)
    drifts = list(_common(lock, facts))
    if platform is None:
        return Comparison(drifts, _uncompared(lock, facts))
    drifts += _values("tool", platform.tools, facts.tools)
    drifts += _graph(platform, facts, [name for name in OF_GRAPH if name in facts.bound])
    drifts += _made(platform, facts, published=published)
    drifts += _parity(platform.parity, facts.parity)
    drifts += _metric(platform.metric, facts.metric)
    return Comparison(drifts, "")


def of_checkout(lock: Lock, recipe_sha256: str, sources: Mapping[str, str]) -> list[str]:
    """What is known to be outdated in a lock without building: the recipe, and the digests of files by their paths there."""
    drifts = list(_recipe(lock, recipe_sha256))
    for path, file in lock.sources.items():
        now = sources.get(path, file.sha256)
        if now != file.sha256:
            drifts.append(f"input {path}: {'gone' if now == ABSENT else 'other content'}")
    return drifts


def figures(before: Platform, facts: Facts, was: str) -> list[str]:
    """Which of comparators' figures and metrics got worse or are missing, each a line; `was` is when `before` was."""
    told = []
    for what, outputs in before.parity.items():
        for output, old in outputs.items():
            new = facts.parity.get(what, {}).get(output)
            losses = {} if new is None else {name: new.losses[name] for name in old.losses if name in new.losses}
            where = output if what == "onnx" else f"{output} of {what}"
            if new is not None:
                lines = _losses(old.losses, msgspec.structs.replace(new, losses=losses), was)
                told += [f"{where}: {line}" for line in lines]
    scores = {name: score for name, score in facts.metric.items() if name in before.metric}
    return [*told, *_metric(before.metric, scores)]


def limit(locked: float, step: float) -> float:
    """The error from which on an output fails. `step` is a rounding step: below it, an error says nothing."""
    return RATCHET * max(locked, step)


def _common(lock: Lock, facts: Facts) -> Iterator[str]:
    if lock.name != facts.name:
        yield f"name: {lock.name} -> {facts.name}"
    yield from _recipe(lock, facts.recipe_sha256)
    yield from _files("input", lock.sources, facts.sources)
    for role, before, now in (("input", lock.inputs, facts.inputs), ("output", lock.outputs, facts.outputs)):
        yield from _values(role, before, now)
        if before.keys() == now.keys() and list(before) != list(now):
            yield f"{role}s: order {', '.join(before)} -> {', '.join(now)}"
    yield from _values("dimension", lock.dims, facts.dims)
    if lock.ir_version != facts.ir_version:
        yield f"graph: IR version {lock.ir_version} -> {facts.ir_version}"
    yield from _graph(lock, facts, [name for name in OF_GRAPH if name not in facts.bound])


def _recipe(lock: Lock, now: str) -> Iterator[str]:
    if lock.recipe_sha256 != now:
        yield "recipe: says something else than when it was locked"


def _graph(expected: Lock | Platform, facts: Facts, names: list[str]) -> Iterator[str]:
    """The facts of the graph that are expected here; where a pass for this hardware came or went, all of them."""
    missing = [name for name in names if getattr(expected, name) is UNSET]
    if missing:
        yield "graph: its operators depend on the hardware now, or no longer"
        return
    found: list[str] = []
    for name, word in (("opset_imports", "graph: opset"), ("ops", "graph: op")):
        if name in names:
            absent = 0 if name == "ops" else ABSENT
            found += _values(word, getattr(expected, name), getattr(facts, name), colon=False, absent=absent)
    for name, word in (("parameters", "parameters"), ("bytes", "bytes")):
        if name in names and (before := getattr(expected, name)) != (now := getattr(facts, name)):
            found.append(f"graph: {before:,} -> {now:,} {word}")
    if not found and "graph_sha256" in names and expected.graph_sha256 != facts.graph_sha256:
        found.append("graph: as many of each operator, but other attributes, constants, names or connections")
    yield from found


def _made(platform: Platform, facts: Facts, *, published: bool) -> Iterator[str]:
    if platform.weights_sha256 != facts.weights_sha256:
        yield "weights: other values, names or shapes"
    expected = platform.files
    if not published:
        expected = {path: file for path, file in expected.items() if path in facts.files}
    yield from _files("file", expected, facts.files)


def _files(word: str, before: Mapping[str, File], now: Mapping[str, reviewed.File]) -> Iterator[str]:
    for path in sorted({*before, *now}):
        old, new = before.get(path), now.get(path)
        if old is None or new is None:
            yield f"{word} {path}: {'new' if old is None else 'gone'}"
        elif old.sha256 != new.sha256:
            sizes = [None if one.bytes is UNSET else one.bytes for one in (old, new)]
            told = (
                f"{sizes[0]:,} -> {sizes[1]:,} bytes" if None not in sizes and sizes[0] != sizes[1] else "other content"
            )
            yield f"{word} {path}: {told}"


def _values(
    word: str, before: Mapping[str, Any], now: Mapping[str, Any], *, colon: bool = True, absent: Any = ABSENT
) -> Iterator[str]:
    for name in sorted({*before, *now}):
        old, new = before.get(name, absent), now.get(name, absent)
        if old != new:
            yield f"{word} {name}{':' if colon else ''} {old} -> {new}"


def _parity(
    before: Mapping[str, Mapping[str, Error]], now: Mapping[str, Mapping[str, reviewed.Error]]
) -> Iterator[str]:
    for what, output in sorted({(name, output) for side in (before, now) for name in side for output in side[name]}):
        old, new = before.get(what, {}).get(output), now.get(what, {}).get(output)
        start = f"parity {what} {output}:"
        if old is None or new is None:
            yield f"{start} {'compared now, and not when it was locked' if old is None else 'no longer compared'}"
        elif isinstance(old.max_abs, float) and new.max_abs is None:
            yield f"{start} error {old.max_abs:.2g} -> no number"
        elif old.max_abs is UNSET and new.max_abs is not None:  # nothing holds the ratchet
            yield f"{start} error no number -> {new.max_abs:.2g}"
        elif isinstance(old.max_abs, float) and new.max_abs and new.max_abs >= limit(old.max_abs, new.step):
            yield f"{start} {_ratcheted(old.max_abs, new)}"
        if old is not None and new is not None:
            yield from (f"{start} {told}" for told in _losses(old.losses, new, _LOCKED))


def _losses(old: Mapping[str, float], new: reviewed.Error, was: str) -> Iterator[str]:
    """The figures of comparators whose loss is ten times what it was; those of shares have no rounding."""
    for name in sorted({*old, *new.losses}):
        if name not in old or name not in new.losses:
            yield f"{name} {'has no number any more' if name in old else f'asked for now, and not {was}'}"
            continue
        before, after = old[name], new.losses[name]
        step = 0.0 if COMPARATORS[name].LEAST != "min" else new.rounding
        if after and after >= limit(before, step):
            times = f"its loss {after / before:,.0f} times that {was}" if before else f"and it had no loss {was}"
            yield f"{name} {gates.of_loss(name, before)} -> {gates.of_loss(name, after)}, {times}"


def _ratcheted(old: float, new: reviewed.Error) -> str:
    assert new.max_abs is not None
    times = f"{new.max_abs / old:,.0f} times the locked one" if old else "and it was none when it was locked"
    within = f", though within the tolerance ({units.share(new.used)} of it)" if (new.used or 0) <= 1 else ""
    return f"error {old:.2g} -> {new.max_abs:.2g}, {times}{within}"


def _metric(before: Mapping[str, float], now: Mapping[str, reviewed.Score]) -> Iterator[str]:
    """A metric that got worse by a tenth of what the recipe allows, or is new, or gone. One that got better is no drift."""
    for what in sorted({*before, *now}):
        old, new = before.get(what), now.get(what)
        if old is None or new is None:
            yield f"metric {what}: {'new' if old is None else 'gone'}"
            continue
        lost = (old - new.value) * (1 if new.worse >= 0 else -1)
        digit = 10.0 ** (math.floor(math.log10(max(abs(old), abs(new.value), 1e-300))) - 3)  # both are rounded to four
        if lost > abs(new.worse) + digit * 1.5:
            yield f"metric {what}: {old:.4g} -> {new.value:.4g}"


def _uncompared(lock: Lock, facts: Facts) -> str:
    bound = " graph," if facts.bound else ""
    known = ", ".join(lock.platforms) or "none"
    return (
        f"the lock has nothing of this platform, {facts.platform} (it has {known}): tools,{bound} weights, files and "
        "errors were not held against it"
    )
