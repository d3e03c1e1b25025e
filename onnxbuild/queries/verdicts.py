"""Judges what parity stages measured by the tolerances that they carry: a stage's verdict, and the report's rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity import diagnosis, evidence, tolerance
from onnxbuild.parity.verdict import Verdict
from onnxbuild.plan.dag import Stage
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import Failure, StageReport


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
    verdicts = _judge(stage, report)
    hollow = {verdict.status for verdict in verdicts} == {"vacuous"} and not recipe.parity.allow_vacuous
    if hollow:
        return _failed(report, *_unproven(verdicts))
    if all(verdict.passed for verdict in verdicts):
        return report
    return _explained(recipe, stage, report, before, evidence.NONE)


def looked_into(stage: Stage, report: StageReport) -> dict[str, list[str]]:
    """The cases, and their outputs, of a proof that failed of which there is more to find out; none of any other."""
    if report.failure is None or not _is_measured(stage, report):
        return {}
    known = {case["name"] for case in stage.options["cases"]}  # and none that was run once more
    failed = diagnosis.looked_into(_judge(stage, report))
    return {case: outputs for case, outputs in failed.items() if case in known}


def told_again(
    recipe: Recipe,
    stage: Stage,
    report: StageReport,
    before: Iterable[tuple[Stage, StageReport]],
    found: Json,
) -> StageReport:
    """The report of a proof that failed, told once more with what was found out by looking into it (`Evidence` as JSON)."""
    known = msgspec.convert(found, evidence.Evidence)
    told = _explained(recipe, stage, report, before, known)
    assert told.failure is not None
    return msgspec.structs.replace(told, failure=msgspec.structs.replace(told.failure, kept=known.kept))


def _explained(
    recipe: Recipe,
    stage: Stage,
    report: StageReport,
    before: Iterable[tuple[Stage, StageReport]],
    known: evidence.Evidence,
) -> StageReport:
    """The report as a failure, in words."""
    before = list(before)
    export: Json = next((one.facts for _, one in before if "exporter" in one.facts), {})
    context = diagnosis.Context(
        report.name,
        recipe.export.dynamic_axes,
        [(one.name, _judge(stage, one)) for stage, one in before if _is_measured(stage, one)],
        export.get("exporter", ""),
        export.get("fixed", []),
        known,
        {one.name: one.needs["graph"][0] for one in (stage, *(one for one, _ in before)) if one.is_a(Trait.PROVES)},
        {one.name: one.entry for one, _ in before},
    )
    fact, hint = diagnosis.explain(_judge(stage, report), report.facts, context)
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


def rows(stages: Iterable[tuple[Stage, StageReport]]) -> list[Verdict]:
    """One row per graph, case and output, in the order of the stages."""
    return [row for stage, report in stages if _is_measured(stage, report) for row in _judge(stage, report)]


def _judge(stage: Stage, report: StageReport) -> list[Verdict]:
    """The verdicts on what a stage measured, by the tolerances that it carries."""
    assert stage.tolerances is not None
    return tolerance.judge(report.facts, stage.tolerances, report.name)


def _is_measured(stage: Stage, report: StageReport) -> bool:
    return stage.is_a(Trait.PROVES) and "results" in report.facts
