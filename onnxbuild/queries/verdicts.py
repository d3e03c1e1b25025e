"""Joins what parity stages measured to the recipe's tolerances: a stage's verdict, and the report's rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from onnxbuild.contracts import Trait
from onnxbuild.parity import diagnosis
from onnxbuild.parity.diagnosis import Verdict
from onnxbuild.plan.dag import Stage
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import Failure, ParityRow, StageReport, Worst


def judged(
    recipe: Recipe, stage: Stage, report: StageReport, before: Iterable[tuple[Stage, StageReport]]
) -> StageReport:
    """The report of a stage that proves a graph, turned into a failure where an output is out of tolerance; others as
    they are.

    A graph of which no comparison proves anything fails too, unless the recipe allows it: a wrong one would pass.
    `before` are the stages already done with their reports; those that proved earlier graphs tell which stage introduced
    an error.
    """
    if not stage.is_a(Trait.PROVES):
        return report
    verdicts = diagnosis.judge(report.facts, recipe.parity)
    hollow = {verdict.status for verdict in verdicts} == {"vacuous"} and not recipe.parity.allow_vacuous
    if hollow:
        return _failed(report, *_unproven(verdicts))
    if all(verdict.passed for verdict in verdicts):
        return report
    earlier = [
        (one.name, diagnosis.judge(one.facts, recipe.parity)) for stage, one in before if _is_measured(stage, one)
    ]
    axes = recipe.export.dynamic_axes
    fact, hint = diagnosis.explain(verdicts, report.facts, report.name, axes, earlier)
    return _failed(report, fact.removeprefix(f"{report.name}: "), hint)


def _failed(report: StageReport, fact: str, hint: str) -> StageReport:
    return msgspec.structs.replace(report, status="failed", failure=Failure(report.name, fact, hint))


def _unproven(verdicts: Iterable[Verdict]) -> tuple[str, str]:
    """The fact and the hint of a graph whose every comparison is vacuous."""
    why: dict[str, list[str]] = {}
    for verdict in verdicts:
        why.setdefault(verdict.output, []).append(verdict.note)
    each = "; ".join(f"{output}: {' or '.join(dict.fromkeys(notes))}" for output, notes in why.items())
    return (
        f"no comparison proves anything: {each}",
        "look at the model's weights and the inputs' data, or set parity.allow_vacuous to build all the same",
    )


def rows(recipe: Recipe, stages: Iterable[tuple[Stage, StageReport]]) -> list[ParityRow]:
    """One row per graph, case and output, in the order of the stages."""
    return [
        _row(report.name, verdict)
        for stage, report in stages
        if _is_measured(stage, report)
        for verdict in diagnosis.judge(report.facts, recipe.parity)
    ]


def _is_measured(stage: Stage, report: StageReport) -> bool:
    return stage.is_a(Trait.PROVES) and "results" in report.facts


def _row(stage: str, verdict: Verdict) -> ParityRow:
    at = verdict.worst
    worst = None if at is None else Worst(at.index, at.got, at.reference)
    return ParityRow(
        stage,
        verdict.case,
        verdict.output,
        verdict.passed,
        verdict.status,
        verdict.max_abs,
        verdict.max_rel,
        verdict.rtol,
        verdict.atol,
        worst,
        verdict.note,
    )
