"""One recipe's way through its DAG: which stages the store answers, which are ready to run, and what came of each.

Decides nothing about when: `scheduler` picks among the ready stages of all recipes. It does not know what a stage does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Json, Outcome, Trait
from onnxbuild.discovery import modified
from onnxbuild.engine import memory, placing, resting, status
from onnxbuild.engine.status import Done
from onnxbuild.engine.types import Ready, Started
from onnxbuild.errors import StageError
from onnxbuild.plan import diagnosis
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.queries import decision, verdicts
from onnxbuild.queries.decision import Given
from onnxbuild.queries.lookup import Lookup
from onnxbuild.report.types import StageReport
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Store
from onnxbuild.store.traces import Trace
from onnxbuild.system import locks, oserrors

if TYPE_CHECKING:
    from onnxbuild.executors.child import Result
    from onnxbuild.executors.interface import Finished


class RecipeRun:
    """One recipe on its way through its stages."""

    def __init__(
        self,
        loaded: recipes.Loaded,
        plan: Plan,
        dest: Path,
        store: Store,
        digests: Digests,
        seen: dict[str, str],
        refusal: Callable[[RecipeRun], tuple[str, str] | None] | None = None,
    ) -> None:
        """`refusal` is asked before anything is published: the fact and the hint of why it may not be, if so."""
        self.loaded, self.plan, self.dest, self.store = loaded, plan, dest, store
        self.name = loaded.recipe.name
        self.done: dict[str, Done] = {}
        self.files: dict[str, dict[str, Path]] = {}  # that each stage was given, by role
        self.started = self.begun = 0.0  # its first stage: seconds of the epoch, and of a steady clock
        self.noted = True  # whether it is the recipe's last build from then on
        self.looks = True  # whether it is looked into where a proof fails
        self._stopped = ""  # why nothing more is started, where nothing is
        self._digests = digests
        self._refusal = refusal
        self._running: set[str] = set()
        self._early: dict[str, Done] = {}  # of stages that ended before those that must be done first
        self._ready: dict[str, Ready] = {}
        self._keys: dict[str, str] = {}
        self._latest = store.latest(self.name, loaded.root)
        self._lookup = Lookup(store, digests, loaded.root, self._latest, self.name, seen)
        self._dest_lock: locks.Lock | None = None
        self._told: list[StageReport] = []

    @property
    def ended(self) -> bool:
        """Whether every stage came to its end."""
        return len(self.done) == len(self.plan.stages)

    @property
    def failed(self) -> str:
        """The first stage that failed, in the order of the plan; "" where none has."""
        return next((name for name in map(_name, self.plan.stages) if self._status(name) == "failed"), "")

    def told(self) -> list[StageReport]:
        """The reports of the stages that came to an end since the last call."""
        told, self._told = self._told, []
        return told

    def stop(self, why: str) -> None:
        """Start nothing more, but where a stage of this recipe failed: its other checks tell more of why."""
        self._stopped = self._stopped or why

    def advance(self) -> list[Ready]:
        """Settle every stage that needs no work; give those that have all they need and are to be run."""
        if not self.started:
            self.started, self.begun = time.time(), time.monotonic()
        ready = []
        for stage in self.plan.stages:
            if stage.name in self.done or stage.name in self._running:
                continue
            if lost := self._lost(stage):
                self._finish(stage, status.skipped_after(stage, lost))
            elif stage.name in self._early:
                if self._are_done(stage.upstream):
                    self._finish(stage, self._early.pop(stage.name))
            elif self._are_done(stage.first):
                one = self._ready.get(stage.name) or self._look(stage)
                if one is not None and self._stopped and not self.failed:
                    self._finish(stage, status.skipped(stage, self._stopped, lost=True))
                elif one is not None:
                    self._ready[stage.name] = one
                    ready.append(one)
        return ready

    def begin(self, ready: Ready, scratch: Path, lock: locks.Lock) -> Started | None:
        """Make ready to run it; None where it need not, or can't yet. Raises OSError."""
        stage = ready.stage
        self._ready.pop(stage.name, None)
        if not self._are_done(stage.first):
            return None  # what it takes was found damaged, and is on its way again
        again = self._look(stage)  # another process may have built it while this one waited for its turn
        if again is None:
            return None
        if spoiled := self._spoiled(stage):
            for name in spoiled:
                self.done.pop(name)
            return None
        ready = again
        task = decision.task_for(
            stage, ready.taken, self.store.workplace().objects, self.loaded.root, scratch, self.dest
        )
        self._running.add(stage.name)
        return Started(ready, task, lock, modified.before(ready.found.document, ready.taken.files, scratch))

    def is_needless(self, started: Started) -> bool:
        """Whether nothing is to come of a stage that is running: one that must be done first is lost."""
        return bool(self._lost(started.ready.stage))

    def end(self, started: Started, finished: Finished) -> None:
        """Take what a child left: keep its trace, or say how it failed. What ended early counts later, see `advance`."""
        stage = started.ready.stage
        self._running.discard(stage.name)
        self.forget()
        if self.is_needless(started):
            return
        done = self._what_came_of(started, finished)
        if self._are_done(stage.upstream):
            self._finish(stage, done)
        else:
            self._early[stage.name] = done

    def _what_came_of(self, started: Started, finished: Finished) -> Done:
        ready, result = started.ready, finished.result
        stage, found = ready.stage, ready.found
        outcome = status.lasting(result)
        if result is None or outcome is None:
            edited = modified.declared(started.before, self._digests.of)
            return status.ended_badly(stage, found.key, ready.why, finished, self.store.folder, edited)
        try:
            today = self._lookup.today(list(result.discovered))
            outcome = self._unedited(started, result, outcome, today)
            sizes = self.store.sizes([*outcome.outputs.values(), *outcome.objects])
            trace = Trace(found.document, today, outcome, sizes, result.seconds, finished.peak_rss_bytes)
            if stage.is_a(Trait.PUBLISHES) and stage.is_a(Trait.MAKES):
                self._require_published(outcome)
            if outcome.cacheable:
                self.store.keep(found.key, trace)
        except StageError as error:
            return status.failed(stage, found.key, ready.why, error.fact, error.hint, finished.log, outside=True)
        except OSError as error:
            fact, hint = oserrors.explain(error, self.store.folder)
            return status.failed(stage, found.key, ready.why, fact, hint, finished.log, outside=True)
        return self._ended(stage, found.key, ready.why, trace, "built")

    def _unedited(self, started: Started, result: Result, outcome: Outcome, today: dict[str, str]) -> Outcome:
        """The outcome; not to be kept where another stage wrote what this one read. Raises StageError for other edits."""
        known, missing, root = result.discovered, result.missing, self.loaded.root
        edited = modified.find(started.before, today, known, missing, root, self._digests.of)
        if edited is None:
            return outcome
        if edited not in modified.by_stages(Path(started.task.scratch)):
            raise StageError(f"{edited} was changed while the stage was running", "run again; nothing of it was kept")
        note = f"{edited} was written by another stage at the same time: this result is not kept"
        return msgspec.structs.replace(outcome, cacheable=False, warnings=[*outcome.warnings, note])

    def give_up(self, ready: Ready, error: OSError) -> None:
        """The surroundings did not let it start."""
        self._running.discard(ready.stage.name)
        self._ready.pop(ready.stage.name, None)
        fact, hint = oserrors.explain(error, self.store.folder)
        self._finish(ready.stage, status.failed(ready.stage, ready.found.key, ready.why, fact, hint, outside=True))

    def lock(self, ready: Ready) -> locks.Lock | locks.Holder:
        """The right to run this stage, or who has it. What publishes needs the folder's lock first, kept until `close`."""
        if ready.stage.is_a(Trait.PUBLISHES) and self._dest_lock is None:
            taken = locks.take(self.dest / ".lock")
            if isinstance(taken, locks.Holder):
                return taken
            self._dest_lock = taken
        taken = self.store.lock(ready.found.key)
        if isinstance(taken, locks.Holder):
            self.release()
        return taken

    def release(self) -> None:
        """Let others publish."""
        if self._dest_lock is not None:
            self._dest_lock.release()
            self._dest_lock = None

    def close(self) -> None:
        """Remember what the next run wants to know, and let others publish."""
        keys = {**self._latest, **self._keys}
        planned = {name: keys[name] for name in map(_name, self.plan.stages) if name in keys}
        with contextlib.suppress(OSError):  # for explanations and the collector: a read-only store still answers
            if self.noted:
                basis = resting.basis(self.loaded, self.plan.stages, self.done, self.files, self._lookup)
                self.store.note_latest(self.name, planned, self.loaded.root, self.loaded.path, self.dest, basis)
        self._digests.save()
        self.release()

    def forget(self) -> None:
        """Time has passed: look at every file anew."""
        self._lookup.forget()

    def _look(self, stage: Stage) -> Ready | None:
        """What it takes to run a stage; None where it came to its end without."""
        publishes = stage.is_a(Trait.PUBLISHES) and stage.is_a(Trait.MAKES)
        if publishes and self._refusal is not None and (refused := self._refusal(self)) is not None:
            self._finish(stage, status.failed(stage, "", [], *refused))
            return None
        taken = decision.given(stage, {name: one.outputs for name, one in self._outcomes.items()}, self.loaded.root)
        self.files[stage.name] = taken.files
        made = decision.decide(stage, taken, self._lookup, self.dest, decision.not_run(stage, self._outcomes))
        if (made.found is None or made.state == "held") and not self._are_done(stage.upstream):
            return None  # it needs no run, and that is said when its turn has come
        if made.found is None:
            done = status.skipped(stage, made.why[0])
            if made.state == "fails":
                done = status.failed(stage, "", [], made.fact, made.hint, outside=True)
            self._finish(stage, done)
            return None
        self._keys[stage.name] = made.found.key
        if made.state == "held" and made.trace is not None:
            self._finish(stage, self._ended(stage, made.found.key, [], made.trace, "cached"))
            return None
        needed = memory.expected(self._last_peak(stage), self._bytes(taken), stage.preload)
        return Ready(stage, made.found, made.why, taken, needed)

    def _are_done(self, names: list[str]) -> bool:
        return all(name in self.done for name in names)

    def _lost(self, stage: Stage) -> list[StageReport]:
        """The reports of those upstream that failed or were skipped."""
        return [self.done[name].report for name in stage.upstream if name in self.done and self.done[name].lost]

    def _last_peak(self, stage: Stage) -> int:
        trace = self._lookup.last(stage.name)
        return trace.peak_rss_bytes if trace is not None else 0

    def _bytes(self, taken: Given) -> int:
        sizes = [size for name in taken.refs.values() for size in self._sizes_of(name)]
        return sum(sizes) + sum(path.stat().st_size for path in taken.files.values() if path.is_file())

    def _sizes_of(self, ref: str) -> list[int]:
        """The bytes of every object that an upstream result consists of."""
        traces = [done.trace for done in self.done.values() if done.trace and ref in done.trace.sizes]
        return list(traces[0].sizes.values()) if traces else []

    def _finish(self, stage: Stage, done: Done) -> None:
        done = self._placed(stage, done)
        self.done[stage.name] = done
        self._told.append(done.report)
        if stage.is_a(Trait.LOOKS_INTO) and done.outcome is not None:
            self._tell_again(stage.proof, done.outcome.facts)
        elif self.looks and (failed := verdicts.looked_into(stage, done.report)) and not self._is_a_targets(stage):
            more = diagnosis.stage_for(self.plan.stages, stage, failed)
            self.plan.stages.insert(self.plan.stages.index(stage) + 1, more)

    def _is_a_targets(self, proof: Stage) -> bool:
        """Whether what it proves is no ONNX graph any more, which is all that can be looked into."""
        return any(one.name == proof.needs["graph"][0] for one in self.plan.those(Trait.TARGETS))

    def _tell_again(self, proof: str, facts: Json) -> None:
        """A proof failed, and now there is more to say of it."""
        done = self.done[proof]
        at = next(at for at, stage in enumerate(self.plan.stages) if stage.name == proof)
        before = [(one, self.done[one.name].report) for one in self.plan.stages[:at] if one.name in self.done]
        report = verdicts.told_again(self.loaded.recipe, self.plan.stages[at], done.report, before, facts)
        self.done[proof] = self._placed(self.plan.stages[at], msgspec.structs.replace(done, report=report))

    def _placed(self, stage: Stage, done: Done) -> Done:
        report = placing.placed(stage, done.report, self.plan.stages, self._outcomes, self.store)
        return msgspec.structs.replace(done, report=report)

    def _ended(self, stage: Stage, key: str, why: list[str], trace: Trace, how: status.Ended) -> Done:
        before = [(one, self.done[one.name].report) for one in self.plan.stages if one.name in self.done]
        return status.ended(self.loaded.recipe, stage, key, why, trace, how, before)

    def _status(self, name: str) -> str:
        return self.done[name].report.status if name in self.done else ""

    @property
    def _outcomes(self) -> dict[str, Outcome]:
        return {name: done.outcome for name, done in self.done.items() if done.outcome is not None}

    def _require_published(self, outcome: Outcome) -> None:
        """Where nothing keeps other processes out of the output folder: take our model away from others' weights."""
        alone = self._dest_lock is not None and self._dest_lock.real
        if alone or self._lookup.is_published(outcome, self.dest):
            return
        model = outcome.facts["artifacts"][-1]  # the model is written last
        if self._digests.matches(self.dest / model["path"], model["sha256"]):
            (self.dest / model["path"]).unlink(missing_ok=True)
        raise StageError(f"{self.dest}: another process published there at the same time", "run again")

    def _spoiled(self, stage: Stage) -> list[str]:
        """Stages whose results this one takes, and which are lost or damaged: such objects go, so they are built again."""
        spoiled = []
        for name, _ in stage.needs.values():
            trace = self.done[name].trace
            for ref in self.store.fetch(trace.sizes, self._digests.matches) if trace else ():
                self.store.discard(ref)
                spoiled.append(name)
        return list(dict.fromkeys(spoiled))


def _name(stage: Stage) -> str:
    return stage.name
