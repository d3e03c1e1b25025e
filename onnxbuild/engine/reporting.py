"""From what came of the stages to the build report. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from onnxbuild.contracts import Trait
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.queries import cautions, scores, verdicts
from onnxbuild.recipe import interface
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import (
    Artifact,
    Aside,
    BenchmarkReport,
    Failure,
    Graph,
    Package,
    RecipeReport,
    Report,
    RunReport,
    Source,
    StageReport,
    Target,
)
from onnxbuild.stages import benchmark


class Sources(Struct, frozen=True):
    """What the model was made from: the recipe, the files that its stages took or were found to use, and packages."""

    recipe: RecipeReport
    files: list[Source]
    packages: list[Package]


class Beside(Struct, frozen=True):
    """What a build that failed leaves in its output folder: what its package published all the same, or an earlier model."""

    left: list[Artifact]
    earlier: bool


def report(
    recipe: Recipe,
    plan: Plan,
    sources: Sources,
    stages: list[StageReport],
    run: RunReport,
    tools: dict[str, str],
    beside: Beside,
) -> Report:
    """The report of one recipe; `stages` in the plan's order, `tools` with their versions."""
    failures = [stage.failure for stage in stages if stage.failure is not None]
    both = list(zip(plan.stages, stages, strict=True))
    told = [_told(stage, report) for stage, report in both]
    kept = {report.name for report in stages if not report.facts.get("modified", True)}
    published = _artifacts(both)
    return Report(
        version=1,
        name=recipe.name,
        description=recipe.description,
        status="failed" if failures else "interrupted" if stages[-1].status == "skipped" else "done",
        failures=failures,
        recipe=sources.recipe,
        source=msgspec.to_builtins(recipe.model),
        sources=sources.files,
        stages=told,
        graphs=[_graph(stage, report, kept) for stage, report in both if stage.is_a(Trait.DESCRIBES) and report.facts],
        parity=verdicts.rows(both),
        scores=scores.rows(recipe, both),
        cases_left_out=plan.cases_left_out,
        dims=msgspec.to_builtins(interface.published(recipe).dims),
        targets=[_as_published(target, published) for target in _targets(both, plan.targets_left_out)],
        benchmark=_times(both),
        artifacts=[*published, *beside.left],
        tools=tools,
        packages=sources.packages,
        cautions=cautions.of(recipe, [(stage, report.facts) for stage, report in both]),
        notes=[*plan.remarks, *_notes(told), *(_published(beside) if failures else [])],
        run=run,
    )


def unmade(recipe: Recipe, source: RecipeReport, stages: list[StageReport], run: RunReport, failure: Failure) -> Report:
    """What is left to say of a recipe of which no report can be made: its stages, how they ended, and that failure."""
    bare = [msgspec.structs.replace(stage, facts={}, notes=[], warnings=[]) for stage in stages]
    return Report(
        version=1,
        name=recipe.name,
        description=recipe.description,
        status="failed",
        failures=[*(stage.failure for stage in stages if stage.failure is not None), failure],
        recipe=source,
        source={},
        stages=bare,
        graphs=[],
        parity=[],
        cases_left_out=[],
        benchmark=None,
        artifacts=[],
        tools={},
        notes=[],
        run=run,
    )


def _told(stage: Stage, report: StageReport) -> StageReport:
    """Latencies and what disturbed them are in `benchmark` alone: elsewhere equal builds have equal reports."""
    return msgspec.structs.replace(report, facts={}, notes=[]) if stage.is_a(Trait.TIMES) else report


def _targets(both: Sequence[tuple[Stage, StageReport]], left_out: Mapping[str, str]) -> list[Target]:
    """The targets that were built, each with how it was compared, and those that were left out."""
    proofs = {
        stage.needs["graph"][0]: (stage, report.facts)
        for stage, report in both
        if stage.is_a(Trait.PROVES) and report.facts
    }
    times = {
        report.facts["target"]: report.facts
        for stage, report in both
        if stage.is_a(Trait.TIMES) and "target" in report.facts
    }
    built = [
        _timed(_target(stage, report, proofs.get(stage.name)), times)
        for stage, report in both
        if stage.is_a(Trait.TARGETS) and report.facts
    ]
    return built + [Target(name, f"target/{name}", "skipped", [], why) for name, why in left_out.items()]


def _target(stage: Stage, report: StageReport, proof: tuple[Stage, Mapping[str, Any]] | None) -> Target:
    files = msgspec.convert(report.facts["files"], list[Artifact])
    name = report.facts["target"]
    own = {"runtime": report.facts["runtime"], "options": stage.options["options"]}
    if proof is None:
        return Target(name, stage.name, "built, not run", files, stage.unrun, **own)
    by, facts = proof
    if facts["not_run"]:
        return Target(name, stage.name, "built, not run", files, facts["not_run"], **own)
    bounds = facts.get("bounds", "")
    level: Literal["run", "emulated"] = "emulated" if bounds else "run"
    asides = msgspec.convert(facts.get("asides", []), list[Aside])
    why = "; ".join(filter(None, [bounds, *by.notes]))  # what of the runtime, and what of the cases
    return Target(name, stage.name, level, files, why, asides=asides, **own)


def _as_published(target: Target, published: Iterable[Artifact]) -> Target:
    """One that loads the published model itself was tried on it before that was stamped with the recipe."""
    files = {one.path: one for one in published}
    return msgspec.structs.replace(target, files=[files.get(one.path, one) for one in target.files])


def _timed(target: Target, times: Mapping[str, Mapping[str, Any]]) -> Target:
    facts = times.get(target.name)
    if facts is None:
        return target
    return msgspec.structs.replace(target, p50=facts["p50"], onnxruntime_p50=facts["onnxruntime_p50"])


def _times(both: Iterable[tuple[Stage, StageReport]]) -> BenchmarkReport | None:
    for stage, report in both:
        facts = report.facts
        if stage.is_a(Trait.TIMES) and facts and "target" not in facts:
            made = (
                {"before": {"stage": stage.needs[benchmark.BEFORE][0], **facts["before"]}} if "before" in facts else {}
            )
            return msgspec.convert({**facts, **made}, BenchmarkReport)
    return None


def _artifacts(both: Iterable[tuple[Stage, StageReport]]) -> list[Artifact]:
    published = [
        report
        for stage, report in both
        if stage.is_a(Trait.PUBLISHES) and stage.is_a(Trait.MAKES) and report.status in ("built", "cached")
    ]
    return [msgspec.convert(made, Artifact) for report in published for made in report.facts["artifacts"]]


def _graph(stage: Stage, report: StageReport, kept: Collection[str]) -> Graph:
    """What is in the graph that a stage describes; `kept` are the passes that changed nothing."""
    known = {name: report.facts[name] for name in Graph.__struct_fields__ if name in report.facts}
    made = stage.needs["graph"][0]
    return msgspec.convert({**known, "stage": made, "modified": made not in kept}, Graph)


def _notes(stages: list[StageReport]) -> list[str]:
    """What a reader should know of the whole, each sentence once."""
    where: dict[str, list[str]] = {}
    for stage in stages:
        for note in stage.notes:
            where.setdefault(note, []).append(stage.name)
    notes = [f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {note}" for note, names in where.items()]
    vacuous = {name: why for stage in stages for name, why in stage.facts.get("vacuous", {}).items()}
    notes += [f"output {name} proves little: {why}" for name, why in vacuous.items()]
    return notes


def _published(beside: Beside) -> list[str]:
    """What a reader should know of the files beside the report of a build that failed."""
    if beside.left:
        whole = beside.left[-1].path
        return [f"The package failed, and yet {whole} in this folder is whole and was written during this run."]
    return ["Nothing was published: model.onnx in this folder is from an earlier build."] if beside.earlier else []
