"""From what came of the stages to the build report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from onnxbuild.plan.dag import Plan
from onnxbuild.queries import verdicts
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import (
    Artifact,
    BenchmarkReport,
    Graph,
    RecipeReport,
    Report,
    RunReport,
    Source,
    StageReport,
)


class Sources(Struct, frozen=True):
    """What the model was made from: the recipe, and the files that the export took or was found to use."""

    recipe: RecipeReport
    files: list[Source]


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
    facts = {stage.kind: stage.facts for stage in stages if stage.facts}
    told = [_told(stage) for stage in stages]
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
        graphs=[_graph(stage) for stage in stages if stage.kind == "check" and stage.facts],
        parity=verdicts.rows(recipe, stages),
        cases_left_out=plan.cases_left_out,
        benchmark=msgspec.convert(facts["benchmark"], BenchmarkReport) if "benchmark" in facts else None,
        artifacts=[*_artifacts(stages), *beside.left],
        tools=tools,
        notes=[*plan.remarks, *_notes(told, facts), *(_published(beside) if failures else [])],
        run=run,
    )


def _told(stage: StageReport) -> StageReport:
    """A benchmark's figures and what disturbed them are in `benchmark` alone: elsewhere equal builds have equal reports."""
    return msgspec.structs.replace(stage, facts={}, notes=[]) if stage.kind == "benchmark" else stage


def _artifacts(stages: list[StageReport]) -> list[Artifact]:
    published = [stage for stage in stages if stage.kind == "package" and stage.status in ("built", "cached")]
    return [msgspec.convert(made, Artifact) for stage in published for made in stage.facts["artifacts"]]


def _graph(stage: StageReport) -> Graph:
    known = {name: stage.facts[name] for name in Graph.__struct_fields__ if name in stage.facts}
    return msgspec.convert({**known, "stage": stage.needs[0]}, Graph)


def _notes(stages: list[StageReport], facts: Mapping[str, Any]) -> list[str]:
    """What a reader should know of the whole, each sentence once."""
    where: dict[str, list[str]] = {}
    for stage in stages:
        for note in stage.notes:
            where.setdefault(note, []).append(stage.name)
    notes = [f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {note}" for note, names in where.items()]
    vacuous = facts.get("reference", {}).get("vacuous", {})
    notes += [f"output {name} proves little: {why}" for name, why in vacuous.items()]
    return notes


def _published(beside: Beside) -> list[str]:
    """What a reader should know of the files beside the report of a build that failed."""
    if beside.left:
        whole = beside.left[-1].path
        return [f"The package failed, and yet {whole} in this folder is whole and was written during this run."]
    return ["Nothing was published: model.onnx in this folder is from an earlier build."] if beside.earlier else []
