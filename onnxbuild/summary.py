"""From what came of the stages to the build report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from onnxbuild import toolchain
from onnxbuild.plan import Plan
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import (
    Artifact,
    BenchmarkReport,
    Failure,
    Graph,
    ParityRow,
    RecipeReport,
    Report,
    RunReport,
    StageReport,
)


def report(
    recipe: Recipe, plan: Plan, source: RecipeReport, stages: list[StageReport], rows: list[ParityRow], run: RunReport
) -> Report:
    """The report of one recipe; `stages` in the plan's order, `rows` the judged parity of every graph."""
    failures = [stage.failure for stage in stages if stage.failure is not None]
    used = sorted({tool for stage in plan.stages for tool in stage.tools})
    facts = {stage.kind: stage.facts for stage in stages if stage.facts}
    return Report(
        version=1,
        name=recipe.name,
        description=recipe.description,
        status="failed" if failures else "interrupted" if stages[-1].status == "skipped" else "done",
        failures=failures,
        recipe=source,
        source=msgspec.to_builtins(recipe.model),
        stages=stages,
        graphs=[_graph(stage) for stage in stages if stage.kind == "check" and stage.facts],
        parity=rows,
        cases_left_out=plan.cases_left_out,
        benchmark=msgspec.convert(facts["benchmark"], BenchmarkReport) if "benchmark" in facts else None,
        artifacts=_artifacts(stages),
        tools=toolchain.versions(used),
        notes=_notes(stages, failures, facts),
        run=run,
    )


def _artifacts(stages: list[StageReport]) -> list[Artifact]:
    published = [stage for stage in stages if stage.kind == "package" and stage.status in ("built", "cached")]
    return [msgspec.convert(made, Artifact) for stage in published for made in stage.facts["artifacts"]]


def _graph(stage: StageReport) -> Graph:
    known = {name: stage.facts[name] for name in Graph.__struct_fields__ if name in stage.facts}
    return msgspec.convert({**known, "stage": stage.needs[0]}, Graph)


def _notes(stages: list[StageReport], failures: list[Failure], facts: Mapping[str, Any]) -> list[str]:
    """What a reader should know of the whole, each sentence once."""
    where: dict[str, list[str]] = {}
    for stage in stages:
        for note in stage.notes:
            where.setdefault(note, []).append(stage.name)
    notes = [f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {note}" for note, names in where.items()]
    vacuous = facts.get("reference", {}).get("vacuous", {})
    notes += [f"output {name} proves little: {why}" for name, why in vacuous.items()]
    if failures:
        notes.append("Nothing was published: any model.onnx in this folder is from an earlier build.")
    return notes
