"""Decides from a parity's facts whether a graph is right, and says in words where it is not. Pure; needs no numpy.

The words are for someone who has to find the cause: at which sizes or values it holds and where it breaks, the worst
element with both values, and who brought it in: the export, a pass, or onnxruntime itself. What to do is for `hints`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from onnxbuild.parity import evidence as found_out
from onnxbuild.parity import hints, sizes
from onnxbuild.parity.evidence import Evidence
from onnxbuild.parity.hints import Blamed
from onnxbuild.parity.tolerance import judge
from onnxbuild.parity.verdict import Element, Verdict

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

__all__ = ["Context", "Element", "Verdict", "explain", "judge", "looked_into"]

MOST = 0.5  # of an error, from which on it is put down to an earlier graph
SHOWN = 4  # outputs listed before "and 3 more"


class Context(NamedTuple):
    """What is known beside a parity's own facts.

    `stage` is the parity's name ("parity/1-onnxsim"), `earlier` the verdicts of the graphs before, oldest first, by their
    parity's name, `exporter` what made the first graph ("none" for an existing file), `fixed` the export's notes on
    values of the example that it took for every input's, `graphs` the stage that made the graph of each parity, by name,
    `entries` the path of the recipe's entry that asks for such a stage, `excluding` the passes that can leave nodes as they
    are, and `several` whether the recipe has more than one, `place` where it says what is allowed of this graph, "" where it
    says nothing of its own.
    """

    stage: str
    dynamic_axes: Mapping[str, Mapping[str, str]]
    earlier: Sequence[tuple[str, Sequence[Verdict]]] = ()
    exporter: str = ""
    fixed: Sequence[str] = ()
    evidence: Evidence = found_out.NONE
    graphs: Mapping[str, str] = {}
    entries: Mapping[str, Sequence[str | int]] = {}
    excluding: Container[str] = ()
    place: str = ""
    several: bool = False

    def graph_of(self, proof: str) -> str:
        """The stage that made the graph which a parity is about."""
        return self.graphs[proof]


def explain(verdicts: Sequence[Verdict], facts: Json, context: Context) -> tuple[str, str]:
    """What is wrong, in lines for a terminal, and what to do about it; ("", "") where every verdict passed."""
    again = {row["case"] for row in facts["results"] if row.get("again")}
    own = [verdict for verdict in verdicts if verdict.case not in again]
    if again and all(verdict.passed for verdict in own):
        return _kept_shape(verdicts, again, context)
    groups = [_blamed(failed, peers, context) for failed, peers in _groups(own)]
    if not groups:
        return "", ""
    lines = []
    for one in groups[:SHOWN]:
        lines += _block(one, context)
    if len(groups) > SHOWN:
        lines.append(f"... and {_count(len(groups) - SHOWN, 'more output')} (all in the report)")
    return "\n".join(lines), hints.of(groups[0], facts, context.exporter, context.fixed)


def _kept_shape(verdicts: Sequence[Verdict], again: set[str], context: Context) -> tuple[str, str]:
    """What to say where all is right, but for the first case when it is run again after the others."""
    wrong = [verdict for verdict in verdicts if verdict.case in again and not verdict.passed]
    lines = []
    for one in wrong[:SHOWN]:
        seen = _seen(one, context.dynamic_axes.get(one.output, {}))
        lines.append(f"{context.stage}: output '{one.output}' is right at first, and wrong at {one.case}")
        lines.append(f"    after other sizes in the same session: {seen}")
    return "\n".join(lines), hints.KEPT_SHAPE if wrong else ""


def looked_into(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """The failing cases with the outputs that fail there, those first that `explain` shows."""
    failed: dict[str, list[str]] = {}
    for group, _ in _groups(verdicts):
        worst = max(group, key=_severity)
        failed.setdefault(worst.case, [])
    for verdict in verdicts:
        if not verdict.passed:
            failed.setdefault(verdict.case, []).append(verdict.output)
    return failed


def _groups(verdicts: Sequence[Verdict]) -> list[tuple[list[Verdict], list[Verdict]]]:
    """The failures, each beside all verdicts on the same thing: first the cases that gave no result, then by output."""
    first = next((verdict.output for verdict in verdicts), "")
    dead = [verdict for verdict in verdicts if not verdict.passed and not verdict.ran and verdict.output == first]
    groups = [(dead, [verdict for verdict in verdicts if verdict.output == first])] if dead else []
    for output in dict.fromkeys(verdict.output for verdict in verdicts):
        peers = [verdict for verdict in verdicts if verdict.output == output and verdict.ran]
        failed = [verdict for verdict in peers if not verdict.passed]
        if failed:
            groups.append((failed, peers))
    return groups


def _blamed(failed: list[Verdict], peers: list[Verdict], context: Context) -> Blamed:
    """What one group of failures is put down to."""
    held = [verdict for verdict in peers if verdict.passed]
    evidence, output = context.evidence, failed[0].output
    dim = sizes.deciding_dim(failed, held)
    cases = [verdict.case for verdict in failed], [verdict.case for verdict in held]
    not_there, there_too = found_out.other_data(evidence, output, *cases)
    if not_there or there_too:
        dim = ""
    graph, allowed = _introduced(failed, context)
    entry = context.entries.get(graph, ())
    return Blamed(
        failed=failed,
        held=held,
        worst=max(failed, key=_severity),
        example=peers[0].dims,
        dim=dim,
        graph=graph,
        entry=entry,
        tunable=bool(entry) and str(entry[-1]) in context.excluding,
        right_at=evidence.right_at.get(output, []),
        traits=found_out.shared(run for run in evidence.runs if run.output == output),
        not_there=not_there,
        there_too=there_too,
        reordered=evidence.reordered.get(output),
        unsteady=evidence.unsteady,
        place=context.place,
        several=context.several,
        allowed_before=allowed,
        drawn_anew=any(run.drawn and run.case in cases[0] for run in evidence.runs),
    )


def _block(one: Blamed, context: Context) -> list[str]:
    """The lines on one output, or on the cases that onnxruntime can't run."""
    worst, peers = one.worst, [*one.failed, *one.held]
    what = f"output '{worst.output}' {'cannot be compared' if worst.why == 'unfit' else 'is wrong'}"
    what = what if worst.ran else "the graph can't be run"
    lines = [f"{context.stage}: {what} at {len(one.failed)} of {_count(len(peers), 'case')}"]
    lines += [f"    {line}" for line in sizes.where(one.failed, peers, context.dynamic_axes, one.dim)]
    if one.not_there:
        lines.append(
            f"    with other data it holds at {sizes.some(one.not_there)} too: the values decide, not the size"
        )
    elif one.there_too:
        lines.append(
            f"    with other data it breaks at {sizes.some(one.there_too)} too: the values decide, not the size"
        )
    if one.traits:
        lines.append(f"    where it breaks, and nowhere else, {' and '.join(one.traits)}")
    lines.append(f"    case {worst.case}: {_seen(worst, context.dynamic_axes.get(worst.output, {}))}")
    if one.reordered is not None:
        lines.append(f"    the values are the reference's along axis {one.reordered}, in another order: likely a tie")
    if worst.why == "unfit":
        return lines
    if one.right_at:
        levels = " and ".join(one.right_at)
        lines.append(f"    introduced by onnxruntime's own rewriting of the graph: right at {levels}")
    else:
        lines.append(f"    introduced by {one.graph}{_before(worst, context)}")
    return lines


def _seen(verdict: Verdict, axes: Mapping[str, str]) -> str:
    """What was found at a verdict's worst element, or with the whole; `axes` are the output's dynamic ones."""
    if verdict.worst is None:
        return re.sub(r"axis (\d+)", lambda found: _axis(found[1], axes), verdict.note) if verdict.ran else verdict.note
    index = ", ".join(map(str, verdict.worst.index))
    place = f"{verdict.output}[{index}]" if verdict.worst.index else verdict.output
    got, reference = (f"{v:.9g}" if type(v) is float else str(v) for v in (verdict.worst.got, verdict.worst.reference))
    rule = f" (atol {verdict.atol:g} + rtol {verdict.rtol:g} * |{reference}|)" if verdict.why == "beyond" else ""
    return f"{place} is {got}, the reference has {reference}: {verdict.note}{rule}"


def _axis(axis: str, axes: Mapping[str, str]) -> str:
    return f"axis {axis} ({axes[axis]})" if axis in axes else f"axis {axis}"


def _introduced(failed: list[Verdict], context: Context) -> tuple[str, bool]:
    """The stage that made the first graph in which one of these failures is there, and whether what holds for that graph
    allows it: it may be judged by a wider tolerance.
    """
    wanted = {(verdict.case, verdict.output): verdict for verdict in failed}
    for name, verdicts in context.earlier:
        there = [(verdict, wanted[at]) for verdict in verdicts if (at := (verdict.case, verdict.output)) in wanted]
        if any(not verdict.passed for verdict, _ in there):
            return context.graph_of(name), False
        if any(_is_as_far(verdict, now) for verdict, now in there):
            return context.graph_of(name), True
    return context.graph_of(context.stage), False


def _held_to(verdict: Verdict) -> tuple[object, ...]:
    return verdict.rtol, verdict.atol, [(gate.comparator, gate.least, gate.options) for gate in verdict.gates]


def _is_as_far(before: Verdict, now: Verdict) -> bool:
    """Whether most of an error was there in an earlier graph that is judged in another way."""
    judged = now.why in ("beyond", "unsure", "below") and before.max_abs is not None and now.max_abs is not None
    other = _held_to(before) != _held_to(now)
    return bool(other and judged and before.max_abs and now.max_abs and before.max_abs >= MOST * now.max_abs)


def _before(worst: Verdict, context: Context) -> str:
    """How good the same output was at the same case in the graph before."""
    for name, verdicts in reversed(context.earlier):
        for verdict in verdicts:
            if (verdict.case, verdict.output) == (worst.case, worst.output) and verdict.max_abs is not None:
                off = f"at most {verdict.max_abs:.3g} off" if verdict.max_abs else "exact"
                return f"; after {context.graph_of(name)} it was {off} at this case"
    return ""


def _severity(verdict: Verdict) -> tuple[bool, float]:
    """Failures without a number (an error, a NaN) before the largest difference."""
    return verdict.worst is None or isinstance(verdict.worst.got, str), verdict.max_abs or 0.0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
