"""What an executor is to all that run stages: tasks handed over, and what became of each.

`local.Workers`, child processes of this machine, is the first implementation. One that runs stages elsewhere brings the
objects that a task names into a folder there, and what the stage kept back into `task.objects` before it tells of the end.
Types only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from onnxbuild.contracts import Task
from onnxbuild.executors.child import Result


class Finished(Struct, frozen=True):
    """A stage ended. `result` is None where it died before it could say anything; `status` then tells how.

    `fault` is what its surroundings did to it, where it could say no more than that; `peak_rss_bytes` is 0 where it is
    not known (a child that was lost with its template, and every child where there are no templates).
    """

    id: int
    result: Result | None
    status: int
    peak_rss_bytes: int
    log: str
    fault: int = 0  # an errno


class Executor(Protocol):
    """The running stages of one command. Whatever was started has ended when `close` returns."""

    def scratch(self) -> Path:
        """A new empty folder for one task, on the file system of its objects. Raises OSError."""

    def start(self, task: Task, preload: str) -> int:
        """Start a stage and return its number; `preload` is the template, of `TEMPLATES`, that suits it. Raises OSError."""

    def warm(self, preload: str) -> None:
        """Make ready for stages that suit a template, where that takes time. Raises OSError."""

    def stop(self, number: int) -> None:
        """End a stage at once; `wait` tells of it as of any that was killed."""

    def wait(self, timeout: float) -> list[Finished]:
        """The stages that ended, waiting at most `timeout` seconds for the first of them."""

    def close(self) -> None:
        """End every stage at once, and remove their scratch folders."""
