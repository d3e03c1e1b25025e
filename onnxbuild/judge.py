"""Decides from a parity's facts whether a graph is right, and says in words where it is not. Pure; needs no numpy.

|got - reference| <= atol + rtol * |reference| must hold of every element, in float64, as `numpy.allclose` has it. The
facts hold the elements that decide this for every pair of tolerances (see `compare`), so nothing has to be run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import UNSET, Struct

if TYPE_CHECKING:
    from onnxbuild.contracts import Json
    from onnxbuild.recipe.types import Parity

Value: TypeAlias = float | int | bool | str
SHOWN = 4  # outputs, cases or sizes listed before "and 3 more"


class Element(Struct, frozen=True):
    """One element of an output, on both sides; NaN and infinities are strings."""

    index: list[int]
    got: Value
    reference: Value


class Verdict(Struct, frozen=True):
    """One output at one case. `rtol` and `atol` are None where only equality will do."""

    case: str
    dims: dict[str, int]
    output: str
    passed: bool
    status: Literal["passed", "failed", "vacuous", "not run"]
    max_abs: float | None = None
    max_rel: float | None = None
    rtol: float | None = None
    atol: float | None = None
    worst: Element | None = None
    note: str = ""
    ran: bool = True  # False where onnxruntime gave no result at this case


def judge(facts: Json, parity: Parity) -> list[Verdict]:
    """One verdict per case and output, in the order of the facts."""
    return [_verdict(row, facts["not_run"], parity) for row in facts["results"]]


def tolerances(parity: Parity, output: str) -> tuple[float, float]:
    """The rtol and atol that hold for an output: its own, else those of all."""
    own = parity.outputs.get(output)
    rtol = parity.rtol if own is None or own.rtol is UNSET else own.rtol
    atol = parity.atol if own is None or own.atol is UNSET else own.atol
    return rtol, atol


def _verdict(row: Json, not_run: str | None, parity: Parity) -> Verdict:
    case, dims, output = row["case"], row["dims"], row["output"]
    if not_run:
        return Verdict(case, dims, output, passed=True, status="not run", note=not_run, ran=False)
    if row["error"] is not None:
        ran = row["shape"] is not None
        return Verdict(case, dims, output, passed=False, status="failed", note=row["error"], ran=ran)
    if row["exact"]:
        rtol = atol = None
        worst, note = _judge_exact(row)
    else:
        rtol, atol = tolerances(parity, output)
        worst, note = _judge_floats(row, rtol, atol)
    passed = not note
    return Verdict(
        case,
        dims,
        output,
        passed=passed,
        status="failed" if not passed else "vacuous" if row["vacuous"] else "passed",
        max_abs=row["max_abs"],
        max_rel=row["max_rel"],
        rtol=rtol,
        atol=atol,
        worst=worst,
        note=note or row["vacuous"] or "",
    )


def _judge_exact(row: Json) -> tuple[Element | None, str]:
    """The worst element of integers, booleans or strings, and what is wrong ("" if nothing)."""
    worst = next((_element(point) for point in row["points"]), None)
    if not row["mismatches"]:
        return worst, ""
    return worst, f"{_count(row['mismatches'], 'element')} of {_size(row)} differ, where {row['dtype']} must be equal"


def _judge_floats(row: Json, rtol: float, atol: float) -> tuple[Element | None, str]:
    """The element that is worst by these tolerances, and what is wrong ("" if nothing)."""
    nonfinite = row["nonfinite"]
    if nonfinite and nonfinite["mismatches"]:
        return _element(nonfinite), f"NaN or infinite on one side at {nonfinite['mismatches']} of {_size(row)} elements"
    if not row["points"]:
        return None, ""
    excess = [_distance(point) - (atol + rtol * abs(point["reference"])) for point in row["points"]]
    at = max(range(len(excess)), key=excess.__getitem__)
    worst, limit = row["points"][at], atol + rtol * abs(row["points"][at]["reference"])
    # The comparison is numpy's own, to the last bit; the subtraction above only ranks.
    if all(_distance(p) <= atol + rtol * abs(p["reference"]) for p in row["points"]) and excess[at] + row["slack"] <= 0:
        return _element(worst), ""
    if excess[at] <= 0 < row["slack"] and _distance(worst) <= limit:
        return _element(worst), f"within {row['slack']:.1g} of the tolerance, too near to be sure of every element"
    return _element(worst), f"{_distance(worst):.3g} off, {limit:.3g} allowed"


def _distance(point: Json) -> float:
    return abs(float(point["got"]) - float(point["reference"]))


def _element(point: Json) -> Element:
    return Element(point["index"], point["got"], point["reference"])


def _size(row: Json) -> int:
    size = 1
    for length in row["shape"]:
        size *= length
    return size


def needed_atol(facts: Json, output: str, rtol: float) -> float | None:
    """The smallest atol, rounded up to two digits, that lets an output pass at every case; None if none does."""
    needed = 0.0
    for row in facts["results"]:
        if row["output"] != output:
            continue
        if row["error"] is not None or row["mismatches"] or row["exact"]:
            return None
        needed = max([needed, *(_distance(p) - rtol * abs(p["reference"]) + row["slack"] for p in row["points"])])
    if needed <= 0:
        return 0.0
    step = 10.0 ** (floor(log10(needed)) - 1)
    return float(f"{(floor(needed / step) + 1) * step:.2g}")


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
    lines.append(f"    case {worst.case}: {_seen(worst)}")
    graph = _introduced(failed, stage, earlier)
    before = _before(worst, earlier)
    lines.append(f"    introduced by {graph}{before}")
    return lines


def _seen(verdict: Verdict) -> str:
    """What was found at a verdict's worst element."""
    if verdict.worst is None:
        return verdict.note
    index = ", ".join(map(str, verdict.worst.index))
    place = f"{verdict.output}[{index}]" if verdict.worst.index else verdict.output
    got, reference = (f"{v:.9g}" if type(v) is float else str(v) for v in (verdict.worst.got, verdict.worst.reference))
    rule = f" (atol {verdict.atol:g} + rtol {verdict.rtol:g} * |{reference}|)" if "allowed" in verdict.note else ""
    return f"{place} is {got}, the reference has {reference}: {verdict.note}{rule}"


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
    """The first dimension none of whose sizes is on both sides; "" where there is none, or nothing on one side."""
    for dim in failed[0].dims if held else ():
        if not {v.dims[dim] for v in failed} & {v.dims[dim] for v in held}:
            return dim
    return ""


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
                return f"; after {graph_stage(name)} it was at most {verdict.max_abs:.3g} off at this case"
    return ""


def graph_stage(parity_stage: str) -> str:
    """The stage that made the graph which a parity is about: "export", "optimize/1-onnxsim"."""
    name = parity_stage.removeprefix("parity/")
    return name if name == "export" else f"optimize/{name}"


def _hint(failed: list[Verdict], peers: list[Verdict], graph: str, facts: Json) -> str:
    held = [verdict for verdict in peers if verdict.passed]
    dim = deciding_dim(failed, held)
    hints = []
    if graph != "export":
        hints.append(
            f"take '{graph.partition('-')[2]}' out of optimize, or keep only those of its steps that are right"
        )
    elif dim:
        example = peers[0].dims[dim]
        if example <= 1:
            hints.append(
                f"the example's {dim}={example} is easily taken for a constant; give the example 2 or more there"
            )
        hints.append(
            f"{dim} was fixed when the model was traced: look for int(x.shape[i]), len(x), .item() "
            "or a Python loop over it, and use x.shape[i] as it is"
        )
    elif not held and failed[0].ran and len(peers) > 1:
        hints.append("wrong at every size: look at the operators themselves, not at shapes; try the other exporter")
    worst = max(failed, key=_severity)
    atol = needed_atol(facts, worst.output, worst.rtol) if worst.rtol is not None else None
    if atol is not None and worst.worst and atol <= 0.01 * max(1.0, abs(float(worst.worst.reference))):
        hints.append(f"if that error is acceptable: parity.outputs.{worst.output}: {{atol: {atol:g}}}")
    return "; ".join(hints) or "run that case alone: name it under parity.cases and set parity.derive to false"


def _severity(verdict: Verdict) -> tuple[bool, float]:
    """Failures without a number (an error, a NaN) before the largest difference."""
    return verdict.worst is None or isinstance(verdict.worst.got, str), verdict.max_abs or 0.0


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
