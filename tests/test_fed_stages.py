"""Stages that look at data (a step in the graph, a quantization, a metric): killed, damaged, and on a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mutations
import pytest
from small import unsound
from workspace import Workspace

from onnxbuild.store import checksummed
from onnxbuild.store.traces import Trace, all_traces

RECIPE = """\
version: 1
name: fed
model: {onnx: {path: c.onnx}}
export:
  opset: 19
  inputs:
    x: {dtype: float32, shape: [2, 3, 4, 4]}
  outputs: ["y"]
  dynamic_axes: {x: {0: batch}, "y": {0: batch}}
prepend:
  x: {name: z, dtype: float32, shape: [2, 3, 4, 4], dynamic_axes: {0: batch}, steps: [{scale: {factor: 0.5}}]}
optimize:
  - quantize_static: {nodes_to_quantize: [a], data: {npz: {path: data/z.npz, batch_size: 2}}}
    parity: {outputs: {"y": {sqnr: {min: 15}}}, reason: int8}
parity: {derive: false}
metric: {function: "metrics:mean", data: {npz: {path: data/z.npz}}, max_drop: 0.05}
"""
METRIC = "def mean(outputs, data):\n    return float(abs(outputs['y'] * data['z']).mean())\n"
STAGES = ("attach", "optimize/1-quantize_static", "metric/reference", "metric/1-quantize_static")


def project(root: Path, seed: int) -> Workspace:
    mutations.smaller(root)
    (root / "data/z.npz").write_bytes(mutations.pixels(seed, name="z"))
    (root / "metrics.py").write_text(METRIC)
    (root / "fed.yaml").write_text(RECIPE)
    return Workspace(root)


def bytes_of(workspace: Workspace) -> bytes:
    return (workspace.root / "build/fed/model.onnx").read_bytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, bytes]:
    """A project that was built with other data, and then with these; and what came of it."""
    workspace = project(tmp_path_factory.mktemp("fed") / "project", 1)
    workspace.run("run", "fed.yaml")
    old = bytes_of(workspace)
    (workspace.root / "data/z.npz").write_bytes(mutations.pixels(2, name="z"))
    workspace.run("run", "fed.yaml")
    assert set(STAGES) <= workspace.statuses("fed").keys()
    assert bytes_of(workspace) != old
    return workspace.root, bytes_of(workspace)


def traces(root: Path) -> dict[str, tuple[str, Path]]:
    """The traces of the last build with their keys, by stage."""
    keys = {stage["key"]: stage["name"] for stage in Workspace(root).report("fed")["stages"]}
    return {keys[key]: (key, path) for key, path in all_traces(root / ".onnxbuild") if key in keys}


@pytest.fixture
def copy(built, tmp_path) -> Workspace:
    shutil.copytree(built[0], tmp_path / "project")
    return Workspace(tmp_path / "project")


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_while_its_outcome_is_kept(copy, built, stage):
    _, path = traces(copy.root)[stage]
    path.unlink()
    command, environment = copy.command("run", "fed.yaml")
    killed = subprocess.run(
        command, cwd=copy.root, env={**environment, "ONNXBUILD_FAILPOINT": "write.synced@*/traces/*:1"},
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert [one for one in unsound(copy.root) if "missing trace" not in one] == []
    ran = copy.run("run", "fed.yaml")

    assert copy.built("fed") == {stage} and "warning" not in ran.text
    assert bytes_of(copy) == built[1] and unsound(copy.root) == []


@pytest.mark.parametrize("stage", ["optimize/1-quantize_static", "metric/1-quantize_static"])
def test_damage_is_a_miss_with_one_warning_and_repaired(copy, built, stage):
    key, path = traces(copy.root)[stage]
    outcome = checksummed.read(path, f"{key}/{path.stem}", Trace).outcome
    damaged = copy.root / ".onnxbuild/objects" / outcome.outputs["graph"] if outcome.outputs else path
    data = bytearray(damaged.read_bytes())
    data[len(data) * 2 // 3] ^= 4
    damaged.write_bytes(bytes(data))
    shutil.rmtree(copy.root / "build")
    ran = copy.run("run", "fed.yaml")

    assert stage in copy.built("fed") and ran.err.count("warning:") == 1 and str(damaged) in ran.err
    assert bytes_of(copy) == built[1] and unsound(copy.root) == []


@pytest.fixture
def full(copy, tmp_path):
    """Its store on a disk of its own, and what leaves so many bytes of room there."""
    store = tmp_path / "disk"
    store.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip("nothing can be mounted here")
    shutil.copytree(copy.root / ".onnxbuild", store, dirs_exist_ok=True)
    copy.env["ONNXBUILD_CACHE"] = str(store)

    def leave(free: int) -> Path:
        facts, filler = os.statvfs(store), store / "filler"
        filler.write_bytes(bytes(facts.f_bavail * facts.f_frsize - free))
        return filler

    yield store, leave
    subprocess.run(["umount", "--lazy", str(store)], check=False, capture_output=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_on_a_full_disk_each_fails_by_its_name_and_goes_on_when_there_is_room(copy, built, full):
    store, leave = full
    for stage in ("attach", "optimize/1-quantize_static", "metric/1-quantize_static"):
        places = traces(built[0])
        (store / places[stage][1].relative_to(built[0] / ".onnxbuild")).unlink()
        filler = leave(8 << 10)  # it begins, and can't end
        ran = copy.run("run", "fed.yaml", code=1)
        assert f"✗ {stage} failed\n  {store}: No space left on device\n    hint: free some space there" in ran.err
        filler.unlink()
        ran = copy.run("run", "fed.yaml")
        assert {stage} <= copy.built("fed") <= {stage, "package"} and "warning" not in ran.text
        assert bytes_of(copy) == built[1]
