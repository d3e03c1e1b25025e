"""Another implementation of a store, with which the engine builds as with a folder: nothing above knows a path in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from small import STAGES, published, small
from workspace import Workspace

import onnxbuild
from onnxbuild.engine.session import Session, Settings
from onnxbuild.queries import workspace as places
from onnxbuild.report.progress import Progress
from onnxbuild.store import objects
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Matches, Store
from onnxbuild.store.store import LocalStore
from onnxbuild.store.traces import Trace


class Shared(LocalStore):
    """A store on this machine, in front of one that is far away; objects come near when they are asked for."""

    def __init__(self, near: Path, far: Path, warn: Callable[[str], None]) -> None:
        super().__init__(near, warn)
        self.far = LocalStore(far, warn)
        self.fetched: list[str] = []

    def find(self, key: str, holds: Callable[[Trace], bool]) -> Trace | None:
        return super().find(key, holds) or self.far.find(key, holds)

    def fetch(self, refs: Iterable[str], matches: Matches) -> list[str]:
        lost = super().fetch(refs, matches)
        for ref in self._there(lost):
            self.fetched.append(ref)
            objects.add_bytes(self.workplace().objects, self.far.path(ref).read_bytes(), graph=ref.endswith(".onnx"))
        return super().fetch(lost, matches)

    def _there(self, refs: list[str]) -> list[str]:
        return [ref for ref in refs if self.far.path(ref).exists()]

    def keep(self, key: str, trace: Trace) -> None:
        for ref in trace.sizes:
            data = self.path(ref).read_bytes()
            objects.add_bytes(self.far.workplace().objects, data, graph=ref.endswith(".onnx"))
        super().keep(key, trace)
        self.far.keep(key, trace)

    def discard(self, ref: str) -> None:
        super().discard(ref)
        self.far.discard(ref)

    def close(self) -> None:
        super().close()
        self.far.close()


class Quiet(Progress):
    def __init__(self) -> None:
        import io

        super().__init__(io.StringIO(), quiet=True, errors=io.StringIO())


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Builds on a machine of its own, of which only the far store is shared."""

    def build(workspace: Workspace) -> Shared:
        made: list[Shared] = []

        def opened(folder: Path, warn: Callable[[str], None], **_: object) -> tuple[Store, Digests]:
            made.append(Shared(folder, tmp_path / "far", warn))
            return made[0], Digests(folder / "digests.json")

        monkeypatch.setattr(places.stores, "opened", opened)
        with Session(Settings(), Quiet()) as session:
            (report,) = session.build_all(session.load([workspace.root / "small.yaml"]))
        assert report.status == "done", report.failures
        return made[0]

    return build


def test_what_one_machine_built_another_takes_and_fetches_no_more_than_its_stages_read(machine, tmp_path):
    first = small(Workspace.make(tmp_path / "first" / "project"))
    assert machine(first).fetched == [] and first.built("small") == STAGES

    second = small(Workspace.make(tmp_path / "second" / "project"))
    store = machine(second)
    assert second.built("small") == {"package"} and published(second.root) == published(first.root)
    assert len(store.fetched) == 2, "the last graph and its weights"

    third = small(Workspace.make(tmp_path / "third" / "project"))
    third.replace("small.yaml", "eliminate_identity", "eliminate_nop_cast")
    store = machine(third)
    assert "export" not in third.built("small") and "optimize/1-onnxoptimizer" in third.built("small")
    assert machine(third).fetched == [], "all that it needs is near by now"


def test_what_is_damaged_far_away_is_built_again(machine, tmp_path):
    first = small(Workspace.make(tmp_path / "first" / "project"))
    machine(first)
    for path in (tmp_path / "far" / "objects").glob("??/*"):
        path.write_bytes(b"x" * path.stat().st_size)

    second = small(Workspace.make(tmp_path / "second" / "project"))
    machine(second)

    assert second.built("small") >= {"export", "package"} and published(second.root) == published(first.root)


def test_nothing_above_the_store_knows_what_is_in_its_folder():
    layout = re.compile(r"store\.objects\b(?! import)|store\.folder /|store\.leases\b|\.onnxbuild\"? / |LocalStore")
    package = Path(onnxbuild.__file__).parent
    above = [path for path in package.rglob("*.py") if path.parent.name != "store"]

    assert [str(path) for path in above if layout.search(path.read_text(encoding="utf-8"))] == []
