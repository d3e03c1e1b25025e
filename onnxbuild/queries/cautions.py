"""What a reader has to know before anything else of a build that succeeded: where it proves less than it seems to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import UNSET

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity import tolerance
from onnxbuild.parity.comparators import COMPARATORS
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import scores
from onnxbuild.queries.reasons import dotted
from onnxbuild.recipe.types import Recipe

SHOWN = 4  # cases named before "and 3 more"


def of(recipe: Recipe, found: Iterable[tuple[Stage, Mapping[str, Json]]]) -> list[str]:
    """The warnings on a recipe, each once; `found` are the facts of its stages, in the plan's order."""
    said: list[str] = []
    for stage, facts in found:
        said += _narrowed(recipe, facts.get("narrowed", {}))
        said += [_all_nan(output, cases) for output, cases in facts.get("all_nan", {}).items()]
        if stage.is_a(Trait.PROVES) and stage.tolerances is not None:
            said += _coarse(stage, stage.tolerances, facts)
            said += _in_part(stage, stage.tolerances, facts)
        if stage.is_a(Trait.SCORES):
            said += scores.blind(recipe, facts)
    return list(dict.fromkeys(said))


def _narrowed(recipe: Recipe, narrowed: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """Dimensions that the exporter holds for a part of the recipe's range alone."""
    for dim, limits in narrowed.items():
        declared = recipe.export.limits(dim)
        if "max" in limits:
            given = "no max" if declared.max is UNSET else f"max {declared.max}"
            yield (
                f"{dim} has {given} in the recipe, and the exporter says that the graph holds up to {limits['max']}: "
                f"nothing is promised beyond; say export.dims.{dim}.max: {limits['max']}, or mend the model"
            )
        if "min" in limits:
            yield (
                f"{dim} has min {declared.min} in the recipe, and the exporter says that the graph holds from "
                f"{limits['min']} on: say export.dims.{dim}.min: {limits['min']}, or mend the model"
            )


def _all_nan(output: str, cases: list[str]) -> str:
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    where = "; ".join(cases[:SHOWN]) + more
    return f"output '{output}' of the source model is all NaN at {where}: nothing is compared there"


def _in_part(stage: Stage, tolerances: tolerance.Tolerances, facts: Mapping[str, Json]) -> Iterable[str]:
    """Outputs of which a comparator among several proves nothing, or whose comparators don't see a difference there is."""
    if facts.get("not_run", True):
        return
    for output, named in tolerance.asked(tolerances).items():
        rows = [row for row in tolerance.judge(facts, tolerances) if row.output == output and row.gates]
        for name in named:
            own = [gate for row in rows for gate in row.gates if gate.comparator == name]
            if own and all(gate.hollow for gate in own):
                yield f"output '{output}': {name} proves nothing: {own[0].hollow}"
            unseen = next((gate.unseen for gate in own if gate.unseen and gate.passed), "")
            if unseen and not any(row.rtol is not None for row in rows) and "sqnr" not in named:
                yield f"output '{output}' of {stage.name}: {unseen}"
            seen = [gate.few for gate in own if gate.few and gate.passed]
            few = seen[0] if 2 * len(seen) > len(own) else ""  # at a size or two, few values may be all there is
            others = any(COMPARATORS[one].LEAST != "min" for one in named) or any(row.rtol is not None for row in rows)
            if few and not others:
                yield f"output '{output}' of {stage.name}: {few}; name rtol, top_k or argmax beside it"


def _coarse(stage: Stage, tolerances: tolerance.Tolerances, facts: Mapping[str, Json]) -> Iterable[str]:
    """Outputs for which the tolerance is larger than the signal."""
    for output, apart in facts.get("resolution", {}).items():
        found = tolerance.resolution(output, apart, tolerances)
        if found.hollow:
            remedy = (
                f"; {dotted(stage.allowed_at)}.outputs.{output}: {found.remedy} tells them apart"
                if found.remedy
                else ""
            )
            yield f"output '{output}' is not proved: {found.hollow}{remedy}"
