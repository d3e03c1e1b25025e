"""Several commands on one store: each stage runs once, nobody waits in silence, and locks that fail break nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import several

from onnxbuild.store import ownership
from onnxbuild.system import locks

# What a holder does that is another process: takes the lock that it is told, says so, waits.
HOLD = """\
import sys, time
from pathlib import Path
from onnxbuild.system import locks
held = locks.take(Path(sys.argv[1]))
assert held.real
print("held", flush=True)
time.sleep(600)
"""
# A file system that has no locks, for a whole command.
NO_FLOCK = """\
import errno, fcntl
def flock(file, how):
    raise OSError(errno.ENOLCK, "no locks available")
fcntl.flock = flock
"""
# A system that has no such module, as Windows.
NO_FCNTL = "import sys\nsys.modules['fcntl'] = None\n"


def start(workspace, *arguments) -> subprocess.Popen[str]:
    command, environment = workspace.command(*arguments)
    return subprocess.Popen(
        command, cwd=workspace.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def line_with(text: str, command, stream) -> str:
    """The first line that a command prints with this text."""
    watchdog = threading.Timer(60, command.kill)
    watchdog.start()
    try:
        for line in stream:
            if text in line:
                return line
        pytest.fail(f"it never said {text!r}")
    finally:
        watchdog.cancel()


def finish(processes) -> list[dict]:
    """The reports that the commands print."""
    reports = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        reports += [json.loads(line) for line in out.splitlines()]
    return reports


def built(reports) -> Counter:
    """How often each stage really ran, by key."""
    return Counter((s["name"], s["key"]) for r in reports for s in r["stages"] if s["status"] == "built")


def patched(workspace, *patches: str) -> None:
    """Make this project's commands, and their children, run some Python first."""
    workspace.write("patched/sitecustomize.py", "".join(patches))
    workspace.env["PYTHONPATH"] = os.pathsep.join([str(workspace.root / "patched"), os.environ.get("PYTHONPATH", "")])


def in_turn(before: str, awaited, after: str, done, seconds: float) -> str:
    """The code that lets a file named `before` take its name when `awaited` is there, and tells of `after` by `done`."""
    return f"""\
import os, pathlib, time
def there(path, stat=os.stat):  # as it is before anybody listens to what a stage looks at
    try:
        return bool(stat(path))
    except FileNotFoundError:
        return False
def replace(path, dest, now=os.replace):
    until = time.monotonic() + {seconds}
    while str(dest).endswith({before!r}) and not there({str(awaited)!r}) and time.monotonic() < until:
        time.sleep(0.01)
    now(path, dest)
    if str(dest).endswith({after!r}):
        pathlib.Path({str(done)!r}).touch()
os.replace = replace
"""


@pytest.fixture
def holder(workspace):
    """Another process that holds the lock of a path until it is killed."""
    started = []

    def hold(path) -> subprocess.Popen:
        store = workspace.root / ".onnxbuild"
        if path.is_relative_to(store):
            ownership.claim(store, ownership.standing(store, workspace.root), workspace.root)
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def key_of(workspace, recipe: str, stage: str) -> str:
    """The key that a stage will have."""
    from pathlib import Path

    from onnxbuild import recipe as recipes
    from onnxbuild.plan import planner
    from onnxbuild.queries.lookup import Lookup
    from onnxbuild.store import store
    from onnxbuild.store.digests import Digests

    loaded = recipes.load(Path(workspace.root / recipe))
    nowhere = store.LocalStore(workspace.root / "nowhere", lambda text: None, look=True)
    lookup = Lookup(nowhere, Digests(workspace.root / "nowhere.json"), workspace.root, {})
    one = next(one for one in planner.plan(loaded.recipe, loaded.root).stages if one.name == stage)
    return lookup.find(one, {}, {role: workspace.root / path for role, path in one.files.items()}).key


def test_eight_commands_build_a_recipe_and_each_stage_runs_once(workspace):
    several.add(workspace, "a", several.PASSES, several.BENCHMARK)
    reports = finish([start(workspace, "run", "--json", "-j2", "a.yaml") for _ in range(8)])

    ran = built(reports)
    assert len({name for name, _ in ran}) == 9 and set(ran.values()) == {1}
    assert len(reports) == 8 and all(report["status"] == "done" for report in reports)
    model = (workspace.root / "build/a/model.onnx").read_bytes()
    assert {report["artifacts"][0]["sha256"] for report in reports} == {hashlib.sha256(model).hexdigest()}
    assert sorted(os.listdir(workspace.root / "build/a")) == [
        "bom.cdx.json", "manifest.json", "model.onnx", "provenance.json", "report.html", "report.json", "report.md",
    ]  # fmt: skip
    assert os.listdir(workspace.root / ".onnxbuild/locks") == []
    assert os.listdir(workspace.root / ".onnxbuild/tmp") == []


def test_overlapping_recipes_share_a_store(workspace):
    """Three recipes of one model, two of which differ in nothing but their name."""
    several.add(workspace, "a", several.PASSES)
    for name in ("b", "c"):
        workspace.write(f"{name}.yaml", workspace.read("a.yaml").replace("name: a", f"name: {name}"))
    workspace.write("c.yaml", workspace.read("c.yaml").replace(several.PASSES, ""))
    sets = [("a.yaml", "b.yaml"), ("b.yaml", "c.yaml"), ("c.yaml", "a.yaml"), ("a.yaml", "b.yaml", "c.yaml")]
    reports = finish([start(workspace, "run", "--json", "-j2", *names) for names in sets])

    ran = built(reports)
    assert {name for (name, _), times in ran.items() if times > 1} <= {"package"}, "one a folder, all else once"
    assert all(report["status"] == "done" for report in reports)


def test_who_waits_says_for_whom_and_goes_on_with_everything_else(workspace, holder):
    several.add(workspace, "a")
    several.add(workspace, "b", first=2)
    other = holder(workspace.root / ".onnxbuild/locks" / key_of(workspace, "a.yaml", "export"))
    command = start(workspace, "run", "a.yaml", "b.yaml", "-j1")
    said = line_with("waits for", command, command.stdout)
    deadline = time.monotonic() + 30

    assert said.startswith(f"  a export waits for process {other.pid}, at it for ")
    while not (workspace.root / "build/b/report.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (workspace.root / "build/b/model.onnx").exists(), "the other recipe does not wait"
    assert command.poll() is None

    other.send_signal(signal.SIGKILL)
    out, err = command.communicate(timeout=30)
    assert command.returncode == 0, out + err
    assert set(workspace.statuses("a").values()) == {"built"}, "a killed holder stops nobody"


def test_who_waited_takes_what_the_other_one_built(workspace, holder):
    """The look-up is done again once the lock is free."""
    several.add(workspace, "a")
    other = holder(workspace.root / ".onnxbuild/locks" / key_of(workspace, "a.yaml", "export"))
    command = start(workspace, "run", "--json", "a.yaml")
    line_with("waits for", command, command.stderr)
    patched(workspace, NO_FLOCK)  # as if it came from elsewhere: this command sees no lock
    finish([start(workspace, "run", "--json", "a.yaml")])
    other.kill()

    (report,) = finish([command])
    assert {stage["name"]: stage["status"] for stage in report["stages"]}["export"] == "cached"


def test_interrupted_while_it_waits(workspace, holder):
    several.add(workspace, "a")
    holder(workspace.root / ".onnxbuild/locks" / key_of(workspace, "a.yaml", "export"))
    command = start(workspace, "run", "a.yaml", "-j1")
    line_with("waits for", command, command.stdout)
    command.send_signal(signal.SIGINT)

    command.communicate(timeout=10)
    assert command.returncode == 130


@pytest.mark.parametrize("patch", [NO_FLOCK, NO_FCNTL])
def test_without_locks_work_is_done_twice_and_nothing_else(workspace, patch):
    several.add(workspace, "a", several.PASSES)
    patched(workspace, patch)
    reports = finish([start(workspace, "run", "--json", "-j2", "a.yaml") for _ in range(4)])

    assert set(built(reports).values()) <= {1, 2, 3, 4}
    assert all(report["status"] == "done" for report in reports)
    assert not list((workspace.root / ".onnxbuild").glob("leases/*")), "a lease that nobody can lock says nothing"
    workspace.run("cache", "du")
    workspace.env.clear()
    workspace.run("run", "a.yaml")
    assert set(workspace.statuses("a").values()) == {"cached"}


def published(folder) -> tuple[str, str, str]:
    """Digests of the model and its weights, and what the report says of both."""
    model, data = (
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "model.onnx.data")
    )
    said = {made["path"]: made["sha256"] for made in json.loads((folder / "report.json").read_text())["artifacts"]}
    return model, data, f"{said['model.onnx']} {said['model.onnx.data']}"


@pytest.mark.parametrize("flock", [True, False])
def test_two_commands_that_publish_into_one_folder_never_mix_their_files(workspace, flock):
    """Two recipes of one name, in two projects: the second one comes between the first one's weights and its model."""
    from workspace import Workspace

    out, one, two = (workspace.root / name for name in ("out", "first", "second"))
    data, model = "/a/model.onnx.data", "/a/model.onnx"
    seconds = 2 if flock else 60  # with locks, nobody comes between
    orders = (in_turn(model, two, data, one, seconds), in_turn(data, one, model, two, seconds))
    projects, alone = [], set()
    for seed, order in enumerate(orders):
        project = Workspace.make(workspace.root / f"project{seed}")
        several.weighty(project, "a", rows=64, seed=seed)
        project.run("run", "a.yaml", "--out", str(out))
        alone.add(published(out / "a"))
        patched(project, order, "" if flock else NO_FLOCK)
        projects.append(project)

    (out / "a/model.onnx").unlink()
    running = [start(project, "run", "-q", "a.yaml", "--out", str(out)) for project in projects]
    said = [process.communicate(timeout=90)[1] for process in running]
    codes = [process.returncode for process in running]
    if flock:
        assert codes == [0, 0] and published(out / "a") in alone
    else:
        assert codes[0] == 1 and "another process published there at the same time" in said[0]
        assert not (out / "a/model.onnx").exists(), "no model with another one's weights"


def test_a_lock_is_free_again_when_it_is_released_and_leaves_no_file(tmp_path):
    path = tmp_path / "locks" / "a"
    first = locks.take(path)
    second = locks.take(path)

    assert isinstance(first, locks.Lock) and first.real
    assert isinstance(second, locks.Holder) and second.pid == os.getpid() and time.time() - second.since < 5
    first.release()
    assert not path.exists()
    third = locks.take(path)
    assert isinstance(third, locks.Lock) and third.real
    third.release()


def test_a_lock_that_was_removed_with_its_folder_and_taken_by_another_stays_the_others(tmp_path):
    """As between a command that clears away what looks like a dead one's scratch folder, and the one that just made it."""
    path = tmp_path / "run-b/.lock"
    clearing = locks.take(path)
    shutil.rmtree(path.parent)
    own = locks.take(path)
    clearing.release()

    assert isinstance(own, locks.Lock) and own.real
    assert isinstance(locks.take(path), locks.Holder)
    own.release()
    assert not path.exists()


def test_a_lock_file_that_says_nonsense_is_a_lock_all_the_same(tmp_path, holder):
    path = tmp_path / "a"
    holder(path)
    path.write_bytes(b"\xff{")

    assert str(locks.take(path)) == "another process"


def test_a_place_where_nothing_can_be_written_gives_every_lock(tmp_path):
    (tmp_path / "file").touch()
    held = locks.take(tmp_path / "file" / "a")

    assert isinstance(held, locks.Lock) and not held.real
    held.release()


def test_of_many_that_take_and_release_one_lock_only_one_has_it_at_a_time(tmp_path):
    """The file is removed on release: nobody may be left with the lock of a removed file while another has the new one."""
    code = (
        "import os, sys; from pathlib import Path; from onnxbuild.system import locks\n"
        "path, mine = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "done = 0\n"
        "while done < 200:\n"
        "    held = locks.take(path)\n"
        "    if isinstance(held, locks.Lock):\n"
        "        os.close(os.open(mine, os.O_CREAT | os.O_EXCL))\n"
        "        os.unlink(mine)\n"
        "        held.release()\n"
        "        done += 1\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "lock"), str(tmp_path / "inside")]
    processes = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
