"""Processes killed by SIGKILL, at every named point around a write and at random times; then the next run just works.

A kill is judged by what it left (a store without a fault), by a journal of what was acknowledged as built, kept outside the
project, and by the next run: no manual step, nothing acknowledged is done again, the files equal a clean build's.
ONNXBUILD_KILLS=300 raises the number of kills; every point is then tried with every kind of file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from small import STAGES, model, published, small, unsound
from workspace import Workspace

from onnxbuild.system import failpoints

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")

KILLS = int(os.environ.get("ONNXBUILD_KILLS") or 0)
WRITE = ("begun", "filled", "synced", "renamed", "done")
GRAPH, TENSOR, TRACE, LATEST = "*/objects/*.onnx", "*/objects/??/*", "*/traces/*", "*/latest/*"
DIGESTS, RESULT, REPORT, HTML = "*/digests.json", "*.result", "*/report.json", "*/report.html"
WEIGHTS, MODEL = "*/model.onnx.data", "*/model.onnx"

# Every point once, and the points around a write for the four kinds of file that a wrong hit could come from.
POINTS = [
    *(f"write.{step}@{place}" for step, place in zip(WRITE, (GRAPH, TENSOR, GRAPH, TENSOR, GRAPH), strict=True)),
    *(f"write.{step}@{TRACE}:{turn}" for step, turn in zip(WRITE, (1, 3, 5, 7, 8), strict=True)),
    f"write.synced@{LATEST}", f"write.renamed@{DIGESTS}", f"write.renamed@{REPORT}",
    f"move.begun@{MODEL}", f"move.renamed@{WEIGHTS}", f"move.done@{WEIGHTS}",
    "package.cleared", "package.moved", f"folder.made@{TRACE}:2", "lease.made",
]  # fmt: skip
ALL_POINTS = [
    *(f"write.{step}@{place}:{turn}" for step in WRITE for place in (GRAPH, RESULT) for turn in (1,)),
    *(f"write.{step}@{TENSOR}:{turn}" for step in WRITE for turn in (1,)),
    *(f"write.{step}@{TRACE}:{turn}" for step in WRITE for turn in range(1, 9)),
    *(f"write.{step}@{place}" for step in WRITE for place in (LATEST, DIGESTS, REPORT, HTML, WEIGHTS, MODEL)),
    *(f"move.{step}@{place}" for step in ("begun", "renamed", "done") for place in (WEIGHTS, MODEL)),
    "package.cleared", "package.moved", "lease.made",
    *(f"folder.made@{TRACE}:{turn}" for turn in range(1, 9)), "folder.made@*/objects/??",
]  # fmt: skip


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A project in which another version of the model was built and published."""
    root = tmp_path_factory.mktemp("earlier") / "project"
    root.mkdir()
    workspace = small(Workspace(root), version=1)
    workspace.run("run", "small.yaml")
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The files of a clean build."""
    root = tmp_path_factory.mktemp("clean") / "project"
    root.mkdir()
    small(Workspace(root), version=2).run("run", "small.yaml")
    return published(root)


@pytest.fixture
def edited(earlier, tmp_path):
    """A copy of it in which the model was edited: all stages have work to do, and an older build is there to be mixed up."""
    return copied(earlier, tmp_path / "project")


def copied(earlier, root):
    shutil.copytree(earlier, root)
    (root / "m.onnx").write_bytes(model(2))
    (root / ".onnxbuild/digests.json").unlink(missing_ok=True)  # so that there is something to remember again
    return Workspace(root)


def start(workspace: Workspace, journal: Path, **environment: str) -> subprocess.Popen[bytes]:
    command, env = workspace.command("run", "small.yaml")
    with open(journal, "wb") as out:
        return subprocess.Popen(
            command, cwd=workspace.root, env={**env, "PYTHONUNBUFFERED": "1", **environment}, stdout=out, stderr=out
        )


def acknowledged(journal: Path) -> set[str]:
    """The stages that a run had said to be built."""
    return set(re.findall(r"^\S+ (\S+) +built ", journal.read_text(), re.MULTILINE))


def require_recovery(workspace: Workspace, journal: Path, clean: dict[str, bytes]) -> None:
    """What must hold after any kill whatever."""
    said = acknowledged(journal)
    assert unsound(workspace.root) == []
    ran = workspace.run("run", "small.yaml")

    assert published(workspace.root) == clean, ran.text
    assert workspace.built("small") & said <= {"package"}, "what was acknowledged is in the store"
    assert "warning" not in ran.text
    assert unsound(workspace.root) == []
    if workspace.built("small"):  # with nothing to do no scratch folder is looked at, and it is left to the collector
        assert list((workspace.root / ".onnxbuild/tmp").glob("*")) == []


@pytest.mark.sample(3)
@pytest.mark.parametrize("point", dict.fromkeys(POINTS if not KILLS else [*POINTS, *ALL_POINTS]))
def test_a_kill_at_a_named_point(edited, tmp_path, clean, point):
    journal = tmp_path / "journal"
    code = start(edited, journal, ONNXBUILD_FAILPOINT=point).wait(60)

    if point.startswith((f"write.done@{TRACE}:8", f"write.begun@{LATEST}")):
        assert acknowledged(journal), "a journal that says nothing would prove nothing"
    if not point.startswith((f"write.renamed@{RESULT}", f"write.done@{RESULT}")):  # there the child has done its work
        assert code in (-signal.SIGKILL, 1), f"{point} was not reached\n{journal.read_text()}"
    if code == 1:
        assert "SIGKILL" in journal.read_text(), "it was a child that was killed"
    require_recovery(edited, journal, clean)


def test_every_point_is_tried():
    tried = {point.partition("@")[0].partition(":")[0] for point in POINTS} | {"remove.done"}

    assert tried == set(failpoints.POINTS)


# A target's files: in the store, and in the folder of what is published.

TARGET = "targets: {ort: {optimization_level: basic}}\n"
CONFIG, ORT = "*/ort/*.config", "*/ort/model.ort"
STORED = [f"write.synced@{TENSOR}:2", f"write.synced@{TRACE}:1"]
SHIPPED = [
    f"write.renamed@{CONFIG}", f"write.synced@{ORT}", f"write.renamed@{ORT}", "write.synced@*/manifest.json"
]  # fmt: skip
if KILLS:
    STORED += [f"write.{step}@{place}:1" for step in WRITE for place in (TENSOR, TRACE)]
    SHIPPED += [f"write.{step}@{place}" for step in WRITE for place in (CONFIG, ORT, REPORT)]
    SHIPPED += [f"package.cleared@{ORT}", "package.moved"]


def shipped(root: Path) -> dict[str, bytes]:
    """All that was published, less the reports."""
    folder = root / "build/small"
    names = (
        "model.onnx",
        "model.onnx.data",
        "manifest.json",
        "ort/model.ort",
        "ort/required_operators_and_types.config",
    )
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


@pytest.fixture(scope="module")
def two_targets(tmp_path_factory):
    """A project in which two versions of a model were built and the first is published; and what is published of each."""
    root = tmp_path_factory.mktemp("targets") / "project"
    root.mkdir()
    workspace = small(Workspace(root))
    workspace.write("small.yaml", workspace.read("small.yaml") + TARGET)
    (root / "m.onnx").write_bytes(model(1, identity=False))  # so that both files of the target are others
    workspace.run("run", "small.yaml")
    old = shipped(root)
    shutil.copytree(root / "build", root.parent / "build")
    (root / "m.onnx").write_bytes(model(2))
    workspace.run("run", "small.yaml")
    new = shipped(root)
    assert len(new) == 5 and all(new[name] != old[name] for name in new)
    shutil.rmtree(root / "build")
    (root.parent / "build").rename(root / "build")
    return root, old, new


def forget_target(root: Path, *published: dict[str, bytes]) -> None:
    """Take what these targets came to out of the store."""
    traces = [
        path for path in (root / ".onnxbuild/traces").glob("*/*/*.json") if b'"stage":"target"' in path.read_bytes()
    ]
    assert len(traces) == len(published)
    for path in traces:
        path.unlink()
    for content in (content for files in published for name, content in files.items() if name.startswith("ort/")):
        digest = hashlib.sha256(content).hexdigest()
        (root / ".onnxbuild/objects" / digest[:2] / digest[2:]).unlink()


@pytest.mark.sample(3)
@pytest.mark.parametrize("point", dict.fromkeys([*STORED, *SHIPPED]))
def test_a_kill_while_a_target_is_kept_or_published(two_targets, tmp_path, point):
    root, old, new = two_targets
    shutil.copytree(root, tmp_path / "project")
    workspace = Workspace(tmp_path / "project")
    if point in STORED:
        assert unsound(workspace.root) == []
        forget_target(workspace.root, old, new)
    journal = tmp_path / "journal"
    code = start(workspace, journal, ONNXBUILD_FAILPOINT=point).wait(60)

    assert code in (-signal.SIGKILL, 1), f"{point} was not reached\n{journal.read_text()}"
    left = shipped(workspace.root)
    ort = {name: left[name] for name in left if name.startswith("ort/")}
    if "ort/model.ort" in ort:  # what is loaded lies with its own files
        assert ort in ({name: old[name] for name in ort}, {name: new[name] for name in ort}) and len(ort) == 2
    if left != old:
        assert "manifest.json" not in left, "it lists what does not lie there"
    assert [one for one in unsound(workspace.root) if "missing trace of small's target/ort" not in one] == []
    ran = workspace.run("run", "small.yaml")
    assert shipped(workspace.root) == new and "warning" not in ran.text
    assert unsound(workspace.root) == []
    if "package" in workspace.built("small"):  # a half-written page stays until then
        assert [path.name for path in (workspace.root / "build/small").rglob(".tmp-*")] == []


def processes(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        own = psutil.Process(process.pid)
        return [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def victims(kind: str, process: subprocess.Popen[bytes], chance: random.Random) -> list[psutil.Process]:
    found = processes(process)
    if kind == "parent":
        return found[:1]
    if kind == "child":
        return [chance.choice(found[1:])] if found[1:] else found[:1]
    return found


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", ["tree", "parent", "child"])
def test_kills_at_random_times(earlier, tmp_path, clean, kind):
    """Where the last kill came too early or too late, the next one is tried on what it left, as an impatient user would."""
    count = 2 if not KILLS else max(1, (KILLS - len({*POINTS, *ALL_POINTS})) // 3)
    chance = random.Random(f"{kind} {KILLS}")
    codes = []
    for turn in range(count):
        workspace = copied(earlier, tmp_path / f"{turn}")
        for attempt in range(1 + turn % 2):
            journal = tmp_path / f"{turn}-{attempt}.journal"
            process = start(workspace, journal)
            time.sleep(chance.uniform(0.1, 0.9))
            for victim in victims(kind, process, chance):
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
            codes.append(process.wait(60))
        require_recovery(workspace, journal, clean)
        shutil.rmtree(workspace.root)
    print(f"{len(codes)} kills of {kind}: exit codes {dict(Counter(codes))}")


def test_a_kill_right_after_a_damaged_object_was_removed(edited, tmp_path, clean):
    edited.run("run", "small.yaml")
    shutil.rmtree(edited.root / "build")
    for path in (edited.root / ".onnxbuild/objects").glob("*/*"):
        path.write_bytes(path.read_bytes()[::-1])
    code = start(edited, tmp_path / "journal", ONNXBUILD_FAILPOINT="remove.done").wait(60)

    assert code == -signal.SIGKILL
    ran = edited.run("run", "small.yaml")
    assert published(edited.root) == clean and ran.err.count("warning") <= 2


@pytest.mark.sample(3)
@pytest.mark.parametrize("point", ["remove.done@*/traces/*:2", "remove.done@*/objects/*:2", "remove.done@*/traces/*:8"])
def test_a_kill_of_the_collector(edited, clean, point):
    edited.run("run", "small.yaml")
    (edited.root / "m.onnx").write_bytes(model(1))
    edited.run("run", "small.yaml")
    edited.env["ONNXBUILD_FAILPOINT"] = point
    edited.run("cache", "gc", "--max-size", "0", code=-signal.SIGKILL)
    edited.env.clear()

    assert unsound(edited.root) == []
    (edited.root / "m.onnx").write_bytes(model(2))
    ran = edited.run("run", "small.yaml")
    assert published(edited.root) == clean and "warning" not in ran.text
    assert set(edited.statuses("small")) == STAGES
