"""Walks a recipe's DAG once: finds each stage in the store or builds it, and gathers what came of it.

The one place where the pure parts (recipe, plan, keys, judging) meet the world (store, children). It does not know what
a stage does, except that a parity is judged by tolerances that are not in its key, and that a package lies in `build/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild import toolchain, verdicts
from onnxbuild.contracts import Outcome, Task
from onnxbuild.digests import Digests
from onnxbuild.errors import StageError
from onnxbuild.lookup import Found, Lookup
from onnxbuild.objects import digest_of
from onnxbuild.plan import Plan, Stage
from onnxbuild.report.types import Failure, StageReport
from onnxbuild.store import Store, Trace
from onnxbuild.workers import Finished, Workers

TICK = 0.1  # seconds between two looks at the clock while children run


class Events(Protocol):
    """What the loop tells as it goes; `progress` gives it looks."""

    def started(self, stage: str, why: list[str]) -> None: ...
    def finished(self, stage: StageReport) -> None: ...
    def tick(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What the builds of one command share; `workers` starts the child processes when first called."""

    store: Store
    digests: Digests
    workers: Callable[[], Workers]
    events: Events
    jobs: int


class Done(Struct, frozen=True):
    """What came of a stage: its report, and its outcome where it has one; `lost` where nothing may build on it."""

    report: StageReport
    outcome: Outcome | None = None
    trace: Trace | None = None
    lost: bool = False


class _Running(Struct, frozen=True):
    stage: Stage
    found: Found
    task: Task
    started_ns: int


class Build:
    """One recipe on its way through its stages."""

    def __init__(self, loaded: recipes.Loaded, plan: Plan, dest: Path, means: Means) -> None:
        self.loaded = loaded
        self.plan = plan
        self.dest = dest
        self.done: dict[str, Done] = {}
        self._store, self._digests, self._workers = means.store, means.digests, means.workers
        self._events, self._jobs = means.events, means.jobs
        self._running: dict[int, _Running] = {}
        self._keys: dict[str, str] = {}
        self._latest = means.store.latest(loaded.recipe.name)
        self._lookup = Lookup(means.store, means.digests, loaded.root, self._latest)

    def run(self) -> dict[str, Done]:
        """Bring every stage to an end: built, cached, failed or skipped."""
        while len(self.done) < len(self.plan.stages):
            moved = self._advance()
            if self._running:
                for finished in self._workers().wait(0.0 if moved else TICK):
                    self._end(finished)
                self._events.tick()
        if self._keys != {name: key for name, key in self._latest.items() if name in self._keys}:
            self._store.note_latest(self.loaded.recipe.name, {**self._latest, **self._keys})
        self._digests.save()
        return self.done

    def _advance(self) -> bool:
        """Settle or start every stage that can be; True where anything moved."""
        moved = False
        busy = {running.stage.name for running in self._running.values()}
        for stage in self.plan.stages:
            if stage.name in self.done or stage.name in busy:
                continue
            upstream = [self.done.get(name) for name in stage.upstream]
            if lost := [name for name in stage.upstream if self._is_lost(name)]:
                self._finish(stage, self._skipped(stage, lost))
                moved = True
            elif all(upstream) and self._may_start(stage):
                moved |= self._settle(stage)
                busy = {running.stage.name for running in self._running.values()}
        return moved

    def _is_lost(self, name: str) -> bool:
        done = self.done.get(name)
        return done is not None and done.lost

    def _may_start(self, stage: Stage) -> bool:
        running = list(self._running.values())
        if any(other.stage.alone for other in running) or (stage.alone and running):
            return False
        return len(running) < self._jobs

    def _settle(self, stage: Stage) -> bool:
        """Take a stage's outcome from the store, or start it."""
        if stage.kind == "benchmark" and (reason := self._not_run()):
            self._finish(stage, Done(StageReport(stage.name, stage.kind, "skipped", "", [reason], stage.upstream)))
            return True
        refs = {role: self._outcome(name).outputs[output] for role, (name, output) in stage.needs.items()}
        files = {role: recipes.resolve(self.loaded.root, path) for role, path in stage.files.items()}
        try:
            found = self._lookup.find(stage, refs, files)
        except OSError as error:
            self._finish(stage, self._failed(stage, "", [], f"{error.filename}: {error.strerror}", "", ""))
            return True
        self._keys[stage.name] = found.key
        if found.trace is not None and (stage.kind != "package" or self._is_published(found.trace.outcome)):
            self._finish(stage, self._ended(stage, found, found.trace, "cached"))
            return True
        if spoiled := self._spoiled(stage):
            for name in spoiled:
                self.done.pop(name)
            return True
        why = found.why or ["what was published in the output folder is missing or was changed"]
        found = Found(found.document, found.key, None, why)
        self._start(stage, found, refs, files)
        return True

    def _start(self, stage: Stage, found: Found, refs: dict[str, str], files: dict[str, Path]) -> None:
        inputs = {role: str(self._store.objects / ref) for role, ref in refs.items()}
        inputs |= {role: str(path) for role, path in files.items()}
        options = dict(stage.options)
        if stage.kind == "package":
            options["dest"] = str(self.dest.absolute())
        self._store.objects.mkdir(parents=True, exist_ok=True)
        task = Task(
            stage.name,
            stage.kind,
            options,
            inputs,
            str(self.loaded.root),
            str(self._store.objects),
            str(self._workers().scratch()),
        )
        self._events.started(stage.name, found.why)
        started = time.time_ns()
        number = self._workers().start(task, stage.preload)
        self._workers().warm("onnx")  # its imports overlap with an export
        self._running[number] = _Running(stage, found, task, started)

    def _end(self, finished: Finished) -> None:
        running = self._running.pop(finished.id, None)
        if running is None:
            return
        stage, result = running.stage, finished.result
        if result is None or result.outcome is None:
            fact, hint = _death(finished) if result is None else (result.fact, result.hint)
            self._finish(stage, self._failed(stage, running.found.key, running.found.why, fact, hint, finished.log))
            return
        self._lookup.forget()
        try:
            discovered = self._lookup.today(result.discovered)
            self._refuse_if_edited(running, result.discovered)
            sizes = self._store.sizes([*result.outcome.outputs.values(), *result.outcome.objects])
        except StageError as error:
            report = self._failed(stage, running.found.key, running.found.why, error.fact, error.hint, finished.log)
            self._finish(stage, report)
            return
        trace = Trace(
            running.found.document, discovered, result.outcome, sizes, result.seconds, finished.peak_rss_bytes
        )
        if result.outcome.cacheable:
            self._store.keep(running.found.key, trace)
        self._finish(stage, self._ended(stage, running.found, trace, "built"))

    def _refuse_if_edited(self, running: _Running, discovered: list[str]) -> None:
        """A file edited while the stage ran may have been read before or after: no one can tell what was built."""
        named = {name.removeprefix("file:") for name in discovered if name.startswith("file:")}
        paths = {self.loaded.root / name for name in named}
        paths |= {recipes.resolve(self.loaded.root, path) for path in running.stage.files.values()}
        for path in sorted(paths):
            if path.exists() and path.stat().st_mtime_ns > running.started_ns:
                raise StageError(f"{path} was changed while the stage was running", "run again")

    def _finish(self, stage: Stage, done: Done) -> None:
        self.done[stage.name] = done
        self._events.finished(done.report)

    def _ended(self, stage: Stage, found: Found, trace: Trace, status: str) -> Done:
        outcome = trace.outcome
        report = StageReport(
            stage.name,
            stage.kind,
            "cached" if status == "cached" else "built",
            found.key,
            found.why,
            stage.upstream,
            round(trace.seconds, 3),
            trace.peak_rss_bytes,
            outcome.warnings,
            [*stage.notes, *outcome.facts.get("notes", [])],
            outcome.facts,
        )
        before = [self.done[name].report for name in (other.name for other in self.plan.stages) if name in self.done]
        report = verdicts.judged(self.loaded.recipe, report, before)
        return Done(report, outcome, trace, lost=report.failure is not None)

    def _failed(self, stage: Stage, key: str, why: list[str], fact: str, hint: str, log: str) -> Done:
        failure = Failure(stage.name, fact, hint, log)
        report = StageReport(stage.name, stage.kind, "failed", key, why, stage.upstream, failure=failure)
        return Done(report, lost=True)

    def _skipped(self, stage: Stage, lost: list[str]) -> Done:
        failed = next((name for name in lost if self.done[name].report.status == "failed"), None)
        why = [f"{failed} failed"] if failed else self.done[lost[0]].report.why
        return Done(StageReport(stage.name, stage.kind, "skipped", "", why, stage.upstream), lost=True)

    def _not_run(self) -> str | None:
        """Why onnxruntime can't run this recipe's graphs, where the recipe allows that it can't."""
        measured = (done.outcome.facts for done in self.done.values() if done.outcome and done.report.kind == "parity")
        return next((facts["not_run"] for facts in measured if facts["not_run"]), None)

    def _outcome(self, name: str) -> Outcome:
        outcome = self.done[name].outcome
        assert outcome is not None, f"{name} is taken from before it has an outcome"
        return outcome

    def _is_published(self, outcome: Outcome) -> bool:
        artifacts = outcome.facts["artifacts"]
        return all(self._digests.matches(self.dest / made["path"], made["sha256"]) for made in artifacts)

    def _spoiled(self, stage: Stage) -> list[str]:
        """Stages whose results this one takes and finds damaged; the bad objects are removed, so they are built again."""
        spoiled = []
        for name, _ in stage.needs.values():
            trace = self.done[name].trace
            for ref in trace.sizes if trace else ():
                path = self._store.objects / ref
                if not self._digests.matches(path, digest_of(ref)):
                    path.unlink(missing_ok=True)
                    self._store.warn(f"{path}: damaged; building it again")
                    spoiled.append(name)
        return list(dict.fromkeys(spoiled))


def _death(finished: Finished) -> tuple[str, str]:
    """What to say of a child that ended without a word."""
    if finished.status < 0:
        import signal

        name = signal.Signals(-finished.status).name
        hint = "the machine may have run out of memory" if name == "SIGKILL" else "a crash in native code: see the log"
        return f"the stage's process was killed by {name}", hint
    return f"the stage's process ended with status {finished.status} and no result", "see the log"


def default_jobs() -> int:
    """Stages at a time: one per core, since most are single-threaded."""
    return max(1, toolchain.cores())
