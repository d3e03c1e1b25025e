"""What a model's code depends on, through the front door: what the mutation matrix has no row for."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from workspace import Workspace

NET = """\
import os, sys, time
import torch
{code}

class Net(torch.nn.Module):
    def forward(self, x):
        return x * SCALE

def net():
    return Net()
"""
RECIPE = """\
version: 1
name: net
model: {pytorch: {factory: "models.net:net", seed: 0}}
export:
  exporter: torchscript
  opset: 17
  inputs: {x: {dtype: float32, shape: [2, 4]}}
  outputs: [y]
"""


def net(workspace: Workspace, code: str) -> Workspace:
    workspace.write("models/net.py", NET.format(code=code))
    workspace.write("net.yaml", RECIPE)
    return workspace


@pytest.mark.sample(2)
@pytest.mark.parametrize("store", ["project/build"])
def test_a_store_around_the_project_hides_nothing_of_it(workspace, tmp_path_factory, store):
    net(workspace, "from models.scale import SCALE")
    workspace.write("models/scale.py", "SCALE = 2.0")
    workspace.env["ONNXBUILD_CACHE"] = os.path.normpath(workspace.root.parent / store)
    run = ("run", "net.yaml", "--out", str(tmp_path_factory.mktemp("out")))
    workspace.run(*run)
    assert "up to date" in workspace.run(*run).out
    workspace.write("models/scale.py", "SCALE = 3.0")

    assert "models/scale.py changed" in workspace.run(*run).out


READS_AND_WAITS = """\
SCALE = float(open("current/scale.txt").read())
open(os.path.join({outside!r}, "read"), "w").close()
import posix  # its functions are looked at by nobody
def there(path):
    try: return bool(posix.stat(path))
    except OSError: return False
while not there(os.path.join({outside!r}, "go")):
    time.sleep(0.01)
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize("how", ["link", "folder"])
def test_another_file_in_the_place_of_one_that_was_read_is_an_edit(workspace, tmp_path, how):
    """As old as it likes: `ln -sfn` and `mv` leave the times of the files as they are."""
    net(workspace, READS_AND_WAITS.format(outside=str(tmp_path)))
    for number in (1, 2):
        workspace.write(f"v{number}/scale.txt", f"{number}.0")
    current = workspace.root / "current"
    current.symlink_to("v1") if how == "link" else os.rename(workspace.root / "v1", current)
    command, environment = workspace.command("run", "net.yaml", "-j1")
    with subprocess.Popen(
        command, cwd=workspace.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "read").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if how == "link":
            current.unlink()
            current.symlink_to("v2")
        else:
            os.rename(current, workspace.root / "old")
            os.rename(workspace.root / "v2", current)
        (tmp_path / "go").touch()
        err = process.communicate(timeout=60)[1]

    assert process.returncode == 1 and f"{current / 'scale.txt'} was changed while the stage was running" in err
    failed = {name for name, status in workspace.statuses("net").items() if status == "failed"}
    workspace.run("run", "net.yaml")
    assert failed and failed <= workspace.built("net"), "nothing of it was kept"


def test_a_file_whose_name_is_not_text_is_an_error_that_says_so(workspace):
    net(workspace, "SCALE = float(open(os.fsdecode(b'sc\\xff.txt')).read())")
    (workspace.root / os.fsdecode(b"sc\xff.txt")).write_text("2.0")
    ran = workspace.run("run", "net.yaml", code=1)

    assert "'file:sc\\udcff.txt' was read, and its name is not text" in ran.err
    assert "hint: rename it: what a result depends on is written down by name" in ran.err


def test_a_module_that_answers_no_question_is_passed_over(workspace):
    code = (
        "class Odd:\n    def __getattr__(self, name): raise RuntimeError(name)\nsys.modules['odd'] = Odd()\nSCALE = 2.0"
    )
    net(workspace, code).run("run", "net.yaml")


CACHE = """\
if not os.path.exists("cache.txt"):
    with open("cache.txt", "w") as file:
        file.write("2.0")
        file.flush()
        time.sleep(1.0)
SCALE = float(open("cache.txt").read())
"""


def test_a_cache_that_the_code_makes_itself_is_no_edit_by_anybody(workspace):
    """The export and the reference run at the same time: one writes it while the other reads it."""
    net(workspace, CACHE)
    workspace.run("run", "net.yaml", "-j2")
    workspace.run("run", "net.yaml", "-j2")
    ran = workspace.run("run", "net.yaml", "-j2")

    assert "up to date" in ran.out


def test_code_that_leaves_its_folder_and_removes_it(workspace):
    net(workspace, "import tempfile\nfolder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)\nSCALE = 2.0")
    workspace.run("run", "net.yaml")
    assert "up to date" in workspace.run("run", "net.yaml").out


SPAWNS = """\
import subprocess, multiprocessing
{start}
SCALE = 2.0
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("subprocess.run([sys.executable, '-c', 'pass'], check=True)", "-c pass"),
        ("""if __name__ == "models.net":
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start(); process.join()""", "spawn_main"),
    ],
    ids=["a program in Python", "multiprocessing"],
)  # fmt: skip
def test_a_stage_that_starts_what_nobody_hears_keeps_nothing_and_says_why(workspace, start, said):
    net(workspace, SPAWNS.format(start=start))
    workspace.run("run", "net.yaml")
    notes = [note for stage in workspace.report("net")["stages"] for note in stage.get("warnings", [])]
    told = [note for note in notes if "nobody saw what that read" in note]

    assert told and said in str(told) and "this result is not kept" in str(told)
    workspace.run("run", "net.yaml")
    assert {"export", "reference"} <= workspace.built("net")


COMPILED = """\
class Inner(torch.nn.Module):
    def forward(self, x):
        return torch.sin(x) * 2.0
INNER = torch.compile(Inner())
SCALE = 2.0
"""


@pytest.mark.heavy
def test_a_compiled_model_builds_at_once_and_is_up_to_date(workspace):
    """What torch's compiler writes and loads again lies in a folder of the stage's own."""
    net(workspace, COMPILED)
    workspace.replace("models/net.py", "return x * SCALE", "return INNER(x)")
    workspace.replace("net.yaml", "exporter: torchscript\n  opset: 17", "exporter: dynamo\n  opset: 18")
    workspace.run("run", "net.yaml", timeout=500)

    assert "up to date" in workspace.run("run", "net.yaml").out
