"""Decides from a parity's facts whether a graph is right, and says in words where it is not. Pure; needs no numpy.

The words are for someone who has to find the cause: at which sizes of which dimension it holds and where it breaks, the
worst element with both values, and which stage brought it in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnxbuild.parity import tolerance
from onnxbuild.parity.tolerance import Element, Verdict

if TYPE_CHECKING:
    from onnxbuild.contracts import Json
    from onnxbuild.parity.tolerance import Tolerances

__all__ = ["Element", "Verdict", "explain", "judge"]

SHOWN = 4  # outputs or cases listed before "and 3 more"
STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}  # of 1.0 to the next one
FEW = 4  # rounding steps; more than that may well be an error of another kind


def judge(facts: Json, tolerances: Tolerances) -> list[Verdict]:
    """One verdict per case and output, in the order of the facts."""
    return [tolerance.verdict(row, facts["not_run"], tolerances) for row in facts["results"]]


def explain(
    verdicts: Sequence[Verdict],
    facts: Json,
    stage: str,
    dynamic_axes: Mapping[str, Mapping[str, str]],
    earlier: Sequence[tuple[str, Sequence[Verdict]]] = (),
) -> tuple[str, str]:
    """What is wrong, in lines for a terminal, and what to do about it; ("", "") where every verdict passed.

    `stage` is the parity's name ("parity/1-onnxsim"); `earlier` are the verdicts of the graphs before, oldest first, by
    their parity's name.
    """
    groups = _groups(verdicts)
    if not groups:
        return "", ""
    lines = []
    for failed, peers in groups[:SHOWN]:
        lines += _block(failed, peers, stage, dynamic_axes, earlier)
    if len(groups) > SHOWN:
        lines.append(f"... and {_count(len(groups) - SHOWN, 'more output')} (all in the report)")
    failed, peers = groups[0]
    return "\n".join(lines), _hint(failed, peers, _introduced(failed, stage, earlier), facts)


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


def _block(
    failed: list[Verdict],
    peers: list[Verdict],
    stage: str,
    dynamic_axes: Mapping[str, Mapping[str, str]],
    earlier: Sequence[tuple[str, Sequence[Verdict]]],
) -> list[str]:
    """The lines on one output, or on the cases that onnxruntime can't run."""
    worst = max(failed, key=_severity)
    what = f"output '{worst.output}' is wrong" if worst.ran else "the graph can't be run"
    lines = [f"{stage}: {what} at {len(failed)} of {_count(len(peers), 'case')}"]
    lines += [f"    {line}" for line in _where(failed, peers, dynamic_axes)]
    lines.append(f"    case {worst.case}: {_seen(worst, dynamic_axes.get(worst.output, {}))}")
    graph = _introduced(failed, stage, earlier)
    before = _before(worst, earlier)
    lines.append(f"    introduced by {graph}{before}")
    return lines


def _seen(verdict: Verdict, axes: Mapping[str, str]) -> str:
    """What was found at a verdict's worst element, or with the whole; `axes` are the output's dynamic ones."""
    if verdict.worst is None:
        return re.sub(r"axis (\d+)", lambda found: _axis(found[1], axes), verdict.note) if verdict.ran else verdict.note
    index = ", ".join(map(str, verdict.worst.index))
    place = f"{verdict.output}[{index}]" if verdict.worst.index else verdict.output
    got, reference = (f"{v:.9g}" if type(v) is float else str(v) for v in (verdict.worst.got, verdict.worst.reference))
    rule = f" (atol {verdict.atol:g} + rtol {verdict.rtol:g} * |{reference}|)" if "allowed" in verdict.note else ""
    return f"{place} is {got}, the reference has {reference}: {verdict.note}{rule}"


def _axis(axis: str, axes: Mapping[str, str]) -> str:
    return f"axis {axis} ({axes[axis]})" if axis in axes else f"axis {axis}"


def _where(failed: list[Verdict], peers: list[Verdict], dynamic_axes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """At which sizes it holds and where it breaks: of the one dimension that decides, or by whole cases."""
    held = [verdict for verdict in peers if verdict.passed]
    if len(peers) == 1:
        return []
    dim = deciding_dim(failed, held)
    if dim:
        sizes = [_sizes(dim, cases) for cases in (held, failed)]
        others = ", at every size of the others" if len(failed[0].dims) > 1 else ""
        return [f"holds at {sizes[0]}; breaks at {sizes[1]}{others}", f"{dim} is {_axes_of(dim, dynamic_axes)}"]
    if not held:
        return ["breaks at every case"]
    return [f"holds at {_some([v.case for v in held])}", f"breaks at {_some([v.case for v in failed])}"]


def deciding_dim(failed: Sequence[Verdict], held: Sequence[Verdict]) -> str:
    """The dimension none of whose sizes is on both sides, else ""; of several, the one that breaks at fewest sizes."""
    clear = [dim for dim in failed[0].dims if held and not {v.dims[dim] for v in failed} & {v.dims[dim] for v in held}]
    return min(clear, key=lambda dim: len({v.dims[dim] for v in failed}), default="")


def _sizes(dim: str, verdicts: list[Verdict]) -> str:
    return f"{dim}={', '.join(map(str, sorted({verdict.dims[dim] for verdict in verdicts})))}"


def _axes_of(dim: str, dynamic_axes: Mapping[str, Mapping[str, str]]) -> str:
    """Where a dimension is: "axis 0 of 'x' and 'y', axis 1 of 'z'"."""
    where: dict[str, list[str]] = {}
    for name, axes in dynamic_axes.items():
        for axis, named in axes.items():
            if named == dim:
                where.setdefault(axis, []).append(f"'{name}'")
    return ", ".join(f"axis {axis} of {' and '.join(names)}" for axis, names in where.items())


def _introduced(failed: list[Verdict], stage: str, earlier: Sequence[tuple[str, Sequence[Verdict]]]) -> str:
    """The stage that made the first graph in which one of these failures is there."""
    wanted = {(verdict.case, verdict.output) for verdict in failed}
    for name, verdicts in earlier:
        if any(not verdict.passed and (verdict.case, verdict.output) in wanted for verdict in verdicts):
            return graph_stage(name)
    return graph_stage(stage)


def _before(worst: Verdict, earlier: Sequence[tuple[str, Sequence[Verdict]]]) -> str:
    """How good the same output was at the same case in the graph before."""
    for name, verdicts in reversed(earlier):
        for verdict in verdicts:
            if (verdict.case, verdict.output) == (worst.case, worst.output) and verdict.max_abs is not None:
                off = f"at most {verdict.max_abs:.3g} off" if verdict.max_abs else "exact"
                return f"; after {graph_stage(name)} it was {off} at this case"
    return ""


def graph_stage(parity_stage: str) -> str:
    """The stage that made the graph which a parity is about: "export", "optimize/1-onnxsim"."""
    name = parity_stage.removeprefix("parity/")
    return name if name == "export" else f"optimize/{name}"


def _hint(failed: list[Verdict], peers: list[Verdict], graph: str, facts: Json) -> str:
    """What the user can do about one group of failures."""
    if rounding := _rounding(failed, facts):
        return rounding
    held = [verdict for verdict in peers if verdict.passed]
    hints = []
    worst = max(failed, key=_severity)
    atol = tolerance.needed_atol(facts, worst.output, worst.rtol) if worst.rtol is not None else None
    small = atol is not None and worst.worst and atol <= 0.01 * max(1.0, abs(float(worst.worst.reference)))
    if graph != "export":
        hints.append(
            f"take '{graph.partition('-')[2]}' out of optimize, or keep only those of its steps that are right"
        )
    elif dim := deciding_dim(failed, held):
        hints += _dim_hints(dim, held, peers[0].dims[dim])
        small = small and not _is_baked(
            dim, held, peers[0].dims[dim]
        )  # an error that grows with the size is no rounding
    elif not held and (worst.ran or len(peers) > 1):
        where = (
            "wrong at every size: look at the operators, not at the shapes" if peers[1:] else "look at the operators"
        )
        hints.append(f"{where}; the other exporter may differ")
        if worst.max_abs and not small:
            hints.append(
                "where the model draws random numbers (torch.randn_like), no two runs agree: make them an input"
            )
    if small:
        hints.append(f"if that error is acceptable: parity.outputs.{worst.output}: {{atol: {atol:g}}}")
    closer = "to look closer, set parity.derive to false and name that one case under parity.cases" if peers[1:] else ""
    return "; ".join(hints) or closer


def _rounding(failed: list[Verdict], facts: Json) -> str:
    """What to do where all errors are of the size of the dtype's rounding, whatever the shapes; "" where any is not."""
    output, rtol, atol = failed[0].output, failed[0].rtol, failed[0].atol
    rows = [row for row in facts["results"] if row["output"] == output]
    if rtol is None or atol is None or any(row["error"] or row["mismatches"] for row in rows):
        return ""
    dtype = rows[0]["dtype"]
    largest = max((abs(float(point["reference"])) for row in rows for point in row["points"]), default=0.0)
    step = STEPS.get(dtype, 0.0) * largest
    off = max(verdict.max_abs or 0.0 for verdict in failed)
    if not 0 < off <= FEW * step:
        return ""
    fitting = max(rtol, float(f"{FEW * STEPS[dtype]:.1g}"))
    needed = tolerance.needed_atol(facts, output, fitting)
    wanted = [f"rtol: {fitting:g}"] if fitting > rtol else []
    wanted += [f"atol: {needed:g}"] if needed is not None and needed > atol else []
    if not wanted:
        return ""
    return (
        f"at most {off:.2g} off is {off / step:.2g} rounding steps of {dtype} at the largest value compared "
        f"({largest:.3g}), so the sizes are hardly to blame; tolerances that fit {dtype}: "
        f"parity.outputs.{output}: {{{', '.join(wanted)}}}"
    )


def _dim_hints(dim: str, held: list[Verdict], example: int) -> list[str]:
    """Why one dimension's sizes decide; `example` is its size while the model was traced (the first case's)."""
    if not _is_baked(dim, held, example):
        return [f"look at what the model does with {dim} at these sizes, or with other values"]
    advice = (
        f"{dim} was fixed at the example's size: look for int(x.shape[i]), len(x), .item() or a Python loop over it"
    )
    if example > 1:
        return [f"{advice}, and use x.shape[i] as it is"]
    return [advice, f"exporters take a size of {example} for a constant: give the example {dim}=2 or more"]


def _is_baked(dim: str, held: list[Verdict], example: int) -> bool:
    return {verdict.dims[dim] for verdict in held} == {example}


def _severity(verdict: Verdict) -> tuple[bool, float]:
    """Failures without a number (an error, a NaN) before the largest difference."""
    return verdict.worst is None or isinstance(verdict.worst.got, str), verdict.max_abs or 0.0


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
