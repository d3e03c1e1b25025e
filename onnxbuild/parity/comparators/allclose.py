"""|got - reference| <= atol + rtol * |reference| of every element, in float64, as `numpy.allclose` has it.

Integers, booleans and strings have to be equal. The facts hold the elements that decide for every pair of tolerances
(see `compare`), so nothing has to be run again. Judging needs no numpy.
"""

from __future__ import annotations

from math import isfinite, prod
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from onnxbuild.parity import compare
from onnxbuild.parity.verdict import Element, Judgement

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Json

PROPORTION = 1e-3  # of how far two results lie apart: a tolerance that tells them apart, and much smaller faults
STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}  # of 1.0 to the next one
FEW = 4  # rounding steps that any two right computations may differ by


class Options(Struct, frozen=True):
    """The tolerance; both are at least 0."""

    rtol: float
    atol: float


def measure(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> dict[str, Json]:
    """The facts about two arrays of one shape and dtype; see `compare.compare`."""
    return compare.unravel(compare.compare(got, reference), got.shape)


def judge(row: Json, options: Options) -> Judgement:
    """The worst element by this tolerance, and what is wrong."""
    return _exact(row) if row["exact"] else _floats(row, options.rtol, options.atol)


def remedy(apart: Json, options: Options) -> str:
    """A tolerance in proportion to how far two results lie apart, no finer than the dtype's rounding."""
    if apart["exact"] or apart["mismatches"] or not apart["max_abs"]:
        return ""
    largest = max((abs(float(point["reference"])) for point in apart["points"]), default=0.0)
    rounding = FEW * STEPS.get(apart["dtype"], 0.0) * largest
    atol = float(f"{max(PROPORTION * apart['max_abs'], rounding):.1g}")
    rtol = options.rtol if options.rtol * largest <= atol else 0.0
    return f"{{rtol: {rtol:g}, atol: {atol:g}}}" if atol + rtol * largest < apart["max_abs"] else ""


def _exact(row: Json) -> Judgement:
    """Integers, booleans or strings."""
    worst = next((element(point) for point in row["points"]), None)
    if not row["mismatches"]:
        return Judgement(worst, headroom=0.0)
    note = f"{row['mismatches']} of {prod(row['shape'])} elements differ; {row['dtype']} must be equal"
    return Judgement(worst, "unequal", note)


def nonfinite(row: Json) -> Judgement:
    """What is wrong where something is NaN or infinite on one side alone, whatever the tolerance."""
    found = row["nonfinite"]
    if not found or not found["mismatches"]:
        return Judgement()
    note = f"{found['mismatches']} of {prod(row['shape'])} elements are NaN or infinite, and differ"
    return Judgement(element(found), "nonfinite", note)


def _floats(row: Json, rtol: float, atol: float) -> Judgement:
    if (wrong := nonfinite(row)).kind:
        return wrong
    if not row["points"]:
        return Judgement(headroom=0.0)
    limits = [atol + rtol * abs(point["reference"]) for point in row["points"]]
    excess = [beyond(p, limit) for p, limit in zip(row["points"], limits, strict=True)]
    at = max(range(len(excess)), key=excess.__getitem__)
    worst, limit = element(row["points"][at]), limits[at]
    off = distance(row["points"][at])
    used = max((_share(distance(p), most) for p, most in zip(row["points"], limits, strict=True)), default=0.0)
    headroom = used if isfinite(used) else None
    # The comparison is numpy's own, to the last bit; the subtraction above only ranks.
    within = all(distance(p) <= most for p, most in zip(row["points"], limits, strict=True))
    if within and excess[at] + row["slack"] <= 0:
        return Judgement(worst, headroom=headroom)
    if excess[at] <= 0 < row["slack"] and off <= limit:
        note = f"within {row['slack']:.1g} of the tolerance, too near to be sure of every element"
        return Judgement(worst, "unsure", note, headroom)
    return Judgement(worst, "beyond", f"{off:.3g} off, {limit:.3g} allowed", headroom)


def _share(off: float, allowed: float) -> float:
    """An error over what is allowed; the largest one among the corners of the hull is the largest of all elements."""
    return off / allowed if allowed else float("inf") if off else 0.0


def distance(point: Json) -> float:
    """|got - reference| at an element."""
    return abs(float(point["got"]) - float(point["reference"]))


def beyond(point: Json, limit: float) -> float:
    """How much further off than `limit` an element is; what no float can hold is beyond every limit."""
    off = distance(point)
    return off - limit if isfinite(off) else off


def element(point: Json) -> Element:
    """A point of the facts as an element of the report."""
    return Element(point["index"], point["got"], point["reference"])
