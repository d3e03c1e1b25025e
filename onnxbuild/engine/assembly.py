"""The report of one recipe's run, as far as it came: its stages, what they were made from, and on which machine."""

from __future__ import annotations

import datetime as dt
import time

from onnxbuild.engine import origins, reporting, status
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.engine.reporting import Beside
from onnxbuild.report.types import Report, Revision, RunReport
from onnxbuild.system import distributions, machine

NOTHING = Beside([], earlier=False)


def report(run: RecipeRun, facts: RunReport, beside: Beside = NOTHING) -> Report:
    """The report; of a run that is not at its end, one in which the stages to come are skipped."""
    stages = [
        run.done[stage.name].report if stage.name in run.done else status.skipped(stage, "not yet").report
        for stage in run.plan.stages
    ]
    tools = distributions.versions(sorted({tool for stage in run.plan.stages for tool in stage.tools}))
    made_from = reporting.Sources(origins.recipe(run.loaded), origins.sources(run), origins.packages(run, tools))
    return reporting.report(
        run.loaded.recipe, run.plan, made_from, stages, facts, tools | origins.versions(run), beside
    )


def facts(run: RecipeRun, revision: Revision | None = None) -> RunReport:
    """When and where a recipe was run, from which commit, and how long it took until now."""
    return RunReport(
        dt.datetime.fromtimestamp(run.started, dt.UTC).isoformat(timespec="seconds"),
        round(time.monotonic() - run.begun, 3),
        machine.system(),
        machine.cpu_name(),
        machine.cores(),
        machine.platform(gpu_too=any("gpu" in stage.facets for stage in run.plan.stages)),
        revision,
    )
