"""What a model says of itself, asked in a process of its own; the store remembers it, as any stage's outcome.

Asked before there is a plan, for what a recipe leaves out. Keeps nothing where a command may only look.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from onnxbuild.contracts import Inspection, Interface, Json, Outcome
from onnxbuild.errors import StageError
from onnxbuild.plan import planner
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import decision
from onnxbuild.queries.decision import Decision, Given
from onnxbuild.queries.lookup import Lookup
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Store
from onnxbuild.store.traces import Trace

if TYPE_CHECKING:
    from onnxbuild.executors.interface import Executor, Finished

SLICE = 60.0  # seconds that are waited for a child at a time


class Describing:
    """Asks models of their interface. `stores` gives a project's store and digests, None where none is to be used;
    `workers` an executor for a store, where what is found out is kept.
    """

    def __init__(
        self,
        stores: Callable[[Path], tuple[Store, Digests]] | None,
        workers: Callable[[Store], Executor] | None = None,
    ) -> None:
        self._stores, self._workers = stores, workers
        self._own: Executor | None = None  # of a command that only looks
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, kind: str, options: Any, root: Path) -> Interface:
        """What the model says of itself. Raises StageError where it says nothing, or can't be asked."""
        stage = planner.describing(kind, options)
        taken = decision.given(stage, {}, root)
        if self._stores is None:
            return _interface(self._ask(stage, taken, root)[0])
        store, digests = self._stores(root)
        lookup = Lookup(store, digests, root, {})
        made = decision.decide(stage, taken, lookup, root)
        if made.state == "fails":
            raise StageError(made.fact, made.hint)
        if made.trace is not None:
            return _interface(made.trace.outcome)
        return _interface(self._kept(stage, taken, root, store, lookup, made))

    def inspect(self, kind: str, options: Any, root: Path, given: Mapping[str, Json], example: str) -> Inspection:
        """What a new recipe should say of a model, found out by running it. Raises StageError."""
        stage = planner.inspecting(kind, options, given, example)
        outcome, _ = self._ask(stage, decision.given(stage, {}, root), root)
        return msgspec.convert(outcome.facts, Inspection)

    def _kept(self, stage: Stage, taken: Given, root: Path, store: Store, lookup: Lookup, made: Decision) -> Outcome:
        """Ask, and keep the answer where that is allowed."""
        if self._workers is None:
            return self._ask(stage, taken, root)[0]
        outcome, finished = self._ask(stage, taken, root, store)
        result = finished.result
        if outcome.cacheable and made.found is not None and result is not None:
            lookup.forget()
            today = lookup.today(list(result.discovered))
            trace = Trace(made.found.document, today, outcome, {}, result.seconds, finished.peak_rss_bytes)
            store.keep(made.found.key, trace)
        return outcome

    def _ask(self, stage: Stage, taken: Given, root: Path, store: Store | None = None) -> tuple[Outcome, Finished]:
        """Run the stage and wait for it. Raises StageError."""
        if store is not None and self._workers is not None:
            workers, objects = self._workers(store), store.workplace().objects
        else:
            workers, objects = self._looking()
        task = decision.task_for(stage, taken, objects, root, workers.scratch(), root)
        number = workers.start(task, stage.preload)
        finished: list[Finished] = []
        while not finished:
            finished = [one for one in workers.wait(SLICE) if one.id == number]
        result = finished[0].result
        if result is None:
            last = finished[0].log.strip().rpartition("\n")[2]
            fact = f"the process that asks the model of its inputs ended with status {finished[0].status}"
            raise StageError(f"{fact}: {last}" if last else fact, "say them under export")
        if result.outcome is None:
            raise StageError(result.fact, result.hint)
        return result.outcome, finished[0]

    def _looking(self) -> tuple[Executor, Path]:
        from onnxbuild.executors.local import Workers

        if self._own is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="onnxbuild-", ignore_cleanup_errors=True)
            self._own = Workers(Path(self._folder.name) / "tmp")
        return self._own, Path(self._folder.name) / "objects"

    def close(self) -> None:
        """End the processes of a command that only looks."""
        if self._own is not None and self._folder is not None:
            self._own.close()
            self._folder.cleanup()
        self._own = self._folder = None


def _interface(outcome: Outcome) -> Interface:
    return msgspec.convert(outcome.facts, Interface)
