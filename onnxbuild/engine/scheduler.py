"""Runs the stages of several recipes side by side: picks what to start, waits for what runs, until every recipe has ended.

What may start: as many stages as there are jobs, as much as fits into the memory, a benchmark alone on the machine, and
each stage in one process at a time. It does not know what a stage is or where its results lie: `walk` does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from onnxbuild.engine.recipe_run import Events, Ready, Started, Walk
from onnxbuild.store.store import Store
from onnxbuild.system import locks, machine

if TYPE_CHECKING:
    from onnxbuild.executors.local import Finished, Workers

TICK = 0.1  # seconds between two looks at the clock and at other processes' locks
PATIENCE = 1.0  # seconds of waiting for another process of which nothing is said


class Limits(Struct, frozen=True):
    """What a command may use: stages at a time, bytes of memory; and whether it goes on after a failure."""

    jobs: int
    memory: int
    keep_going: bool = False


class _Running(Struct, frozen=True):
    walk: Walk
    started: Started
    workers: Workers


class Scheduler:
    """The builds of one command. `workers` gives the child processes of a store, started when first asked for."""

    def __init__(
        self, walks: Sequence[Walk], limits: Limits, workers: Callable[[Store], Workers], events: Events
    ) -> None:
        self._open = {walk.name: walk for walk in walks}
        self._limits = limits
        self._workers = workers
        self._events = events
        self._running: dict[tuple[int, int], _Running] = {}
        self._waiting: dict[tuple[str, str], float] = {}  # for another process's lock, and since when

    def run(self) -> Iterator[Walk]:
        """Bring every stage of every recipe to an end; gives each recipe as it ends."""
        try:
            while self._open:
                moved = False
                for walk in self._in_turn():
                    moved = True
                    del self._open[walk.name]
                    yield walk
                if self._running:
                    self._wait(0.0 if moved else TICK)
                elif not moved:
                    self._wait(TICK)  # for other processes
        finally:
            for one in self._running.values():
                one.started.lock.release()

    def _in_turn(self) -> Iterator[Walk]:
        """Start what can be started, earlier recipes first; gives the recipes that ended.

        What doesn't fit is passed over; what must be alone holds back all that comes after it.
        """
        more = True
        for walk in list(self._open.values()):
            more = more and self._start_stages_of(walk)
            if walk.ended:
                yield walk

    def _start_stages_of(self, walk: Walk) -> bool:
        """Start what can be started of one recipe; False where nothing more can be of any other."""
        if not self._has_room():
            return False
        for ready in self._advance(walk):
            if not self._has_room():
                return False
            if self._must_be_alone(ready):
                if self._running:
                    return False
                self._start(walk, ready)
            elif self._fits(ready):
                self._start(walk, ready)
        return True

    def _has_room(self) -> bool:
        running = [one.started.ready for one in self._running.values()]
        return len(running) < self._limits.jobs and not any(self._must_be_alone(ready) for ready in running)

    def _must_be_alone(self, ready: Ready) -> bool:
        return ready.stage.alone or ready.memory > self._limits.memory

    def _fits(self, ready: Ready) -> bool:
        taken = sum(one.started.ready.memory for one in self._running.values())
        return taken + ready.memory <= self._limits.memory

    def _start(self, walk: Walk, ready: Ready) -> None:
        name = (walk.name, ready.stage.name)
        if self._is_running(walk, ready):
            return
        lock = walk.lock(ready)
        if isinstance(lock, locks.Holder):
            self._note_waiting(name, lock)
            return
        self._waiting.pop(name, None)
        started = None
        try:
            workers = self._workers(walk.store)
            walk.forget()
            started = walk.begin(ready, workers.scratch(), lock)
            if started is not None:
                number = workers.start(started.task, ready.stage.preload)
                self._running[id(workers), number] = _Running(walk, started, workers)
                self._tell(walk)
                self._events.started(*name, started.ready.found.why)
        except OSError as error:
            started = None
            walk.give_up(ready, error)
        if started is None:
            lock.release()
        else:
            with contextlib.suppress(OSError):
                workers.warm("onnx")  # its imports overlap with an export
        self._tell(walk)

    def _is_running(self, walk: Walk, ready: Ready) -> bool:
        """Whether another recipe's stage will give the same, where there is no flock to tell."""
        same = (walk.store.folder, ready.found.key)
        return any((one.walk.store.folder, one.started.ready.found.key) == same for one in self._running.values())

    def _note_waiting(self, name: tuple[str, str], holder: locks.Holder) -> None:
        now = time.monotonic()
        if now - self._waiting.setdefault(name, now) >= PATIENCE:
            self._events.waiting(*name, holder)

    def _wait(self, timeout: float) -> None:
        """Wait for children, or, where there are none, for other processes."""
        everyone = {id(one.workers): one.workers for one in self._running.values()}
        if not everyone:
            time.sleep(timeout)
        for number, workers in everyone.items():
            for finished in workers.wait(timeout / len(everyone)):
                self._end(number, finished)
        for walk in self._open.values():
            walk.forget()
        self._events.tick()

    def _end(self, workers: int, finished: Finished) -> None:
        running = self._running.pop((workers, finished.id), None)
        if running is None:
            return
        walk = running.walk
        walk.end(running.started, finished)
        running.started.lock.release()
        self._advance(walk)

    def _stop(self, failed: Walk) -> None:
        """Start nothing more but in recipes that failed themselves, whose other checks tell more of why."""
        for walk in self._open.values():
            walk.stopped = walk.stopped or f"{failed.name}: {failed.failed} failed earlier; --keep-going builds on"

    def _advance(self, walk: Walk) -> list[Ready]:
        ready = walk.advance()
        self._tell(walk)
        return ready

    def _tell(self, walk: Walk) -> None:
        for report in walk.told():
            self._events.finished(walk.name, report)
            if report.status == "failed" and not self._limits.keep_going:
                self._stop(walk)


def default_jobs() -> int:
    """Stages at a time: one per core, since most are single-threaded."""
    return max(1, machine.cores())
