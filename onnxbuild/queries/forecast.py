"""What a run would do, and why: every stage's state by what the store and the output folder hold now.

Runs nothing and writes nothing. What a stage would give is not known before it runs, so the stages after it are judged as
if it gave what it gave the last time, and are said to depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Outcome
from onnxbuild.plan import planner
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import cautions, decision, filled, reasons, verdicts
from onnxbuild.queries.filled import FilledIn
from onnxbuild.queries.lookup import Found, Lookup
from onnxbuild.queries.reasons import Reason
from onnxbuild.queries.workspace import Places
from onnxbuild.report.types import StageReport
from onnxbuild.store.traces import Trace

# up to date: the store has its result for exactly these inputs
# run:        it would run; where a stage before it would, too, also if that gives what it gave the last time
#             (and is in the store all the same only where the very same was built before)
# maybe:      a stage before it would run; if that gives the same as the last time, this one is up to date
# fails:      its result is in the store and is out of the recipe's tolerances
# skip:       it can't run: a stage before it fails, or onnxruntime can't run the graph
State = Literal["up to date", "run", "maybe", "fails", "skip"]


class Foreseen(Struct, frozen=True):
    """What a run would do with a stage. `found` is None where an input can't even be assumed."""

    stage: Stage
    state: State
    reasons: list[Reason]
    found: Found | None = None
    assumed: bool = False  # inputs are what stages gave the last time, which would run now
    last: Trace | None = None  # what it gave the last time, whether that still holds or not
    lost: bool = False  # of a stage that is skipped: nothing may build on it

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do, and nothing the matter: also for what can't be run here and need not be."""
        return self.state == "up to date" or (self.state == "skip" and not self.lost)

    @property
    def why(self) -> list[str]:
        """The reasons in words."""
        return [reason.text for reason in self.reasons]


class Outlook:
    """Forecasts for the recipes of one command, which share their stores."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._seen: dict[Path, dict[str, str]] = {}

    def of(self, loaded: recipes.Loaded) -> list[Foreseen]:
        """Every stage of a recipe, in an order in which they can run."""
        store, digests = self._places.store(loaded.root)
        name = loaded.recipe.name
        seen = self._seen.setdefault(loaded.root, {})
        lookup = Lookup(store, digests, loaded.root, store.latest(name, loaded.root), name, seen)
        seer = _Seer(loaded, lookup, self._places.dest(loaded))
        for stage in planner.plan(loaded.recipe, loaded.root).stages:
            seer.see(stage)
        return list(seer.seen.values())


class _Seer:
    """Goes through one recipe's stages."""

    def __init__(self, loaded: recipes.Loaded, lookup: Lookup, dest: Path) -> None:
        self.seen: dict[str, Foreseen] = {}
        self._loaded, self._lookup, self._dest = loaded, lookup, dest
        self._outputs: dict[str, Mapping[str, str]] = {}  # what a stage gives, or gave the last time
        self._reports: list[tuple[Stage, StageReport]] = []
        self._outcomes: dict[str, Outcome] = {}  # of stages that are up to date

    def see(self, stage: Stage) -> None:
        """Foresee a stage; those before it have been seen."""
        foreseen = self._skipped(stage) or self._looked_up(stage)
        self.seen[stage.name] = foreseen
        trace = (foreseen.found.trace if foreseen.found else None) or foreseen.last
        if trace is not None:
            self._outputs[stage.name] = trace.outcome.outputs

    def _skipped(self, stage: Stage) -> Foreseen | None:
        lost = [name for name in stage.upstream if self.seen[name].state == "fails" or self.seen[name].lost]
        if lost:
            fails = next((name for name in lost if self.seen[name].state == "fails"), None)
            why = [reasons.of_store(f"{fails} fails")] if fails else self.seen[lost[0]].reasons
            return Foreseen(stage, "skip", why, lost=True)
        return None

    def _looked_up(self, stage: Stage) -> Foreseen:
        unsure = [name for name, _ in stage.needs.values() if self.seen[name].state in ("run", "maybe")]
        unsure = list(dict.fromkeys(unsure))
        last = self._lookup.last(stage.name)
        try:
            taken = decision.given(stage, self._outputs, self._loaded.root)
        except KeyError:  # a stage before it never gave anything
            why = _depends(unsure) if last else self._lookup.unbuilt(stage.name)
            return Foreseen(stage, "maybe" if last else "run", [why], None, True, last)
        made = decision.decide(stage, taken, self._lookup, self._dest, decision.not_run(stage, self._outcomes))
        last = made.trace or last
        if made.state == "skip":
            return Foreseen(stage, "skip", made.reasons)
        if made.state == "fails":
            return Foreseen(stage, "fails", made.reasons, None, False, last)
        if made.state == "run" or made.trace is None:
            return Foreseen(stage, "run", made.reasons, made.found, bool(unsure), last)
        if unsure:
            return Foreseen(stage, "maybe", [_depends(unsure)], made.found, True, last)
        return self._judged(stage, made.found, made.trace)

    def _judged(self, stage: Stage, found: Found | None, trace: Trace) -> Foreseen:
        """A stage whose result is in the store: up to date, unless it proves a graph and that is out of tolerance."""
        key = found.key if found else ""
        report = StageReport(stage.name, stage.kind, "cached", key, [], stage.upstream, facts=trace.outcome.facts)
        report = verdicts.judged(self._loaded.recipe, stage, report, self._reports)
        self._reports.append((stage, report))
        self._outcomes[stage.name] = trace.outcome
        if report.failure is None:
            return Foreseen(stage, "up to date", [], found, False, trace)
        return Foreseen(stage, "fails", [reasons.of_store(report.failure.fact)], found, False, trace)


def _depends(names: list[str]) -> Reason:
    return reasons.of_store(f"depends on what {' and '.join(names)} {'gives' if len(names) == 1 else 'give'}")


class PlannedStage(Struct, frozen=True):
    name: str  # "optimize/1-onnxsim"
    kind: str  # "optimize"
    state: State
    certain: bool  # False: by inputs as they were the last time, since a stage before would run
    why: list[str]  # the most telling reason first; empty where up to date
    needs: list[str]  # the stages whose results it takes
    after: list[str]  # stages that must have succeeded first, though nothing of theirs is taken
    key: str | None  # SHA-256 of its document; None while an input is not known
    seconds: float | None  # that it took the last time


class RecipePlan(Struct, frozen=True):
    name: str
    path: str  # as it was given
    up_to_date: bool
    warnings: list[str]  # where the last build proves less than it seems to
    stages: list[PlannedStage]  # in an order in which they can run
    filled: list[FilledIn]  # what the recipe leaves out, and its model told


class Plans(Struct, frozen=True):
    """What a run of these recipes would do."""

    version: Literal[1]
    up_to_date: bool  # nothing would run, and nothing fails: at most a benchmark is skipped that can't be run here
    recipes: list[RecipePlan]


def warnings(loaded: recipes.Loaded, stages: Iterable[Foreseen]) -> list[str]:
    """Where the last build of a recipe proves less than it seems to."""
    traces = [(one.stage, (one.found.trace if one.found else None) or one.last) for one in stages]
    return cautions.of(loaded.recipe, [(stage, trace.outcome.facts) for stage, trace in traces if trace])


def encode(plans: Sequence[tuple[recipes.Loaded, Sequence[Foreseen]]]) -> str:
    """The plans of several recipes as JSON."""
    each = [
        RecipePlan(
            loaded.recipe.name,
            str(loaded.path),
            all(one.idle for one in stages),
            warnings(loaded, stages),
            [_planned(one) for one in stages],
            filled.of(loaded),
        )
        for loaded, stages in plans
    ]
    whole = Plans(1, all(plan.up_to_date for plan in each), each)
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def _planned(one: Foreseen) -> PlannedStage:
    stage = one.stage
    needs = list(dict.fromkeys(name for name, _ in stage.needs.values()))
    key = one.found.key if one.found is not None and not one.assumed else None
    seconds = round(one.last.seconds, 3) if one.last else None
    return PlannedStage(
        stage.name, stage.kind, one.state, not one.assumed, one.why, needs, list(stage.after), key, seconds
    )
