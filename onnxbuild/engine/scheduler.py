"""Runs the stages of several recipes side by side: picks what to start, waits for what runs, until every recipe has ended.

What may start: as many stages as there are jobs, as much as fits into the memory, a benchmark alone on the machine, and
each stage in one process at a time. It does not know what a stage is or where its results lie: `recipe_run` does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from onnxbuild.contracts import Trait
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.engine.types import Events, Ready, Started
from onnxbuild.store.interface import Store
from onnxbuild.system import locks, machine

if TYPE_CHECKING:
    from onnxbuild.executors.interface import Executor, Finished

TICK = 0.1  # seconds between two looks at the clock and at other processes' locks
PATIENCE = 1.0  # seconds of waiting for another process of which nothing is said


class Limits(Struct, frozen=True):
    """What a command may use: stages at a time, bytes of memory; and whether it goes on after a failure."""

    jobs: int
    memory: int
    keep_going: bool = False


class _Running(Struct, frozen=True):
    run: RecipeRun
    started: Started
    workers: Executor


class Scheduler:
    """What runs at the moment. `workers` gives the executor of a store's stages, started when first asked for."""

    def __init__(self, limits: Limits, workers: Callable[[Store], Executor], events: Events) -> None:
        self._limits = limits
        self._workers = workers
        self._events = events
        self._stopped = ""  # why recipes that did not fail start nothing more
        self._running: dict[tuple[int, int], _Running] = {}
        self._waiting: dict[tuple[str, str], float] = {}  # for another process's lock, and since when

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for one in self._running.values():
            one.started.lock.release()

    def start(self, runs: Iterable[RecipeRun]) -> None:
        """Bring every stage that needs no work to its end, and start what can be started, earlier recipes first.

        What doesn't fit is passed over; what must be alone holds back all that comes after it.
        """
        for run in runs:
            if self._stopped:
                run.stop(self._stopped)
            if not self._start_stages_of(run):
                return

    def wait(self, runs: Iterable[RecipeRun], *, patient: bool) -> None:
        """Wait for children to end, or, where there are none, for other processes; not at all without `patient`."""
        timeout = TICK if patient else 0.0
        everyone = {id(one.workers): one.workers for one in self._running.values()}
        if not everyone:
            time.sleep(timeout)
        for (_, number), one in self._running.items():
            if one.run.is_needless(one.started):
                one.workers.stop(number)
        for number, workers in everyone.items():
            for finished in workers.wait(timeout / len(everyone)):
                self._end(number, finished)
        for run in runs:
            run.forget()
        self._events.tick()

    def _start_stages_of(self, run: RecipeRun) -> bool:
        """Start what can be started of one recipe; False where nothing more can be of any other."""
        if not self._has_room():
            return False
        for ready in self._advance(run):
            if not self._has_room():
                return False
            if self._must_be_alone(ready):
                if self._running:
                    return False
                self._start(run, ready)
            elif self._fits(ready):
                self._start(run, ready)
        return True

    def _has_room(self) -> bool:
        running = [one.started.ready for one in self._running.values()]
        return len(running) < self._limits.jobs and not any(self._must_be_alone(ready) for ready in running)

    def _must_be_alone(self, ready: Ready) -> bool:
        return ready.stage.is_a(Trait.ALONE) or ready.memory > self._limits.memory

    def _fits(self, ready: Ready) -> bool:
        taken = sum(one.started.ready.memory for one in self._running.values())
        return taken + ready.memory <= self._limits.memory

    def _start(self, run: RecipeRun, ready: Ready) -> None:
        name = (run.name, ready.stage.name)
        if self._is_running(run, ready):
            return
        lock = run.lock(ready)
        if isinstance(lock, locks.Holder):
            self._note_waiting(name, lock)
            return
        self._waiting.pop(name, None)
        started = None
        try:
            workers = self._workers(run.store)
            run.forget()
            started = run.begin(ready, workers.scratch(), lock)
            if started is not None:
                number = workers.start(started.task, ready.stage.preload)
                self._running[id(workers), number] = _Running(run, started, workers)
                self._tell(run)
                self._events.started(*name, started.ready.why)
        except OSError as error:
            started = None
            run.give_up(ready, error)
        if started is None:
            lock.release()
        else:
            with contextlib.suppress(OSError):
                workers.warm("onnx")  # its imports overlap with an export
        self._tell(run)

    def _is_running(self, run: RecipeRun, ready: Ready) -> bool:
        """Whether another recipe's stage will give the same, where there is no flock to tell."""
        same = (run.store.folder, ready.found.key)
        return any((one.run.store.folder, one.started.ready.found.key) == same for one in self._running.values())

    def _note_waiting(self, name: tuple[str, str], holder: locks.Holder) -> None:
        now = time.monotonic()
        if now - self._waiting.setdefault(name, now) >= PATIENCE:
            self._events.waiting(*name, holder)

    def _end(self, workers: int, finished: Finished) -> None:
        running = self._running.pop((workers, finished.id), None)
        if running is None:
            return
        run = running.run
        self._events.ended(run.name, running.started.ready.stage.name)
        run.end(running.started, finished)
        running.started.lock.release()
        self._advance(run)

    def _advance(self, run: RecipeRun) -> list[Ready]:
        ready = run.advance()
        self._tell(run)
        return ready

    def _tell(self, run: RecipeRun) -> None:
        for report in run.told():
            self._events.finished(run.name, report)
            if report.status == "failed" and not self._limits.keep_going:
                why = f"{run.name}: {run.failed} failed earlier; --keep-going builds on"
                self._stopped = self._stopped or why


def default_jobs() -> int:
    """Stages at a time: one per core, since most are single-threaded."""
    return max(1, machine.cores())
