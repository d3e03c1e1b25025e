"""What is to be said of a recipe that was built in two environments. Pure: takes both sides as they were read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from onnxbuild.report.canary import ErrorChange, Latency, Tried
from onnxbuild.report.changes import Diff
from onnxbuild.report.types import Report
from onnxbuild.review import comparing, drift, facts, lockfile
from onnxbuild.review.facts import Facts
from onnxbuild.review.sides import Read

Graph = Literal["same", "weights", "changed", "interface"]


def failed(path: str, name: str, before: Report | None, after: Report | None, problems: list[str]) -> Tried | None:
    """What is said of a recipe that failed on either side, or has problems on the second; None where both are done."""
    done = [report is not None and report.status == "done" for report in (before, after)]
    if all(done):
        return None
    if done[1]:
        return Tried(path=path, name=name, build="passes now", why=_reasons(before), ok=True)
    why = _reasons(after) if after is not None else problems
    return Tried(path=path, name=name, build="fails" if done[0] else "fails in both", why=why, ok=False)


def compared(path: str, sides: tuple[Read, Read], latency: Latency | None, note: str, *, strict: bool) -> Tried:
    """What is said of a recipe that both environments built. Raises UserError or StageError where a graph can't be read."""
    one, other = (side.report for side in sides)
    assert one is not None and other is not None  # noqa: PT018  # they were built a moment ago
    before, after = facts.of(one), facts.of(other)
    assert before is not None and after is not None  # noqa: PT018  # ditto
    # its latencies were measured at two times
    diff = msgspec.structs.replace(comparing.compare(*sides), latency=[])
    graph, errors = _graph(diff, before, after), list(_errors(before, after))
    lost = list(_lost(one, other, before, after))
    figures = drift.figures(lockfile.of(before).platforms[before.platform], after, "before")
    why = [*_wrong(diff, graph, errors, latency), *figures, *(f"no longer compared: {what}" for what in lost)]
    if strict and graph in ("weights", "changed"):
        why.append(f"other {'weights' if graph == 'weights' else 'nodes'}, which --strict does not allow")
    return Tried(
        path=path,
        name=one.name,
        build="passes",
        graph=graph,
        errors=errors,
        lost=lost,
        latency=latency,
        latency_note=note,
        tools=[fact for fact in diff.inputs if fact.subject in {*one.tools, *other.tools}],
        why=why,
        diff=diff,
        ok=not why,
    )


def _reasons(report: Report | None) -> list[str]:
    """Why a build failed, each reason once."""
    found = [] if report is None else [f"{one.stage}: {one.fact}" for one in report.failures]
    return list(dict.fromkeys(found)) or [report.status if report is not None else "it has problems"]


def _graph(diff: Diff, before: Facts, after: Facts) -> Graph:
    if (before.inputs, before.outputs, before.dims) != (after.inputs, after.outputs, after.dims):
        return "interface"
    if list(before.inputs) != list(after.inputs) or list(before.outputs) != list(after.outputs):
        return "interface"
    if diff.ops or diff.model or before.graph_sha256 != after.graph_sha256:
        return "changed"
    return "same" if before.weights_sha256 == after.weights_sha256 else "weights"


def _errors(before: Facts, after: Facts) -> Iterator[ErrorChange]:
    """The outputs whose errors differ, by the ratchet of lock files."""
    for what, outputs in after.parity.items():
        for output, now in outputs.items():
            was = before.parity.get(what, {}).get(output)
            if was is None or was.max_abs == now.max_abs:
                continue
            worse = now.max_abs is None
            if was.max_abs is not None and now.max_abs is not None:
                worse = now.max_abs >= drift.limit(was.max_abs, now.step)
            yield ErrorChange(what, output, was.max_abs, now.max_abs, worse)


def _lost(one: Report, other: Report, before: Facts, after: Facts) -> Iterator[str]:
    """What was compared in the first environment alone: outputs, and targets that are not built or not run any more."""
    gone = {target.name: target for target in other.targets if target.level in ("skipped", "built, not run")}
    for target in one.targets:
        if target.level in ("run", "emulated") and target.name in gone:
            now = gone[target.name]
            yield f"target {target.name}: {now.level}{f': {now.why}' if now.why else ''}"
    for what, outputs in before.parity.items():
        if what not in gone:
            yield from (f"{name} of {what}" for name in outputs if name not in after.parity.get(what, {}))


def _wrong(diff: Diff, graph: Graph, errors: list[ErrorChange], latency: Latency | None) -> Iterator[str]:
    if graph == "interface":
        changes = [f"{one.subject}: {one.before or 'absent'} -> {one.after or 'absent'}" for one in diff.interface]
        yield f"another interface: {'; '.join(changes)}"
    for one in errors:
        if one.worse:
            now = "no number" if one.after is None else f"{one.after:.2g}"
            where = "" if one.of == "onnx" else f" of {one.of}"
            yield f"error of {one.output}{where}: {one.before or 0:.2g} -> {now}, {drift.RATCHET} times or more"
    if latency is not None and latency.slower:
        turns = f"{latency.slower_in} of {latency.turns} turns"
        yield f"slower: {latency.times:.2f} times as long, in {turns}"
