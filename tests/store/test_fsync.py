"""What survives a power cut: the order of fsync, rename and mkdir in real runs, held against a model of a disk.

SIGKILL can't show a missing fsync, since the page cache outlives the process. So every such call of a command and its
children is recorded, and replayed on a disk that keeps only what it must: a file's content once the file was fsynced, a
name once its folder was.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small import model, published, small
from workspace import Workspace

from onnxbuild.store import checksummed
from onnxbuild.store.traces import Trace

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")

RECORDER = """
import json, os

log = os.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(**event):
    os.write(log, json.dumps({"pid": os.getpid(), **event}).encode() + b"\\n")


def full(path):
    return os.path.abspath(os.fspath(path))


def fsync(handle, real=os.fsync):
    real(handle)
    handle = handle if isinstance(handle, int) else handle.fileno()
    found = os.fstat(handle)
    note(call="fsync", path=os.readlink(f"/proc/self/fd/{handle}"), size=found.st_size)


def replace(source, target, real=os.replace, **options):
    note(call="replace", source=full(source), path=full(target), size=os.stat(source).st_size)
    real(source, target, **options)


def mkdir(path, *arguments, real=os.mkdir, **options):
    real(path, *arguments, **options)
    note(call="mkdir", path=full(path))


os.fsync, os.replace, os.rename, os.mkdir = fsync, replace, replace, mkdir
"""


class Disk:
    """What a disk is sure to hold after each call."""

    def __init__(self) -> None:
        self.whole: dict[str, int] = {}  # file to the size at which it was fsynced
        self.missing: set[str] = set()  # names that a power cut may take away
        self.torn: set[str] = set()  # names whose content it may take away

    def see(self, event: dict) -> None:
        path = event["path"]
        if event["call"] == "mkdir":
            self.missing.add(path)
        elif event["call"] == "replace":
            if self.whole.get(event["source"]) == event["size"]:
                self.torn.discard(path)
                self.whole[path] = event["size"]
            else:
                self.torn.add(path)
            self.missing.add(path)
        else:
            self.whole[path] = event["size"]
            self.missing -= {name for name in self.missing if os.path.dirname(name) == path}

    def holds(self, path: str) -> bool:
        while os.path.dirname(path) != path:
            if path in self.missing or path in self.torn:
                return False
            path = os.path.dirname(path)
        return True


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A project and what its first build and a second one after an edit did, in order."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "recorder").mkdir()
    (folder / "recorder/sitecustomize.py").write_text(RECORDER)
    (folder / "project").mkdir()
    workspace = small(Workspace(folder / "project", {"PYTHONPATH": str(folder / "recorder")}))
    workspace.run("run", "small.yaml")
    (workspace.root / "m.onnx").write_bytes(model(2))
    workspace.run("run", "small.yaml")
    events = [json.loads(line) for line in (folder / "recorder/log").read_text().splitlines()]
    return workspace, events


def violations(workspace: Workspace, events: list[dict]) -> list[str]:
    """Every trace that could outlive what it needs, and every file that could be lost after its command has ended."""
    disk, found = Disk(), []
    store = workspace.root / ".onnxbuild"
    for event in events:
        disk.see(event)
        path = Path(event["path"])
        if event["call"] == "replace" and path.is_relative_to(store / "traces"):
            trace = checksummed.read(path, f"{path.parent.parent.name}{path.parent.name}/{path.stem}", Trace)
            lost = [ref for ref in trace.sizes if not disk.holds(str(store / "objects" / ref))]
            found += [f"{path.name} could be there without {ref}" for ref in lost]
    kept = [store / "latest/small.json", *(workspace.root / "build/small").iterdir()]
    kept += [path for below in ("objects", "traces") for path in (store / below).rglob("[!.]*") if path.is_file()]
    return found + [f"{path} could be lost" for path in kept if not disk.holds(str(path))]


def test_nothing_is_relied_upon_before_it_is_on_the_disk(recorded):
    workspace, events = recorded

    assert {Path(event["path"]).parent.name for event in events if event["call"] == "replace"} >= {
        "objects",
        "latest",
        "small",
    }
    assert len({event["pid"] for event in events}) > 8, "children are recorded too"
    assert {"model.onnx", "model.onnx.data"} == published(workspace.root).keys()
    assert violations(workspace, events) == []


def without_files(events: list[dict]) -> list[dict]:
    return [event for event in events if event["call"] != "fsync" or os.path.isdir(event["path"])]


def without_folders(events: list[dict]) -> list[dict]:
    return [event for event in events if event["call"] != "fsync" or not os.path.isdir(event["path"])]


def without_new_folders(events: list[dict]) -> list[dict]:
    """Less the fsync that follows a mkdir in the same process."""
    left, made = [], {}
    for event in events:
        if event["call"] == "fsync" and made.get(event["pid"]) == event["path"]:
            continue
        made[event["pid"]] = os.path.dirname(event["path"]) if event["call"] == "mkdir" else ""
        left.append(event)
    return left


@pytest.mark.parametrize("forget", [without_files, without_folders, without_new_folders])
def test_one_kind_of_fsync_less_would_be_noticed(recorded, forget):
    workspace, events = recorded

    assert len(forget(events)) < len(events)
    assert violations(workspace, forget(events)) != []


@pytest.mark.parametrize("place", ["objects", "traces", "latest", "build"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_fsync_less_would_be_noticed(recorded, place, kind):
    """The last one before the last name given there is forgotten: the file's, or its folder's after."""
    workspace, events = recorded
    names = [i for i, event in enumerate(events) if event["call"] == "replace" and f"/{place}/" in event["path"]]
    chosen = next(
        i for i in reversed(names) if kind == "folder" or _fsync_of(events, events[i]["source"], i) is not None
    )
    if kind == "file":
        index = _fsync_of(events, events[chosen]["source"], chosen)
    else:
        pid, folder = events[chosen]["pid"], os.path.dirname(events[chosen]["path"])
        index = next(
            i for i, event in enumerate(events) if i > chosen and event["pid"] == pid and event["path"] == folder
        )
        later = [event for event in events[index + 1 :] if event["path"] == folder]  # of other files in that folder
        events = [event for event in events if event not in later]

    assert index is not None
    assert violations(workspace, events[:index] + events[index + 1 :]) != []


def _fsync_of(events: list[dict], path: str, before: int) -> int | None:
    found = [i for i, event in enumerate(events[:before]) if event["call"] == "fsync" and event["path"] == path]
    return found[-1] if found else None
