"""What a lock says of the data that a build looks at beside its weights: of calibration, of a metric, of the comparison."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import small
import yaml
from workspace import Workspace

METRIC = """\
def top1(outputs, data):
    return (outputs["y"].argmax(1) == data["label"]).mean()
"""
MORE = """\
metric: {function: "metrics:top1", data: {npz_folder: {path: samples/}}, max_drop: 0.5}
"""
CALIBRATED = "{quantize_static: {data: {npz: {path: calibration.npz}}}, parity: {atol: 3, reason: int8}}"
SAMPLES = ("samples/1.npz", "samples/2.npz")


def save(workspace: Workspace, name: str, seed: int, **others: np.ndarray) -> None:
    path = workspace.root / name
    path.parent.mkdir(exist_ok=True)
    np.savez(path, x=np.random.default_rng(seed).normal(size=(2, 16)).astype(np.float32), **others)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A recipe that names an .npz file for calibration, one for the comparison, and a folder of them for its metric."""
    workspace = small.small(Workspace.make(tmp_path_factory.mktemp("data") / "project"), external=False)
    workspace.write("metrics.py", METRIC)
    save(workspace, "calibration.npz", 1)
    save(workspace, "x.npz", 2)
    for seed, name in enumerate(SAMPLES):
        save(workspace, name, seed, label=np.array([1, 2]))
    text = small.recipe(optimize=CALIBRATED, external=False)
    text = text.replace("shape: [2, 16]}", "shape: [2, 16], data: {npz: {path: x.npz}}}")
    text = text.replace("dims:\n    N: {min: 1, max: 3}", "dims:\n    N: {min: 1, max: 2}")
    workspace.write("small.yaml", text + MORE)
    workspace.run("lock", "small.yaml")
    return workspace


def digest(workspace: Workspace, name: str) -> str:
    return hashlib.sha256((workspace.root / name).read_bytes()).hexdigest()


def provenance(workspace: Workspace) -> list[dict]:
    statement = json.loads(workspace.read("build/small/provenance.json"))
    return statement["predicate"]["buildDefinition"]["resolvedDependencies"]


def test_it_has_every_file_that_the_recipe_names_and_a_folder_of_data_as_one(built):
    sources = yaml.safe_load(built.read("small.lock.yaml"))["sources"]
    listing = "".join(f"{digest(built, name)}  {name.removeprefix('samples/')}\n" for name in SAMPLES)

    assert list(sources) == ["calibration.npz", "m.onnx", "samples/", "x.npz"]
    assert sources["calibration.npz"]["sha256"] == digest(built, "calibration.npz")
    assert sources["samples/"] == {
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),  # as sha256sum tells them
        "bytes": sum((built.root / name).stat().st_size for name in SAMPLES),
    }
    vouched = {one["name"]: one.get("digest") for one in provenance(built)}
    assert vouched["samples/"] == {"dirHash": sources["samples/"]["sha256"]}
    assert vouched["metrics.py"] == {"sha256": digest(built, "metrics.py")}, "code, and so in no lock"
    assert built.run("lock", "--check", "small.yaml").out == "small.lock.yaml: up to date\n"


def test_other_data_is_told_without_building_and_by_a_build(edited):
    save(edited, "calibration.npz", 7)
    save(edited, "samples/3.npz", 3, label=np.array([1, 2]))
    edited.write("samples/notes.txt", "no sample\n")
    said = edited.run("lock", "--check", "small.yaml", code=1).out

    assert "    input calibration.npz: other content\n    input samples/: other content\n    lock it again" in said
    ran = edited.run("run", "--locked", "small.yaml", code=1)
    assert "\n      input calibration.npz: other content\n" in ran.err and "\n      input samples/: " in ran.err
    for name in (*SAMPLES, "samples/3.npz"):
        (edited.root / name).unlink()
    assert "    input samples/: gone\n" in edited.run("lock", "--check", "small.yaml", code=1).out


def test_a_metric_that_got_better_is_told_as_such(edited):
    text = edited.read("small.lock.yaml")
    edited.replace("small.lock.yaml", "    metric:\n      onnx: 0.0\n", "    metric:\n      onnx: -1.0\n")
    said = edited.run("lock", "small.yaml").out

    assert edited.read("small.lock.yaml") == text
    assert said.endswith("\nsmall.lock.yaml: written\n    metric onnx: -1 -> 0\n")
