"""`onnxbuild cache`: what the store takes up, and a collector that removes nothing that anyone needs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from small import STAGES, model, published, recipe, small, unsound
from workspace import Workspace

from onnxbuild.store import checksummed
from onnxbuild.store.traces import Latest

DAY = 86400


def build(workspace: Workspace, version: int) -> dict[str, bytes]:
    (workspace.root / "m.onnx").write_bytes(model(version))
    workspace.run("run", "small.yaml")
    return published(workspace.root)


def store_files(root: Path, below: str = "") -> list[Path]:
    return sorted(path for path in (root / ".onnxbuild" / below).rglob("[!.]*") if path.is_file())


def made_older(paths: list[Path], seconds: float) -> None:
    for path in paths:
        os.utime(path, (time.time() - seconds, time.time() - seconds))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A project in which version 1 was built, and then version 2, which is published."""
    root = tmp_path_factory.mktemp("two") / "project"
    root.mkdir()
    workspace = small(Workspace(root))
    build(workspace, 1)
    made_older(store_files(root, "traces"), 10 * DAY)
    build(workspace, 2)
    return root


@pytest.fixture
def project(two, tmp_path):
    shutil.copytree(two, tmp_path / "project")
    return Workspace(tmp_path / "project")


def test_du_says_what_the_store_takes_up_by_recipe(project):
    ran = project.run("cache", "du")
    told = json.loads(project.run("cache", "du", "--json").out)

    files = store_files(project.root, "objects")
    assert told["objects"] == {"count": len(files), "bytes": sum(path.stat().st_size for path in files)}
    assert told["traces"]["count"] == 2 * len(STAGES)
    assert 0 < told["recipes"]["small"] < told["objects"]["bytes"] + told["traces"]["bytes"]
    assert told["path"] == str(project.root / ".onnxbuild") and told["unneeded_bytes"] == 0
    assert "needed by the last run of\n    small " in ran.out


def test_gc_alone_removes_only_what_nothing_needs(project):
    before = store_files(project.root)
    assert project.run("cache", "gc").out == "nothing to remove\n"
    assert store_files(project.root) == before

    for path in store_files(project.root, "traces"):
        if time.time() - path.stat().st_mtime > DAY:
            path.unlink()
    ran = project.run("cache", "gc")

    assert ran.out.startswith("removed 4 objects: ")  # two graphs, the weights and the reference of version 1
    assert project.run("run", "small.yaml").out.startswith("small: up to date")


@pytest.mark.parametrize(
    "limit", [("--max-size", "0"), ("--older-than", "5d"), ("--older-than", "12h", "--max-size", "1GB")]
)
def test_gc_removes_the_least_recently_used_and_keeps_the_last_run(project, limit):
    good = published(project.root)
    said = project.run("cache", "gc", "--dry-run", *limit).out
    before = store_files(project.root)
    ran = project.run("cache", "gc", *limit)

    assert said == ran.out.replace("removed", "would remove")
    assert "removed 8 results, 4 objects" in ran.out
    assert len(before) - len(store_files(project.root)) == 12
    assert unsound(project.root) == []
    assert project.run("run", "small.yaml").out.startswith("small: up to date")
    shutil.rmtree(project.root / "build")
    project.run("run", "small.yaml")
    assert project.built("small") == {"package"} and published(project.root) == good
    if "0" in limit:
        assert "what last runs and running commands need is kept" in ran.err


def test_what_a_build_took_from_the_store_counts_as_used(project):
    build(project, 1)
    assert project.built("small") == {"package"}, "version 1 was in the store"
    build(project, 2)
    project.run("cache", "gc", "--older-than", "5d")
    build(project, 1)

    assert project.built("small") == {"package"}


def test_a_dry_run_writes_nothing(project):
    def everything() -> list[object]:
        return [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in project.root.rglob("*")]

    before = everything()
    project.run("cache", "gc", "--dry-run", "--max-size", "0")
    project.run("cache", "du")
    project.run("cache", "path")

    assert everything() == before


def test_gc_removes_what_killed_commands_left(project):
    store = project.root / ".onnxbuild"
    left = [
        store / "objects/.tmp-12-0123456789ab",
        store / "objects/ab/.tmp-12-0123456789cd",
        store / "traces/.tmp-1-0123456789ef",
        store / ".tmp-3-012345678901",
    ]
    dead = store / "tmp/run-deadbeef"
    left += [dead / "weights", dead / ".lock", store / "leases/12-0123abcd", store / "locks" / ("ab" * 32)]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    told = json.loads(project.run("cache", "gc", "--json").out)

    assert not any(path.exists() for path in left) and not dead.exists()
    assert told["removed"] == {
        "traces": 0,
        "objects": 0,
        "temporary": 5,
        "bytes": 24,
        "bytes_left": told["removed"]["bytes_left"],
    }
    assert project.run("run", "small.yaml").out.startswith("small: up to date")


def test_projects_that_share_a_store_keep_their_last_runs_and_a_deleted_project_does_not(tmp_path):
    workspaces = []
    for number in (1, 2):
        root = tmp_path / f"checkout{number}"
        root.mkdir()
        workspaces.append(small(Workspace(root, {"ONNXBUILD_CACHE": str(tmp_path / "store")})))
        build(workspaces[-1], number)
    first, second = workspaces
    first.run("cache", "gc", "--max-size", "0")

    assert first.run("run", "small.yaml").out.startswith("small: up to date")
    assert second.run("run", "small.yaml").out.startswith("small: up to date")
    assert len(json.loads(first.run("cache", "du", "--json").out)["recipes"]) == 2

    shutil.rmtree(second.root)
    first.run("cache", "gc", "--max-size", "0")

    assert first.run("run", "small.yaml").out.startswith("small: up to date")
    assert json.loads(first.run("cache", "du", "--json").out)["traces"]["count"] == len(STAGES)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_results_of_a_deleted_recipe_go_once_what_it_published_is_gone_too(project, tmp_path, elsewhere):
    if elsewhere:
        project.env["ONNXBUILD_CACHE"] = str(tmp_path / "store")
        project.run("run", "small.yaml")
    text = project.read("small.yaml")

    def left() -> int:
        project.run("cache", "gc", "--max-size", "0")
        return json.loads(project.run("cache", "du", "--json").out)["traces"]["count"]

    (project.root / "small.yaml").unlink()
    assert left() == len(STAGES), "what is published may still be verified"
    project.write("small.yaml", text)
    shutil.rmtree(project.root / "build")
    assert left() == len(STAGES), "the recipe may still be built"
    project.run("run", "small.yaml")
    assert project.built("small") == {"package"}
    (project.root / "small.yaml").unlink()
    shutil.rmtree(project.root / "build")
    assert left() == 0


def test_another_machines_last_runs_are_kept_since_nobody_can_tell_from_here(project, tmp_path):
    project.env["ONNXBUILD_CACHE"] = str(tmp_path / "store")
    project.run("run", "small.yaml")
    (path,) = (tmp_path / "store/latest").glob("*.json")
    latest = checksummed.read(path, path.name, Latest)
    shutil.rmtree(project.root)
    other = Workspace.make(tmp_path / "other")
    other.env["ONNXBUILD_CACHE"] = str(tmp_path / "store")

    def left(host: str) -> int:
        checksummed.write(path, path.name, msgspec.structs.replace(latest, host=host))
        other.run("cache", "gc", "--max-size", "0")
        return json.loads(other.run("cache", "du", "--json").out)["traces"]["count"]

    assert left("another") == len(STAGES)
    assert left(latest.host) == 0


def test_a_project_that_moved_keeps_its_last_runs(project, tmp_path):
    shutil.move(project.root, tmp_path / "moved")
    moved = Workspace(tmp_path / "moved")
    moved.run("cache", "gc", "--max-size", "0")

    assert moved.run("run", "small.yaml").out.startswith("small: up to date")


def test_an_empty_project_has_an_empty_store(workspace):
    assert workspace.run("cache", "path").out == f"{workspace.root / '.onnxbuild'}\n"
    assert "0 B" in workspace.run("cache", "du").out
    assert workspace.run("cache", "gc", "--max-size", "0").out == "nothing to remove\n"
    assert "all sound" in workspace.run("cache", "verify").out
    assert not (workspace.root / ".onnxbuild").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--max-size", "5 parsecs"),
        ("--max-size", "-1"),
        ("--max-size", ""),
        ("--older-than", "30"),
        ("--older-than", "d"),
    ],
)
def test_a_size_or_an_age_that_is_none_is_refused(workspace, option, text):
    ran = workspace.run("cache", "gc", f"{option}={text}", code=2)

    assert f"argument {option}: {text!r} is not " in ran.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2m", 120), ("12h", 43200), ("30d", 30 * DAY), ("1w", 7 * DAY)]
)
def test_ages(text, seconds):
    from onnxbuild.commands import cache

    assert cache._age(text) == seconds * 10**9


# During a build. The barrier is the process itself: it stops at a named point, and goes on when it is told to.


@pytest.fixture
def stops():
    """`stopped_at`, and no process that outlives a test that failed."""
    started: list[subprocess.Popen[str]] = []

    def at(workspace: Workspace, point: str, *arguments: str) -> tuple[subprocess.Popen[str], psutil.Process]:
        process, stopped = stopped_at(workspace, point, *arguments)
        started.append(process)
        return process, stopped

    yield at
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def stopped_at(workspace: Workspace, point: str, *arguments: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A command of which one process has stopped there, and that process."""
    command, env = workspace.command(*arguments)
    process = subprocess.Popen(
        command, cwd=workspace.root, env={**env, "ONNXBUILD_FAILPOINT": f"stop {point}"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None:
        if waiting := stopped_now(process):
            return process, waiting[0]
        time.sleep(0.005)
    pytest.fail(f"{point} was not reached: {process.communicate()}")


def stopped_now(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        own = psutil.Process(process.pid)
        return [one for one in [own, *own.children(recursive=True)] if one.status() == psutil.STATUS_STOPPED]
    except psutil.NoSuchProcess:  # one of them ended just now
        return []


def finish(process: subprocess.Popen[str], stopped: psutil.Process) -> str:
    """Let it go on to its end, and every other one of its processes that comes to the same point."""
    stopped.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for other in stopped_now(process):
            other.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    out, err = process.communicate(timeout=1)
    assert process.returncode == 0, out + err
    return out + err


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGSTOP")
class TestDuringABuild:
    @pytest.mark.parametrize(
        "point",
        [
            "write.renamed@*/objects/??/*",  # a child has written an object that no trace knows of yet
            "write.synced@*/objects/*.onnx",  # and one that has no name yet
            "write.begun@*/traces/*:1",  # the first stage ended, its trace is not there yet
            "write.begun@*/traces/*:5",
            "move.done@*/model.onnx",  # published, the store does not know it
            "write.begun@*/latest/*",  # all done but for what the collector goes by afterwards
        ],
    )
    def test_nothing_that_a_running_build_made_is_removed(self, project, stops, point):
        (project.root / "m.onnx").write_bytes(model(3))
        process, stopped = stops(project, point, "run", "small.yaml")
        made_older(store_files(project.root, "traces"), 0)
        gc = project.run("cache", "gc", "--max-size", "0")
        said = finish(process, stopped)

        assert "kept what a running command uses: `onnxbuild run small.yaml` (process " in gc.err
        assert "warning" not in said
        assert unsound(project.root) == []
        assert project.run("run", "small.yaml").out.startswith("small: up to date")

    def test_nothing_that_a_running_build_found_is_removed(self, project, stops):
        """Version 1 is in the store, and only the running build's look-ups keep it there."""
        (project.root / "m.onnx").write_bytes(model(1))
        made_older(store_files(project.root, "traces"), DAY / 2)  # used lately enough not to be renewed by a hit
        process, stopped = stops(project, "write.begun@*.result", "run", "small.yaml")  # publishing what it found
        told = json.loads(project.run("cache", "gc", "--max-size", "0", "--json").out)
        said = finish(process, stopped)

        assert told["removed"]["traces"] == 0 and len(told["running"]) == 1
        assert project.built("small") == {"package"} and "warning" not in said
        assert unsound(project.root) == []

    def test_an_old_object_that_a_running_stage_relies_on_is_kept(self, project, stops):
        """No trace needs it, and it was written days ago; a child just found that it need not be written again."""
        for path in store_files(project.root, "traces"):
            path.unlink()
        made_older(store_files(project.root, "objects"), 3 * DAY)
        process, stopped = stops(project, "write.begun@*.result", "run", "-j", "1", "small.yaml")
        project.run("cache", "gc")
        said = finish(process, stopped)

        assert "warning" not in said and unsound(project.root) == []
        assert project.run("run", "small.yaml").out.startswith("small: up to date")

    def test_what_a_running_build_does_not_need_is_removed(self, project, stops):
        (project.root / "m.onnx").write_bytes(model(3))
        made_older(store_files(project.root, "objects"), 3 * DAY)
        process, stopped = stops(project, "write.begun@*/traces/*:3", "run", "small.yaml")
        told = json.loads(project.run("cache", "gc", "--max-size", "0", "--json").out)
        finish(process, stopped)

        assert told["removed"]["traces"] == 8 and told["removed"]["objects"] == 4, "version 1"
        assert unsound(project.root) == []

    def test_a_build_waits_for_the_collector_and_says_for_whom(self, project, stops):
        gc, stopped = stops(project, "remove.done", "cache", "gc", "--max-size", "0")
        command, env = project.command("run", "small.yaml")
        build = subprocess.Popen(command, cwd=project.root, env=env, stderr=subprocess.PIPE, text=True)
        assert build.stderr is not None
        said = build.stderr.readline()

        assert (
            said.strip()
            == f"warning: waiting for `onnxbuild cache gc --max-size 0` (process {gc.pid} on {os.uname().nodename}) to end"
        )
        with pytest.raises(subprocess.TimeoutExpired):  # there is nothing to build: it would have ended long before
            build.wait(1)
        finish(gc, stopped)
        build.communicate(timeout=60)
        assert build.returncode == 0 and unsound(project.root) == []

    def test_a_dead_build_holds_nothing(self, project, stops):
        (project.root / "m.onnx").write_bytes(model(3))
        process, _ = stops(project, "write.begun@*/traces/*:3", "run", "small.yaml")
        process.kill()
        process.communicate()
        told = json.loads(project.run("cache", "gc", "--max-size", "0", "--json").out)

        assert told["running"] == [] and told["removed"]["traces"] == 10, "version 1, and the two stages that ended"
        assert list((project.root / ".onnxbuild/leases").iterdir()) == []


def test_recipes_of_one_store_share_what_they_need(workspace):
    small(workspace)
    workspace.write("other.yaml", recipe("other"))
    workspace.run("run", "small.yaml", "other.yaml")
    told = json.loads(workspace.run("cache", "du", "--json").out)

    assert told["traces"]["count"] == len(STAGES) + 1, "each has a package of its own, which names it"
    assert abs(told["recipes"]["small"] - told["recipes"]["other"]) < 64  # the digits of what its packaging took
