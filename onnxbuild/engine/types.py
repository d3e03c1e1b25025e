"""What `scheduler` and `recipe_run` hand to one another, and what both tell. Types only."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from onnxbuild.contracts import Task
from onnxbuild.discovery import modified
from onnxbuild.plan.dag import Stage
from onnxbuild.queries.decision import Given
from onnxbuild.queries.lookup import Found
from onnxbuild.report.types import StageReport
from onnxbuild.system import locks


class Events(Protocol):
    """What is told as it goes; `progress` gives it looks."""

    def started(self, recipe: str, stage: str, why: list[str]) -> None: ...
    def ended(self, recipe: str, stage: str) -> None: ...
    def finished(self, recipe: str, stage: StageReport) -> None: ...
    def waiting(self, recipe: str, stage: str, holder: locks.Holder) -> None: ...
    def tick(self) -> None: ...


class Ready(Struct, frozen=True):
    """A stage that has all it needs and that the store does not answer; `memory` is what it will take, in bytes."""

    stage: Stage
    found: Found
    why: list[str]
    taken: Given
    memory: int


class Started(Struct, frozen=True):
    """A stage in a child: what it was given, and what its inputs were then."""

    ready: Ready
    task: Task
    lock: locks.Lock
    before: modified.Before
