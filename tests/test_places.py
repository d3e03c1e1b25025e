"""Stores and output folders of one command: whose memory of digests is trusted."""

from __future__ import annotations

import os
import shutil
import time

import pytest
import several

from onnxbuild import sealed
from onnxbuild.digests import Memory
from onnxbuild.objects import sha256_file


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
    sealed.write(memory, memory.name, {str(outside): (facts, pin)})
    assert str(outside) in sealed.read(memory, memory.name, Memory)

    assert "a.onnx has the SHA-256" in workspace.run(command, "a.yaml", code=2).err


def test_a_file_outside_the_project_is_remembered_by_the_project(workspace, outside):
    workspace.run("run", "a.yaml")
    memory = workspace.root / ".onnxbuild/digests.json"

    assert str(outside) in sealed.read(memory, memory.name, Memory)
    assert os.listdir(outside.parent) == ["a.onnx"]
