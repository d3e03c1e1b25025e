"""One output at one case against its tolerances: the verdict. Pure; needs no numpy.

|got - reference| <= atol + rtol * |reference| must hold of every element, in float64, as `numpy.allclose` has it. The
facts hold the elements that decide this for every pair of tolerances (see `compare`), so nothing has to be run again.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

Tolerance = Annotated[float, Meta(ge=0)]
Value: TypeAlias = float | int | bool | str


class OutputTolerance(Struct, frozen=True, forbid_unknown_fields=True):
    rtol: Tolerance | UnsetType = UNSET
    atol: Tolerance | UnsetType = UNSET


class Tolerances(Struct, frozen=True, forbid_unknown_fields=True):
    """What is allowed of a graph's outputs: of all of them, and of single ones."""

    rtol: Tolerance = 1e-3
    atol: Tolerance = 1e-5
    outputs: Annotated[dict[str, OutputTolerance], Meta(description="Other tolerances for single outputs.")] = {}


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


def limits(tolerances: Tolerances, output: str) -> tuple[float, float]:
    """The rtol and atol that hold for an output: its own, else those of all."""
    own = tolerances.outputs.get(output)
    rtol = tolerances.rtol if own is None or own.rtol is UNSET else own.rtol
    atol = tolerances.atol if own is None or own.atol is UNSET else own.atol
    return rtol, atol


def verdict(row: Json, not_run: str | None, tolerances: Tolerances) -> Verdict:
    """The verdict on one of a parity's `results`; `not_run` is why the graph was not run at all."""
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
        rtol, atol = limits(tolerances, output)
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
    return worst, f"{row['mismatches']} of {_size(row)} elements differ; {row['dtype']} must be equal"


def _judge_floats(row: Json, rtol: float, atol: float) -> tuple[Element | None, str]:
    """The element that is worst by these tolerances, and what is wrong ("" if nothing)."""
    nonfinite = row["nonfinite"]
    if nonfinite and nonfinite["mismatches"]:
        return _element(
            nonfinite
        ), f"{nonfinite['mismatches']} of {_size(row)} elements are NaN or infinite, and differ"
    if not row["points"]:
        return None, ""
    limits = [atol + rtol * abs(point["reference"]) for point in row["points"]]
    excess = [_beyond(p, limit) for p, limit in zip(row["points"], limits, strict=True)]
    at = max(range(len(excess)), key=excess.__getitem__)
    worst, limit = row["points"][at], limits[at]
    # The comparison is numpy's own, to the last bit; the subtraction above only ranks.
    within = all(_distance(p) <= limit for p, limit in zip(row["points"], limits, strict=True))
    if within and excess[at] + row["slack"] <= 0:
        return _element(worst), ""
    if excess[at] <= 0 < row["slack"] and _distance(worst) <= limit:
        return _element(worst), f"within {row['slack']:.1g} of the tolerance, too near to be sure of every element"
    return _element(worst), f"{_distance(worst):.3g} off, {limit:.3g} allowed"


def _distance(point: Json) -> float:
    return abs(float(point["got"]) - float(point["reference"]))


def _beyond(point: Json, limit: float) -> float:
    """How much further off than `limit` an element is; what no float can hold is beyond every limit."""
    distance = _distance(point)
    return distance - limit if isfinite(distance) else distance


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
        needed = max([needed, *(_beyond(p, rtol * abs(p["reference"])) + row["slack"] for p in row["points"])])
    if needed <= 0 or not isfinite(needed):
        return 0.0 if needed <= 0 else None
    # In decimal: a step of ten to the minus 325 is 0 as a float, and one beyond the largest float none at all.
    digits = Context(prec=2, rounding=ROUND_FLOOR)
    atol = float(digits.next_plus(digits.create_decimal(Decimal(needed))))
    return atol if isfinite(atol) else None
