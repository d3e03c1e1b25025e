"""The seam of the executors: a second implementation, of a few lines, builds what the first one does."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from small import STAGES, published, small
from workspace import Workspace

from onnxbuild.engine.session import Session, Settings
from onnxbuild.executors.child import Order, Result
from onnxbuild.executors.interface import Finished
from onnxbuild.report.progress import Progress


class InTurn:
    """Runs each stage in a new interpreter, one after the other, as a machine that knows no templates would."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.ended: list[Finished] = []
        self.started = 0

    def scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def start(self, task, preload):
        self.started += 1
        order = Order(self.started, task, f"{task.scratch}.result", f"{task.scratch}.log")
        path = Path(f"{task.scratch}.order")
        path.write_bytes(msgspec.json.encode(order))
        command = [sys.executable, "-P", "-m", "onnxbuild.executors.child", "--once", str(path)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        result = Path(order.result)
        told = msgspec.json.decode(result.read_bytes(), type=Result) if result.exists() else None
        self.ended.append(Finished(order.id, told, done.returncode, 0, Path(order.log).read_text()))
        return order.id

    def warm(self, preload):
        pass

    def stop(self, number):
        raise AssertionError("a stage that has ended can't be stopped")

    def wait(self, timeout):
        ended, self.ended = self.ended, []
        return ended

    def close(self):
        pass


def build(project: Workspace):
    with Session(Settings(), Progress(sys.stdout, quiet=True, errors=sys.stderr)) as session:
        (report,) = session.build_all(session.load([project.root / "small.yaml"]))
    return report


@pytest.fixture
def in_turn(workspace, tmp_path, monkeypatch):
    """A project that another executor built, what it was built by, and the report."""
    project, executor = small(workspace), InTurn(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Session, "workers", lambda session, store: executor)
        return project, executor, build(project)


def test_another_executor_builds_the_same(in_turn, tmp_path):
    project, executor, report = in_turn
    assert report.status == "done", [failure.fact for failure in report.failures]
    assert {stage.name for stage in report.stages if stage.status == "built"} == STAGES
    assert executor.started == len(STAGES)

    usual = small(Workspace.make(tmp_path / "usual"))
    usual.run("run", "small.yaml")
    assert published(project.root) == published(usual.root)


def test_what_it_built_is_a_full_hit_for_the_usual_one(in_turn):
    project, _, _ = in_turn

    assert {stage.status for stage in build(project).stages} == {"cached"}
