"""Judges what metric stages measured by the drop that the recipe allows: a stage's verdict, and the report's rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import UnsetType

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity import metric
from onnxbuild.passes import EXCLUDING
from onnxbuild.plan.dag import Stage
from onnxbuild.queries.reasons import dotted
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import Failure, Score, StageReport
from onnxbuild.text import units


def judged(
    recipe: Recipe, stage: Stage, report: StageReport, before: Iterable[tuple[Stage, StageReport]]
) -> StageReport:
    """The report of a stage that makes a figure, turned into a failure where that is too far below the source model's.

    `before` are the stages already done with their reports, the source model's figure among them.
    """
    earlier = [*before]
    rows = _rows(recipe, [*earlier, (stage, report)])
    if not rows or rows[-1].stage != stage.name or rows[-1].passed:
        return report
    fact, hint = _told(rows, [one for one, _ in earlier])
    return msgspec.structs.replace(report, status="failed", failure=Failure(report.name, fact, hint))


def rows(recipe: Recipe, stages: Sequence[tuple[Stage, StageReport]]) -> list[Score]:
    """A row for each figure that was made, in the order of the stages; each graph is held against the source model."""
    return _rows(recipe, stages)


def _rows(recipe: Recipe, stages: Iterable[tuple[Stage, StageReport]]) -> list[Score]:
    found: list[Score] = []
    asked = recipe.metric
    if isinstance(asked, UnsetType):
        return []
    for stage, report in stages:
        if not stage.is_a(Trait.SCORES) or "value" not in report.facts:
            continue
        facts = report.facts
        of = stage.needs["graph"][0] if stage.needs else ""
        if of and not found:  # the source model's is not known yet
            continue
        value, drop, passed = facts["value"], None, True
        if of:
            drop, passed = metric.judge(value, found[0].value, asked)
        found.append(
            Score(
                stage.name,
                of,
                facts["function"],
                value,
                facts["rows"],
                drop,
                asked.max_drop,
                asked.higher_is_better,
                passed,
            )
        )
    return found


def _told(rows: Sequence[Score], before: Sequence[Stage]) -> tuple[str, str]:
    """The fact and the hint of a figure that is too far below the source model's."""
    row, reference = rows[-1], rows[0]
    fact = (
        f"{row.function} is {units.value(row.value)} on {units.plural(row.rows, 'sample')}, the source model's is "
        f"{units.value(reference.value)}: worse by {units.value(row.drop or 0.0)}, and metric.max_drop allows "
        f"{units.value(row.max_drop)}"
    )
    chain = [one for one in before if one.is_a(Trait.GRAPH)]
    made = next((one for one in chain if one.name == row.of), None)
    names = [one.name for one in chain[: chain.index(made) if made is not None else None]]
    earlier = sorted((one for one in rows if one.of in names), key=lambda one: names.index(one.of))
    if earlier:
        fact += f"; of {earlier[-1].of} it was {units.value(earlier[-1].value)}"
    kind = str(made.entry[-1]) if made is not None and made.entry else ""
    if kind in EXCLUDING and made is not None and all(one.passed for one in earlier):
        return fact, f"onnxbuild tune finds the nodes that {dotted(made.entry)} has to leave as they are"
    return fact, "raise metric.max_drop if that may be lost, or take out what costs it"


def blind(recipe: Recipe, facts: Mapping[str, Json]) -> Iterable[str]:
    """The warning that a metric can't fail: a model that does not look at its input would pass."""
    value, asked = facts.get("blind"), recipe.metric
    if value is None or isinstance(asked, UnsetType) or not metric.judge(value, facts["value"], asked).passed:
        return
    yield (
        f"the metric {facts['function']} is {units.value(facts['value'])}, and {units.value(value)} where every sample "
        f"gets the outputs of the first: with metric.max_drop {units.value(asked.max_drop)} it proves nothing"
    )
