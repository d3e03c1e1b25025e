"""One output at one case against the tolerance in force: the verdict. Pure; needs no numpy.

A parity stage carries its tolerances as a value that is in no key: what was measured is judged again by any other. How
an output is judged is its comparator's; whether a comparison can fail at all is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Context, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from onnxbuild.parity import gates
from onnxbuild.parity.comparators import COMPARATORS, allclose
from onnxbuild.parity.verdict import Gate, Judgement, Verdict

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

RTOL, ATOL = 1e-3, 1e-5  # what is allowed without a reason
Tolerance = Annotated[float, Meta(ge=0)]
RTol = Annotated[float, Meta(ge=0, description="What is allowed, as a share of the reference's value.")]
ATol = Annotated[float, Meta(ge=0, description="What is allowed besides, whatever the value.")]
Reason = Annotated[
    str,
    Meta(
        description="Why this is right: asked for where it is looser than rtol 1e-3 and atol 1e-5, and of every "
        "comparator but `exact`. It is shown in the report."
    ),
]
_COMPARATORS = [(name, module.Options | UnsetType, UNSET) for name, module in COMPARATORS.items()]
OutputTolerance = msgspec.defstruct(
    "OutputTolerance",
    [
        ("rtol", RTol | UnsetType, UNSET),
        ("atol", ATol | UnsetType, UNSET),
        *_COMPARATORS,
        ("reason", Reason, ""),
    ],
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    namespace={
        "__doc__": "What is allowed of one output. Where comparators are named, each of them has to hold, and rtol and atol "
        "judge only where one of them is named, too."
    },
)


class Tolerances(Struct, frozen=True, forbid_unknown_fields=True):
    """What is allowed of a graph's outputs: of all of them, and of single ones."""

    rtol: RTol = RTOL
    atol: ATol = ATOL
    outputs: Annotated[
        dict[str, OutputTolerance],  # type: ignore[valid-type]  # made from the table of comparators
        Meta(description="Other tolerances for single outputs, and other ways of comparing them."),
    ] = {}
    reason: Reason = ""


class Limit(NamedTuple):
    """What holds for one output: rtol and atol, None where only comparators do; those with their options; and why."""

    elements: allclose.Options | None
    comparators: dict[str, Any]
    reason: str = ""


class Resolution(NamedTuple):
    """How far apart two results of the source model are under a tolerance, and why that proves nothing, if it doesn't."""

    headroom: float | None = None
    hollow: str = ""
    remedy: str = ""


def limit(tolerances: Tolerances, output: str) -> Limit:
    """What holds for an output: its own, else that of all."""
    own: Any = tolerances.outputs.get(output)
    if own is None:
        return Limit(allclose.Options(tolerances.rtol, tolerances.atol), {}, tolerances.reason)
    rtol = tolerances.rtol if own.rtol is UNSET else own.rtol
    atol = tolerances.atol if own.atol is UNSET else own.atol
    named = {name: found for name in COMPARATORS if (found := getattr(own, name)) is not UNSET}
    only = named and own.rtol is UNSET and own.atol is UNSET
    return Limit(None if only else allclose.Options(rtol, atol), named, own.reason or tolerances.reason)


def asked(tolerances: Tolerances) -> dict[str, dict[str, Json]]:
    """What is to be measured beside the elements, by output and comparator, with the parameters that measuring needs."""
    found = {output: limit(tolerances, output).comparators for output in tolerances.outputs}
    return {
        output: {name: gates.parameters(name, options) for name, options in named.items()}
        for output, named in found.items()
        if named
    }


def unreasoned(tolerances: Tolerances) -> Tolerances:
    """The same without the reasons, which decide nothing and so are in no key."""
    outputs = {name: structs.replace(own, reason="") for name, own in tolerances.outputs.items()}
    return structs.replace(tolerances, outputs=outputs, reason="")


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
    held = limit(tolerances, output)
    judged, passed = _judged(apart, held)
    if judged.kind:
        return Resolution(judged.headroom)
    spread = f"(its values spread over {apart['spread']:.2g})"
    if held.elements is None:
        told = ", ".join(f"{gate.comparator} {gate.figure:.6g}" for gate in passed if gate.figure is not None)
        hollow = f"{apart['of']} would pass: {told or 'they are the same'} {spread}"
        remedies = [text for name in held.comparators if (text := gates.remedy(name, apart["measured"][name]))]
        return Resolution(judged.headroom, hollow, f"{{{', '.join(remedies)}}}" if remedies else "")
    hollow = (
        f"the tolerance is larger than the signal: {apart['of']} are at most {apart['max_abs']:.2g} away and would pass "
        f"{spread}"
    )
    return Resolution(judged.headroom, hollow, allclose.remedy(apart, held.elements))


def verdict(
    row: Json, not_run: str | None, tolerances: Tolerances, stage: str = "", apart: Resolution | None = None
) -> Verdict:
    """The verdict on one of a parity's `results`; `not_run` is why the graph was not run at all."""
    case, dims, output = row["case"], row["dims"], row["output"]
    apart = apart or Resolution()
    held = limit(tolerances, output)
    if not_run:
        return Verdict(stage, case, output, passed=True, status="not run", dims=dims, note=not_run, ran=False)
    if row["error"] is not None:
        ran = row["shape"] is not None
        failed = Verdict(stage, case, output, passed=False, status="failed", dims=dims, note=row["error"], ran=ran)
        return structs.replace(failed, why="interface" if ran else "not run")
    judged, found = _judged(row, held)
    passed = not judged.kind
    hollow = row["vacuous"] or _hollow(found, held) or apart.hollow
    elements = held.elements if not row["exact"] else None
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
        gates=found,
        reason=held.reason,
        rtol=elements.rtol if elements else None,
        atol=elements.atol if elements else None,
    )


def _judged(row: Json, held: Limit) -> tuple[Judgement, list[Gate]]:
    """Everything that holds for an output: the elements first, then each comparator; what fails is told of all of them.

    What is NaN or infinite on one side alone is right by no comparator.
    """
    found = [gates.judge(name, row["measured"][name], options) for name, options in held.comparators.items()]
    elements = allclose.nonfinite(row) if held.elements is None else allclose.judge(row, held.elements)
    if held.elements is not None and not found:
        return elements, []
    shares = [elements.headroom] if held.elements is not None else []
    shares += [gate.used for gate in found]
    headroom = None if None in shares else max((share for share in shares if share is not None), default=None)
    failed = [gate.told for gate in found if not gate.passed]
    note = "; ".join(filter(None, [elements.note, *failed]))
    unfit = any(row["measured"][name]["refused"] for name in held.comparators)
    kind = elements.kind or ("unfit" if unfit else "below" if failed else "")
    return Judgement(elements.worst if elements.kind else None, kind, note, headroom), found


def _hollow(found: list[Gate], held: Limit) -> str:
    """Why agreement proves nothing at a case, where no comparator's does."""
    if held.elements is not None or not found or not all(gate.hollow for gate in found):
        return ""
    return "; ".join(f"{gate.comparator} proves nothing: {gate.hollow}" for gate in found)


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
