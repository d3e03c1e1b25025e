"""Stores and output folders of one command: whose memory of digests is trusted."""

from __future__ import annotations

import os
import shutil
import time

import pytest
import several

from onnxbuild.store import checksummed
from onnxbuild.store.digests import Memory
from onnxbuild.system.files import sha256_file


@pytest.fixture
def outside(workspace, tmp_path):
    """A recipe with a pinned model of more than 64 KiB that lies in nobody's project, and is not as new as to be doubted."""
    several.weighty(workspace, "a", rows=32, seed=1)
    path = tmp_path / "data/a.onnx"
    path.parent.mkdir()
    shutil.move(workspace.root / "a.onnx", path)
    workspace.replace("a.yaml", "{path: a.onnx}", f"{{path: {path}, sha256: {sha256_file(path)}}}")
    time.sleep(2.1)
    return path


@pytest.mark.parametrize("command", ["run", "plan", "explain", "graph", "verify"])
def test_a_pin_can_not_be_forged_by_what_lies_beside_the_file(workspace, outside, command):
    pin = sha256_file(outside)
    outside.write_bytes(outside.read_bytes()[:-1] + b"?")
    stat = outside.stat()
    facts = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    memory = outside.parent / ".onnxbuild/digests.json"
    checksummed.write(memory, memory.name, {str(outside): (facts, pin)})
    assert str(outside) in checksummed.read(memory, memory.name, Memory)

    assert "a.onnx has the SHA-256" in workspace.run(command, "a.yaml", code=2).err


def test_a_file_outside_the_project_is_remembered_by_the_project(workspace, outside):
    workspace.run("run", "a.yaml")
    memory = workspace.root / ".onnxbuild/digests.json"

    assert str(outside) in checksummed.read(memory, memory.name, Memory)
    assert os.listdir(outside.parent) == ["a.onnx"]


@pytest.mark.parametrize(
    ("out", "there", "hint"),
    [
        ("file", "file", "give --out a folder"),
        ("file/below", "file", "give --out a folder"),
        ("out", "out/a", "move it away"),
        ("gone", "gone", "give --out a folder"),
        (None, "build", "move it away"),
    ],
)
def test_what_is_in_the_place_of_the_output_folder_is_told_before_anything_is_built(workspace, out, there, hint):
    several.add(workspace, "a")
    path = workspace.root / there
    path.parent.mkdir(exist_ok=True)
    if there == "gone":
        path.symlink_to("nowhere")
    else:
        path.touch()
    ran = workspace.run("run", "a.yaml", *(["--out", out] if out else []), code=2)

    what = "leads nowhere" if there == "gone" else "is not a folder"
    assert f"{there} {what}, and the results of a go to " in ran.err and f"hint: {hint}\n" in ran.err
    assert not (workspace.root / ".onnxbuild/traces").exists()


def test_a_folder_that_can_not_be_made_is_told_of_without_a_traceback(workspace):
    """It is known only once it is tried."""
    several.add(workspace, "a")
    ran = workspace.run("run", "--out", "/proc/onnxbuild", "a.yaml", code=1)

    assert "/proc/onnxbuild: No such file or directory\n    hint: give --out another folder\n" in ran.err
    assert "Traceback" not in ran.text
