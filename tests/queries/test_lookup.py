"""Why a stage is looked up in vain: what changed since the recipe's last build, or what became of its result."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxbuild.contracts import Outcome
from onnxbuild.plan.dag import Stage
from onnxbuild.queries.lookup import Lookup
from onnxbuild.store import keys
from onnxbuild.store.digests import Digests
from onnxbuild.store.store import LocalStore
from onnxbuild.store.traces import Trace


class Place:
    """A project with a store, in which stages end without being run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.warnings: list[str] = []

    def lookup(self) -> Lookup:
        store = LocalStore(self.root / "store", self.warnings.append)
        return Lookup(store, Digests(self.root / "digests"), self.root, store.latest("r", self.root), "r")

    def find(self, stage: Stage):
        return self.lookup().find(stage, {}, {role: self.root / path for role, path in stage.files.items()})

    def end(self, stage: Stage, *discovered: str, cacheable: bool = True) -> None:
        """As a run does: the stage's trace is kept, and then the recipe's keys."""
        store = LocalStore(self.root / "store", self.warnings.append)
        lookup = self.lookup()
        found = lookup.find(stage, {}, {role: self.root / path for role, path in stage.files.items()})
        if cacheable:
            store.keep(found.key, Trace(found.document, lookup.today(list(discovered)), Outcome(), {}, 1.0, 1))
        store.note_latest("r", {stage.name: found.key}, self.root)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)


def stage(opset: int = 18, **more) -> Stage:
    return Stage("export", "export", "onnxbuild.stages.export", "1", {"export": {"opset": opset}}, **more)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.write("net.py", "1")
    made.write("weights", "1")
    return made


def test_a_hit_has_no_reasons_and_a_first_build_says_so(place):
    assert place.find(stage()).why == ["first build"]
    place.end(stage(), "file:net.py")
    found = place.find(stage())

    assert found.trace is not None and found.why == [] and found.reasons == []
    assert found.key == keys.key_of(found.document)


def test_all_that_changed_is_told_the_recipe_first(place):
    place.end(stage(files={"checkpoint": "weights"}), "file:net.py")
    place.write("net.py", "2")
    place.write("weights", "2")
    found = place.find(stage(17, files={"checkpoint": "weights"}))

    assert found.why == ["export.opset: 18 -> 17", "net.py changed", "weights changed"]
    assert [reason.kind for reason in found.reasons] == ["recipe", "file", "file"]


def test_it_is_compared_with_the_last_build_not_with_the_nearest(place):
    """The document was built before, with another file; what the user changed since the last run is the option."""
    place.end(stage(17), "file:net.py")
    place.write("net.py", "2")
    place.end(stage(18), "file:net.py")

    assert place.find(stage(17)).why == ["export.opset: 18 -> 17"]


def test_a_document_that_another_recipe_built_with_other_files_names_the_file(place):
    place.end(stage(), "file:net.py")
    place.write("net.py", "2")
    store = LocalStore(place.root / "store", place.warnings.append)
    lookup = Lookup(store, Digests(place.root / "digests"), place.root, store.latest("another", place.root), "another")

    assert lookup.find(stage(), {}, {}).why == ["net.py changed"]


def test_a_file_that_came_back_is_a_hit(place):
    for text in "12":
        place.write("net.py", text)
        place.end(stage(), "file:net.py")
    place.write("net.py", "1")

    assert place.find(stage()).trace is not None


def test_a_result_that_was_removed_is_told_from_one_that_never_came(place):
    place.end(stage(), "file:net.py")
    for path in (place.root / "store/traces").rglob("*.json"):
        path.unlink()
    assert place.find(stage()).why == ["its last result was removed from the store, or was damaged"]

    place.end(stage(16), cacheable=False)
    assert place.find(stage(16)).why == [
        "the last run kept no result of it: it failed, was interrupted, or wrote what it read"
    ]


def test_a_damaged_trace_is_a_warning_and_a_reason(place):
    place.end(stage(), "file:net.py")
    (path,) = (place.root / "store/traces").rglob("*.json")
    path.write_bytes(path.read_bytes()[:-1])

    assert place.find(stage()).why == ["its last result was removed from the store, or was damaged"]
    assert len(place.warnings) == 1 and str(path) in place.warnings[0]


def test_a_declared_file_that_is_gone_is_an_error(place):
    with pytest.raises(FileNotFoundError):
        place.find(stage(files={"checkpoint": "lost"}))
