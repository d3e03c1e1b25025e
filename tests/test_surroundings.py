"""What the surroundings do to a build: full disks, limits, read-only and vanished folders, files edited meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import psutil
import pytest
import several

from onnxbuild.discovery import modified
from onnxbuild.system.files import sha256_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, and template processes to be stopped")


# ONNXBUILD_SURROUNDINGS=1 tries many more sizes of disks, limits and moments.
ALL = bool(os.environ.get("ONNXBUILD_SURROUNDINGS"))
SIZES = [f"{kilobytes}k" for kilobytes in (range(16, 800, 32) if ALL else (16, 200, 480, 700))]
SIZES += [f"4m,nr_inodes={files}" for files in (range(4, 40) if ALL else (9, 14, 18))]
LIMITS = range(6, 65) if ALL else (6, 8, 10, 12, 14, 16, 20, 24, 64)
MOMENTS = 60 if ALL else 8


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """Makes small disks: `disk("64k")` is the folder of one; `disk.resize` and `disk.read_only` remount it."""
    mounted = []

    def make(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def remount(folder: Path, options: str) -> None:
    mount("-o", f"remount,{options}", str(folder))


def is_clear(ran, *words: str) -> None:
    """A failure names the place and the remedy, and is no bug of ours."""
    assert ran.code == 1, ran.text
    assert "Traceback" not in ran.text and "bug in onnxbuild" not in ran.text, ran.text
    assert "hint: " in ran.err, ran.text
    for word in words:
        assert word in ran.err, ran.text


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("model.onnx*")}


@pytest.fixture
def clean(workspace):
    """A recipe, and what a build without trouble publishes."""
    several.weighty(workspace, "a", rows=64, seed=1)
    workspace.run("run", "a.yaml", "--out", "elsewhere")
    good = digests(workspace.root / "elsewhere/a")
    shutil.rmtree(workspace.root / ".onnxbuild")
    return good


@pytest.mark.sample(3)
@pytest.mark.parametrize("size", SIZES)
def test_a_store_on_a_full_disk_fails_with_its_name_and_goes_on_when_there_is_room(workspace, clean, disk, size):
    """Weights of 256 kB and some thirty files, so that the disk fills at another write each time."""
    store = workspace.env["ONNXBUILD_CACHE"] = str(disk(size))
    ran = workspace.run("run", "a.yaml", code=None)

    if ran.code:
        is_clear(ran, store, "No space left on device", "free some space")
        assert not (workspace.root / "build/a/model.onnx").exists()
    remount(Path(store), "size=20m,nr_inodes=0")
    workspace.run("run", "a.yaml")
    assert digests(workspace.root / "build/a") == clean
    assert set(workspace.statuses("a").values()) <= {"built", "cached"}


def test_the_sizes_of_the_disks_above_are_small_enough(workspace, clean, disk):
    codes = []
    for size in ("16k", "480k", "4m"):
        workspace.env["ONNXBUILD_CACHE"] = str(disk(size))
        codes.append(workspace.run("run", "a.yaml", code=None).code)

    assert codes == [1, 1, 0]


@pytest.mark.parametrize("size", ["8k", "100k", "264k"])
def test_an_output_folder_on_a_full_disk_fails_with_its_name(workspace, clean, disk, size):
    out = disk(size)
    ran = workspace.run("run", "a.yaml", "--out", str(out), code=1)

    is_clear(ran, str(out), "No space left on device", "--out")
    remount(out, "size=20m")
    workspace.run("run", "a.yaml", "--out", str(out))
    assert digests(out / "a") == clean


ORT = "targets: {ort: {optimization_level: basic}}\n"


def of_target(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.glob("ort/[!.]*")}


def test_a_disk_that_is_full_in_the_middle_of_a_target(workspace, disk):
    """In the store, and in the folder where it is published: an older one there is not mixed with the new one."""
    several.weighty(workspace, "a", rows=64, seed=1)
    workspace.write("a.yaml", workspace.read("a.yaml") + ORT)
    store, out = disk("720k"), disk("740k")
    workspace.env["ONNXBUILD_CACHE"] = str(store)
    is_clear(workspace.run("run", "a.yaml", "--out", str(out), code=1), str(store), "No space left on device")
    stages = json.loads((out / "a/report.json").read_text())["stages"]
    assert [stage["name"] for stage in stages if stage["status"] == "failed"] == ["target/ort"]
    remount(store, "size=20m")
    workspace.run("run", "a.yaml", "--out", str(out))
    old = of_target(out / "a")
    assert len(old) == 2
    several.weighty(workspace, "a", rows=120, seed=2)
    workspace.write("a.yaml", workspace.read("a.yaml") + ORT)
    ran = workspace.run("run", "a.yaml", "--out", str(out), code=1)

    is_clear(ran, str(out), "No space left on device", "--out")
    assert "model.ort" not in of_target(out / "a"), "what is loaded is never there with files that aren't its own"
    assert not (out / "a/manifest.json").exists()
    remount(out, "size=20m")
    workspace.run("run", "a.yaml", "--out", str(out))
    new = of_target(out / "a")
    assert new.keys() == old.keys() and new["model.ort"] != old["model.ort"]
    assert "up to date" in workspace.run("run", "a.yaml", "--out", str(out)).out


def test_a_store_on_another_file_system_than_the_project(workspace, clean, disk):
    workspace.env["ONNXBUILD_CACHE"] = str(disk("20m"))
    workspace.run("run", "a.yaml")

    assert digests(workspace.root / "build/a") == clean
    assert "up to date" in workspace.run("run", "a.yaml").out


def test_a_read_only_store_answers_and_cannot_be_built_into(workspace, clean, disk):
    store = disk("20m")
    workspace.env["ONNXBUILD_CACHE"] = str(store)
    workspace.run("run", "a.yaml")
    remount(store, "ro")

    ran = workspace.run("run", "a.yaml")
    assert ran.text.startswith("a: up to date, ")
    shutil.rmtree(workspace.root / "build")
    is_clear(workspace.run("run", "a.yaml", code=1), str(store), "Read-only file system", "ONNXBUILD_CACHE")
    several.weighty(workspace, "a", rows=65, seed=2)
    is_clear(workspace.run("run", "a.yaml", code=1), str(store), "Read-only file system", "ONNXBUILD_CACHE")


def test_a_project_all_of_which_is_read_only(workspace, clean, disk):
    root = disk("20m")
    project = root / "project"
    shutil.copytree(workspace.root, project, ignore=shutil.ignore_patterns("elsewhere"))
    workspace.root = project
    workspace.run("run", "a.yaml")
    remount(root, "ro")

    assert "a: up to date, " in workspace.run("run", "a.yaml").out
    is_clear(workspace.run("run", "a.yaml", "--out", str(root / "new"), code=1), "Read-only file system", "--out")


def test_a_damaged_object_in_a_read_only_store_is_an_error_with_its_place(workspace, clean, disk):
    store = disk("20m")
    workspace.env["ONNXBUILD_CACHE"] = str(store)
    workspace.run("run", "a.yaml")
    for path in (store / "objects").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(bytes(path.stat().st_size))
    shutil.rmtree(workspace.root / "build")
    remount(store, "ro")
    is_clear(workspace.run("run", "a.yaml", code=1), str(store), "Read-only file system")

    remount(store, "rw")
    workspace.run("run", "a.yaml")
    assert digests(workspace.root / "build/a") == clean


def limited(workspace, files: int, *arguments: str):
    """Run a command that may have so many files open."""
    from workspace import Ran

    command, environment = workspace.command(*arguments)
    done = subprocess.run(
        command, cwd=workspace.root, env=environment, capture_output=True, text=True, timeout=120, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.heavy
def test_too_few_open_files_is_an_error_that_names_the_limit(workspace, clean):
    """From so few that the command hardly starts to enough; nothing in between may pass for a result."""
    codes = {}
    for files in LIMITS:
        ran = limited(workspace, files, "run", "a.yaml", "-j1")
        codes[files] = ran.code
        if ran.code:
            is_clear(ran, "Too many open files", f"now {files}: ulimit -n 1024")
        else:
            assert digests(workspace.root / "build/a") == clean
            shutil.rmtree(workspace.root / ".onnxbuild")
            shutil.rmtree(workspace.root / "build")

    assert codes[8] == 1 and codes[64] == 0
    workspace.run("run", "a.yaml")
    assert digests(workspace.root / "build/a") == clean


class Held:
    """A command whose stages stand still at their start, until `go`."""

    def __init__(self, workspace, *arguments: str) -> None:
        command, environment = workspace.command(*arguments)
        self.process = subprocess.Popen(
            command, cwd=workspace.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._template = self._found()
        self._template.suspend()
        deadline = time.monotonic() + 20
        while not self._is_started(workspace.root) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _found(self) -> psutil.Process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self.process.pid).children():
                    if "onnxbuild.executors.child" in child.cmdline():
                        return child
        raise AssertionError(self.process.communicate())

    @staticmethod
    def _is_started(root: Path) -> bool:
        """The parent makes a stage's scratch folder, notes the time and hands the stage over."""
        scratch = [path for path in root.glob(".onnxbuild/tmp/run-*/*") if path.is_dir()]
        time.sleep(0.2)
        return bool(scratch)

    def go(self):
        from workspace import Ran

        self._template.resume()
        out, err = self.process.communicate(timeout=60)
        return Ran(self.process.returncode, out, err)


@pytest.fixture
def held(workspace):
    started = []

    def hold(*arguments: str) -> Held:
        started.append(Held(workspace, *arguments))
        return started[-1]

    yield hold
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def put(path: Path, content: bytes, *, times: os.stat_result) -> None:
    """Write a file and put its old time of modification back."""
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", ["a.onnx", "a.bin"])  # one is declared, the other found out while the stage runs
@pytest.mark.parametrize("kept_time", [True, False])
def test_a_file_edited_while_its_stage_runs_is_an_error_that_names_it(workspace, held, name, kept_time):
    several.weighty(workspace, "a", rows=8, seed=1, external=True)
    path = workspace.root / name
    old, before = path.read_bytes(), path.stat()
    several.weighty(workspace, "b", rows=8, seed=2, external=True)
    if name == "a.bin":
        new = (workspace.root / "b.bin").read_bytes()
    else:
        model = onnx.load(path, load_external_data=False)
        model.producer_name = "another"
        new = model.SerializeToString()
    running = held("run", "a.yaml", "-j1")
    put(path, new, times=before) if kept_time else path.write_bytes(new)
    ran = running.go()

    is_clear(ran, f"{path} was changed while the stage was running", "run again")
    assert workspace.statuses("a")["reference"] == "failed"
    workspace.run("run", "a.yaml")
    assert workspace.statuses("a")["reference"] == "built", "nothing of it was kept"
    put(path, old, times=before)
    workspace.run("run", "a.yaml")
    assert workspace.statuses("a")["export"] == "built", "nor under the key of the old content"


@pytest.mark.parametrize("name", ["a.onnx", "a.bin"])
def test_a_file_that_goes_and_comes_back_while_its_stage_runs_is_an_error_too(workspace, held, name):
    """As a checkout of another branch and back does: the same bytes in the end, and nobody knows what was read."""
    several.weighty(workspace, "a", rows=8, seed=1, external=True)
    path = workspace.root / name
    content, before = path.read_bytes(), path.stat()
    running = held("run", "a.yaml", "-j1")
    path.unlink()
    put(path, content, times=before)

    is_clear(running.go(), f"{path} was changed while the stage was running")


def test_a_declared_file_that_is_gone_when_its_stage_ran(workspace, held):
    several.weighty(workspace, "a", rows=8, seed=1)
    running = held("run", "a.yaml", "-j1")
    (workspace.root / "a.onnx").unlink()
    ran = running.go()

    assert ran.code == 1 and "a.onnx" in ran.err


def test_a_file_with_a_time_to_come_builds(workspace):
    several.weighty(workspace, "a", rows=8, seed=1, external=True)
    later = time.time() + 86_400
    for name in ("a.onnx", "a.bin", "a.yaml"):
        os.utime(workspace.root / name, (later, later))

    workspace.run("run", "a.yaml")


DECLARED = {"inputs": {"checkpoint": "same"}}
FOUND = {"file:model.py": "same", "file:labels.txt": "absent"}


def noted(root: Path, number: int) -> modified.Before:
    """What is known before a stage that is declared one file."""
    scratch = root / f"scratch{number}"
    scratch.mkdir()
    return modified.before(DECLARED, {"checkpoint": root / "weights.bin"}, scratch)


def edited(then: modified.Before, root: Path, found: dict[str, str] = FOUND) -> str | None:
    path = modified.find(then, found, {}, ["file:labels.txt"], root, lambda _: "same")
    return path and path.name


def test_what_is_written_a_moment_before_a_stage_is_no_edit_and_a_moment_after_it_is(tmp_path):
    (tmp_path / "model.py").touch()
    for name in ("weights.bin", "model.py"):
        for number in range(50):  # whatever the clock's ticks are
            (tmp_path / name).write_bytes(b"same")
            then = noted(tmp_path, number)
            assert edited(then, tmp_path) is None
            time.sleep(0.011)  # more than a tick: kernels before 6.13 tell no shorter times apart
            (tmp_path / name).write_bytes(b"same")
            assert edited(then, tmp_path) == name
            shutil.rmtree(tmp_path / f"scratch{number}")


def test_what_comes_or_goes_once_a_stage_has_ended_is_an_edit(tmp_path):
    (tmp_path / "weights.bin").touch()
    then = noted(tmp_path, 0)
    assert edited(then, tmp_path, FOUND | {"file:model.py": "absent"}) == "model.py"
    assert edited(then, tmp_path, {"file:labels.txt": "there"}) == "labels.txt"


def test_a_clock_that_was_set_back_is_no_edit(tmp_path, monkeypatch):
    (tmp_path / "weights.bin").touch()
    then = noted(tmp_path, 0)
    time.sleep(0.011)
    (tmp_path / "model.py").touch()
    assert edited(then, tmp_path) == "model.py"
    monkeypatch.setattr(modified.time, "time_ns", lambda: then.started_ns - 3_600_000_000_000)
    assert edited(then, tmp_path) is None


@pytest.mark.parametrize("gone", [".onnxbuild", ".onnxbuild/tmp", ".onnxbuild/objects"])
def test_a_folder_that_vanishes_while_a_stage_runs(workspace, clean, held, gone):
    running = held("run", "a.yaml", "-j1")
    shutil.rmtree(workspace.root / gone, ignore_errors=True)
    ran = running.go()

    if ran.code:
        is_clear(ran, str(workspace.root / ".onnxbuild"), "run again")
    workspace.run("run", "a.yaml")
    assert digests(workspace.root / "build/a") == clean


def children(process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT, signal.SIGINT)])
def test_impatience_leaves_no_child_either(workspace, held, signals):
    """A second Ctrl-C comes while the children are being ended."""
    several.weighty(workspace, "a", rows=8, seed=1)
    running = held("run", "a.yaml", "-j1")
    left = children(running.process)
    for how in signals:
        running.process.send_signal(how)
        time.sleep(0.005)
    out, err = running.process.communicate(timeout=10)

    assert running.process.returncode == 130 and "Traceback" not in out + err
    _, alive = psutil.wait_procs(left, timeout=5)
    assert left and alive == []


@pytest.mark.sample(2)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_ended_at_any_time_no_child_stays(workspace, how):
    """From before the first child is started to after the last one."""
    several.weighty(workspace, "a", rows=8, seed=1)
    left: list[psutil.Process] = []
    for moment in range(MOMENTS):
        command, environment = workspace.command("run", "a.yaml", "-j2")
        with subprocess.Popen(
            command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            time.sleep(0.05 + 0.8 * moment / MOMENTS)
            with contextlib.suppress(psutil.Error):
                left += children(process)
            process.send_signal(how)
            text = process.communicate(timeout=10)[0]
            if "Traceback" in text and "in main" not in text:
                continue  # Python was still loading us
            assert process.returncode in (0, 130, -how) and "Traceback" not in text, text
        shutil.rmtree(workspace.root / ".onnxbuild", ignore_errors=True)

    _, alive = psutil.wait_procs(left, timeout=5)
    assert left and alive == []
