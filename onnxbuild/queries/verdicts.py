"""Judges what parity stages measured by the tolerances that they carry: a stage's verdict, and the report's rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity import diagnosis, evidence, tolerance
from onnxbuild.parity.verdict import Verdict
from onnxbuild.passes import EXCLUDING
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import scores
from onnxbuild.queries.reasons import dotted
from onnxbuild.recipe import interface
from onnxbuild.recipe.types import Recipe, chosen
from onnxbuild.report.types import Failure, StageReport

REFUSED = "refused"  # the fact of a stage that is known to fail: what it says, and its hint


def judged(
    recipe: Recipe, stage: Stage, report: StageReport, before: Iterable[tuple[Stage, StageReport]]
) -> StageReport:
    """The report of a stage that proves a graph, turned into a failure where an output is out of tolerance, and of one
    that is known to refuse; others as they are.

    A graph of which no comparison proves anything fails too, unless the recipe allows it: a wrong one would pass.
    `before` are the stages already done with their reports; those that proved earlier graphs tell which stage introduced
    an error.
    """
    if refused := report.facts.get(REFUSED):
        return _failed(msgspec.structs.replace(report, facts={}), refused["fact"], refused["hint"])
    if stage.is_a(Trait.SCORES):
        return scores.judged(recipe, stage, report, before)
    return _proved(recipe, stage, report, before) if stage.is_a(Trait.PROVES) else report


def _proved(
    recipe: Recipe, stage: Stage, report: StageReport, before: Iterable[tuple[Stage, StageReport]]
) -> StageReport:
    verdicts = _judge(stage, report)
    if report.facts.get("lost"):
        return _explained(recipe, stage, report, before, evidence.NONE)
    hollow = {verdict.status for verdict in verdicts} == {"vacuous"} and not recipe.parity.allow_vacuous
    if hollow:
        return _failed(report, *_unproven(verdicts, dotted(stage.allowed_at)))
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
    verdicts = _judge(stage, report)
    if lost := report.facts.get("lost", []):
        return _failed(report, *_unread(lost, verdicts, before))
    export: Json = next((one.facts for _, one in before if "exporter" in one.facts), {})
    context = diagnosis.Context(
        report.name,
        interface.published(recipe).dynamic_axes,
        [(one.name, _judge(stage, one)) for stage, one in before if _is_measured(stage, one)],
        export.get("exporter", ""),
        export.get("fixed", []),
        known,
        {one.name: one.needs["graph"][0] for one in (stage, *(one for one, _ in before)) if one.is_a(Trait.PROVES)},
        {one.name: one.entry for one, _ in before},
        EXCLUDING,
        _place(recipe, stage),
        sum(chosen(one)[0] in EXCLUDING for one in recipe.optimize) > 1,
    )
    fact, hint = diagnosis.explain(verdicts, report.facts, context)
    return _failed(report, fact.removeprefix(f"{report.name}: "), _of_values(recipe, verdicts, hint))


def _place(recipe: Recipe, stage: Stage) -> str:
    """Where the recipe says what is allowed of a graph; "" where a pass or target may say it without anything being lost."""
    own = recipe.parity
    nothing = (own.rtol, own.atol, own.outputs) == (tolerance.RTOL, tolerance.ATOL, {})
    return "" if stage.allowed_at == ("parity",) and nothing else dotted(stage.allowed_at)


def _failed(report: StageReport, fact: str, hint: str) -> StageReport:
    return msgspec.structs.replace(report, status="failed", failure=Failure(report.name, fact, hint))


def _unproven(verdicts: Iterable[Verdict], place: str) -> tuple[str, str]:
    """The fact and the hint of a graph whose every comparison is vacuous; `place` is where the recipe's tolerances are."""
    why: dict[str, list[str]] = {}
    remedies: dict[str, str] = {}
    for verdict in verdicts:
        why.setdefault(verdict.output, []).append(verdict.note)
        if verdict.remedy:
            remedies[verdict.output] = f"{place}.outputs.{verdict.output}: {verdict.remedy}"
    each = "; ".join(f"{output}: {' or '.join(dict.fromkeys(notes))}" for output, notes in why.items())
    advice = "look at the model's weights and the inputs' data"
    if remedies:
        advice = f"give a tolerance in proportion to how far results lie apart, {', '.join(remedies.values())}"
    return (
        f"no comparison proves anything: {each}",
        f"{advice}, or set parity.allow_vacuous to build all the same",
    )


def _unread(
    lost: list[str], verdicts: Sequence[Verdict], before: Iterable[tuple[Stage, StageReport]]
) -> tuple[str, str]:
    """The fact and the hint of a graph that does not read inputs which the source model's result depends on."""
    names = ", ".join(f"'{name}'" for name in lost)
    several = "inputs" if lost[1:] else "input"
    wrong = sum(not verdict.passed for verdict in verdicts)
    lines = [f"no node reads the values of {several} {names}, though the source model's result depends on them"]
    lines.append(
        f"    {wrong} of {len(verdicts)} comparisons are wrong"
        if wrong
        else "    every comparison passes, since the cases have no values for which that matters"
    )
    lines += [f"    {note}" for _, report in before for note in report.facts.get("fixed", [])]
    hint = (
        "the exporter took what the model does at the example's values for all there is to do: write it with tensors "
        "alone (torch.where, torch.cond, a mask that is always added), give the example values that take the other way, "
        f"or, where {'they have' if lost[1:] else 'it has'} one value for ever, make it a constant under export.arguments"
    )
    return "\n".join(lines), hint


def _of_values(recipe: Recipe, verdicts: Iterable[Verdict], hint: str) -> str:
    """The hint where a graph is wrong only for values that its inputs' descriptions leave open; the given one elsewhere."""
    varied = [verdict.varies for verdict in verdicts if not verdict.passed]
    if not varied or None in varied:
        return hint
    name = str(varied[0])
    own = interface.published(recipe).inputs[name]
    place = f"{interface.declared_at(recipe, name)}.data"
    if "float" in own.dtype:
        return (
            f"{hint}; '{name}' has no described values, so negative ones alone are tried too: where it never has only such, "
            f"say so: {place}: {{uniform: {{low: 0.0, high: 1.0}}}}"
        )
    if own.data is not UNSET:
        return f"only other values of '{name}' than the rest of the cases have break it: look at what the model does with it"
    return (
        f"'{name}' has no described values, so negative and large ones are tried too: "
        "integer division, remainders and shifts of negative numbers differ between torch and ONNX (torch.div with "
        "rounding_mode='floor' on floats, torch.where); "
        f"where it never has such values, say so: {place}: {{integers: {{low: 0, high: 10}}}}"
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
