"""One output at one case against the tolerance in force: the verdict. Pure; needs no numpy.

A parity stage carries its tolerances as a value that is in no key: what was measured is judged again by any other. How
an output is judged is its comparator's; whether a comparison can fail at all is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Context, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from onnxbuild.parity.comparators import COMPARATORS, DEFAULT, allclose
from onnxbuild.parity.verdict import Verdict

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

Tolerance = Annotated[float, Meta(ge=0)]
RTol = Annotated[float, Meta(ge=0, description="What is allowed, as a share of the reference's value.")]
ATol = Annotated[float, Meta(ge=0, description="What is allowed besides, whatever the value.")]


class OutputTolerance(Struct, frozen=True, forbid_unknown_fields=True):
    """What is allowed of one output; what is left out is as for all."""

    rtol: RTol | UnsetType = UNSET
    atol: ATol | UnsetType = UNSET


class Tolerances(Struct, frozen=True, forbid_unknown_fields=True):
    """What is allowed of a graph's outputs: of all of them, and of single ones."""

    rtol: RTol = 1e-3
    atol: ATol = 1e-5
    outputs: Annotated[dict[str, OutputTolerance], Meta(description="Other tolerances for single outputs.")] = {}


class Resolution(NamedTuple):
    """How far apart two results of the source model are under a tolerance, and why that proves nothing, if it doesn't."""

    headroom: float | None = None
    hollow: str = ""
    remedy: str = ""


def limit(tolerances: Tolerances, output: str) -> tuple[str, Any]:
    """The comparator that holds for an output, by name, and its options: its own, else those of all."""
    own = tolerances.outputs.get(output)
    rtol = tolerances.rtol if own is None or own.rtol is UNSET else own.rtol
    atol = tolerances.atol if own is None or own.atol is UNSET else own.atol
    return DEFAULT, allclose.Options(rtol, atol)


def judge(facts: Json, tolerances: Tolerances, stage: str = "") -> list[Verdict]:
    """One verdict per case and output, in the order of the facts; `stage` is the parity's name."""
    apart: Mapping[str, Json] = facts.get("resolution", {})
    found = {output: resolution(output, row, tolerances) for output, row in apart.items()}
    return [
        verdict(row, facts["not_run"], tolerances, stage, found.get(row["output"], Resolution()))
        for row in facts["results"]
    ]


def resolution(output: str, apart: Json, tolerances: Tolerances) -> Resolution:
    """What a tolerance makes of two results of the source model that are `apart` by these facts.

    Where one would pass for the other, a graph that is wrong by all that there is to see would pass as well.
    """
    comparator, options = limit(tolerances, output)
    judged = COMPARATORS[comparator].judge(apart, options)
    if judged.kind:
        return Resolution(judged.headroom)
    hollow = (
        f"the tolerance is larger than the signal: {apart['of']} are at most {apart['max_abs']:.2g} away and would pass "
        f"(its values spread over {apart['spread']:.2g})"
    )
    return Resolution(judged.headroom, hollow, COMPARATORS[comparator].remedy(apart, options))


def verdict(
    row: Json, not_run: str | None, tolerances: Tolerances, stage: str = "", apart: Resolution | None = None
) -> Verdict:
    """The verdict on one of a parity's `results`; `not_run` is why the graph was not run at all."""
    case, dims, output = row["case"], row["dims"], row["output"]
    apart = apart or Resolution()
    if not_run:
        return Verdict(stage, case, output, passed=True, status="not run", dims=dims, note=not_run, ran=False)
    if row["error"] is not None:
        ran = row["shape"] is not None
        failed = Verdict(stage, case, output, passed=False, status="failed", dims=dims, note=row["error"], ran=ran)
        return structs.replace(failed, why="interface" if ran else "not run")
    comparator, options = limit(tolerances, output)
    judged = COMPARATORS[comparator].judge(row, options)
    passed = not judged.kind
    hollow = row["vacuous"] or apart.hollow
    own = {} if row["exact"] else {"rtol": options.rtol, "atol": options.atol}
    return Verdict(
        stage,
        case,
        output,
        passed=passed,
        status="failed" if not passed else "vacuous" if hollow else "passed",
        max_abs=row["max_abs"],
        max_rel=row["max_rel"],
        worst=judged.worst,
        note=judged.note or hollow,
        remedy=apart.remedy if passed and not row["vacuous"] else "",
        dims=dims,
        varies=row.get("varies"),
        headroom=judged.headroom if not hollow or not passed else None,
        resolution=apart.headroom,
        why=judged.kind,
        **own,
    )


def needed_atol(facts: Json, output: str, rtol: float) -> float | None:
    """The smallest atol, rounded up to two digits, that lets an output pass at every case; None if none does."""
    needed = 0.0
    for row in facts["results"]:
        if row["output"] != output:
            continue
        if row["error"] is not None or row["mismatches"] or row["exact"]:
            return None
        most = (allclose.beyond(p, rtol * abs(p["reference"])) + row["slack"] for p in row["points"])
        needed = max([needed, *most])
    if needed <= 0 or not isfinite(needed):
        return 0.0 if needed <= 0 else None
    # In decimal: a step of ten to the minus 325 is 0 as a float, and one beyond the largest float none at all.
    digits = Context(prec=2, rounding=ROUND_FLOOR)
    atol = float(digits.next_plus(digits.create_decimal(Decimal(needed))))
    return atol if isfinite(atol) else None
