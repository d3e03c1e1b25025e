"""How a stage came to its end, as a report: built, cached, failed or skipped, and whether anything may build on it.

Pure, but that `death` asks whether the disk is full. It does not know what a stage does: what a tolerance decides is not in
a stage's key, so `verdicts` is asked for every stage that has an outcome.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from onnxbuild.contracts import Outcome
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import verdicts
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.types import Failure, StageReport
from onnxbuild.store.traces import Trace
from onnxbuild.system import oserrors

if TYPE_CHECKING:
    from onnxbuild.executors.child import Result
    from onnxbuild.executors.interface import Finished

_KILLS = (9, 15)  # SIGKILL and SIGTERM: somebody ended it, not its own code
Ended = Literal["built", "cached"]


class Done(Struct, frozen=True):
    """What came of a stage: its report, and its outcome where it has one; `lost` where nothing may build on it, `outside`
    where it failed at what lies around it (a full disk, a kill), which says nothing of what it was given.
    """

    report: StageReport
    outcome: Outcome | None = None
    trace: Trace | None = None
    lost: bool = False
    outside: bool = False


def ended(
    recipe: Recipe,
    stage: Stage,
    key: str,
    why: list[str],
    trace: Trace,
    status: Ended,
    before: Sequence[tuple[Stage, StageReport]],
) -> Done:
    """A stage with an outcome; `before` are the stages that ended before it with their reports, in the plan's order."""
    outcome = trace.outcome
    twin = next((report.name for _, report in before if report.key == key), "")  # a pass between them changed nothing
    why = [f"same as {twin}"] if twin and status == "cached" else why
    report = StageReport(
        stage.name,
        stage.kind,
        status,
        key,
        why,
        stage.upstream,
        round(trace.seconds, 3),
        trace.peak_rss_bytes or None,  # 0 where the system doesn't tell
        outcome.warnings,
        [*stage.notes, *outcome.facts.get("notes", [])],
        outcome.facts,
        facets=list(stage.facets),
    )
    report = verdicts.judged(recipe, stage, report, before)
    return Done(report, outcome, trace, lost=report.failure is not None)


def lasting(result: Result | None) -> Outcome | None:
    """What there is to keep of a stage that ended: its outcome, or that it refuses, where it would do so every time."""
    if result is None or not result.lasting:
        return result.outcome if result is not None else None
    return Outcome(facts={verdicts.REFUSED: {"fact": result.fact, "hint": result.hint}})


def failed(
    stage: Stage, key: str, why: list[str], fact: str, hint: str, log: str = "", *, outside: bool = False
) -> Done:
    """A stage that gave nothing; `key` is "" where it never got that far."""
    failure = Failure(stage.name, fact, hint, log)
    report = StageReport(stage.name, stage.kind, "failed", key, why, stage.upstream, failure=failure)
    return Done(report, lost=True, outside=outside)


def ended_badly(stage: Stage, key: str, why: list[str], finished: Finished, folder: Path, edited: Path | None) -> Done:
    """A stage whose child gave nothing to keep; `folder` is the store's, `edited` a declared file that changed meanwhile."""
    result = finished.result
    if result is None:
        fact, hint = death(finished, folder)
        killed = finished.status >= 0 or -finished.status in _KILLS
        outside = killed or oserrors.full(folder) is not None
    else:
        fact, hint, outside = result.fact, result.hint, result.outside
    if edited:
        hint = f"{edited} was changed while the stage was running: run again"
    return failed(stage, key, why, fact, hint, finished.log, outside=outside or bool(edited))


def skipped(stage: Stage, why: str, *, lost: bool = False) -> Done:
    """A stage that was not run; without `lost`, what comes after it goes on all the same."""
    return Done(StageReport(stage.name, stage.kind, "skipped", "", [why], stage.upstream), lost=lost)


def skipped_after(stage: Stage, lost: Sequence[StageReport]) -> Done:
    """A stage that depends on others that failed or were skipped."""
    failed = next((report.name for report in lost if report.status == "failed"), "")
    return skipped(stage, f"{failed} failed" if failed else lost[0].why[0], lost=True)


def death(finished: Finished, folder: Path) -> tuple[str, str]:
    """The fact and the remedy of a child that ended without a word; `folder` is the store's."""
    error = OSError(finished.fault, os.strerror(finished.fault)) if finished.fault else oserrors.full(folder)
    if error is not None:
        return oserrors.explain(error, folder)
    if finished.status >= 0:
        return f"the stage's process ended with status {finished.status} and no result", "see the log"
    try:
        name = signal.Signals(-finished.status).name
    except ValueError:  # one of the real-time signals, which have no names
        name = f"signal {-finished.status}"
    if name == "SIGKILL":
        hint = "the machine may have run out of memory: --memory 4G or -j 1 runs less at a time"
    else:
        hint = "a crash in native code: see the log"
    return f"the stage's process was killed by {name}", hint
