"""What is told of a keras recipe and its file before anything runs: by `onnxbuild check`, without Keras."""

from __future__ import annotations

import json
import zipfile

import pytest

RECIPE = """\
version: 1
name: m
model: {{keras: {section}}}
export:
  inputs: {{x: {{dtype: float32, shape: [2, 4]}}}}
  outputs: [y]
"""
DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "dense"}, "registered_name": None}
GAIN = {"module": None, "class_name": "Gain", "config": {"name": "gain"}, "registered_name": "shop>Gain"}
CODE = {"class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None, "closure": None}}
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"name": "twice", "function": CODE},
    "registered_name": None,
}


def archive(path, *layers, version="3.15.1", **more):
    described = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [*layers]}, **more}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
        file.writestr("config.json", json.dumps(described))
    return path


@pytest.fixture
def check(workspace):
    def check(section, code=2):
        workspace.write("m.yaml", RECIPE.format(section=section))
        return workspace.run("check", "m.yaml", code=code)

    return check


def test_a_keras_file_and_what_it_was_trained_with(check, workspace):
    """The optimizer is not loaded, so its classes need not be known."""
    archive(workspace.root / "m.keras", DENSE, compile_config={"optimizer": GAIN, "loss": CODE})
    check("{path: m.keras}", code=0)
    check("{path: m.keras, backend: tensorflow}", code=0)


@pytest.mark.parametrize(
    ("section", "fact", "hint"),
    [
        (
            "{}",
            "keras: it names neither a file nor a factory",
            "say path: for a .keras file, or factory: for a function",
        ),
        ("{path: m.keras, factory: 'nets:net'}", "it names both a file and a factory", "say path:"),
        ("{path: m.keras, kwargs: {a: 1}}", "'kwargs' belongs to 'factory', which is not there", "remove it"),
        ("{path: m.keras, seed: 0}", "'seed' belongs to 'factory'", "remove it"),
        ("{factory: 'nets:net', custom_objects: ['nets:net']}", "'custom_objects' belongs to 'path'", "remove it"),
        ("{path: m.keras, backend: jax}", "backend: ", "expected one of tensorflow, torch"),
        ("{path: m.keras, custom_objects: [nets:nett]}", "'nets:nett' cannot be imported", "did you mean 'net'?"),
        (
            "{path: m.keras, package: nothing_like_it}",
            "no package 'nothing_like_it' is installed",
            "install what ships",
        ),
        ("{path: mm.keras}", "no file 'mm.keras'", "did you mean 'm.keras'?"),
        ("{path: ../m.keras}", "'../m.keras' leaves the project root", ""),
        (f"{{path: m.keras, sha256: '{'0' * 64}'}}", "m.keras has the SHA-256 ", "it is another file, or was damaged"),
    ],
)
def test_options_that_do_not_go_together(check, workspace, section, fact, hint):
    archive(workspace.root / "m.keras", DENSE)
    workspace.write("nets.py", "def net(): ...\n")
    err = check(section).err
    assert fact in err
    assert hint in err


def hdf5(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))


def saved_model(path):
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"")


def unpacked(path):
    path.mkdir()
    (path / "config.json").write_text("{}")


def other_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"")


def cut(path):
    content = archive(path, DENSE).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def no_mapping(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", "[1]")


@pytest.mark.parametrize(
    ("make", "name", "fact", "hint"),
    [
        (
            hdf5,
            "m.h5",
            "'m.h5' is an HDF5 file, as Keras 2 wrote them",
            "load it with keras.models.load_model(path, comp",
        ),
        (
            saved_model,
            "m",
            "'m' is a SavedModel, not a .keras file",
            "a SavedModel is built by another source: model: {tensorflow: {path: …}}",
        ),
        (unpacked, "m", "'m' is an unpacked .keras file", "save it with model.save('model.keras')"),
        (
            other_zip,
            "m.keras",
            "'m.keras' is a zip archive, but not a .keras file: it has no config.json",
            "save it with model.save(",
        ),
        (cut, "m.keras", "'m.keras' is damaged: File is not a zip file", "copy or download it again"),
        (no_mapping, "m.keras", "'m.keras' is damaged: config.json is no mapping", "copy or download it again"),
        (
            lambda path: path.write_text("hello"),
            "m.keras",
            "'m.keras' is not a .keras file: those are zip",
            "save the mod",
        ),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
            "m.keras",
            "'m.keras' is a Git LFS pointer, not the model that it stands for",
            "git lfs pull",
        ),
        (
            lambda path: archive(path, DENSE, version="2.15.0"),
            "m.keras",
            "'m.keras' was saved by Keras 2.15.0, and Keras 3 does not read those",
            "make the model anew in Keras 3 and load its weights into it, in a factory",
        ),
        (
            lambda path: archive(path, DENSE),
            "model.zip",
            "'model.zip' is a .keras file under another name, and Keras goes by the name",
            "rename it to model.zip.keras",
        ),
        (
            lambda path: archive(path, DENSE, LAMBDA, GAIN),
            "m.keras",
            "'m.keras' has Lambda layers (twice): no Python code is run that a file brings along",
            "make a layer class of it and name that in custom_objects, or return the model from a factory",
        ),
        (
            lambda path: archive(path, DENSE, GAIN),
            "m.keras",
            "'m.keras' has classes that are not Keras's own: shop>Gain",
            "name them with their modules: custom_objects: ['module:Gain']",
        ),
    ],
)
def test_a_file_that_is_something_else(check, workspace, make, name, fact, hint):
    make(workspace.root / name)
    err = check(f"{{path: {name}}}").err
    assert f"m.yaml:3:23: model.keras.path: {fact}" in err
    assert f"hint: {hint}" in err
    assert err.count("m.yaml:3") == 1


def test_a_file_that_changes_is_looked_at_again(check, workspace):
    archive(workspace.root / "m.keras", DENSE)
    check("{path: m.keras}", code=0)
    archive(workspace.root / "m.keras", LAMBDA)
    assert "has Lambda layers (twice)" in workspace.run("check", "m.yaml", code=2).err
    archive(workspace.root / "m.keras", GAIN)
    workspace.write("shop.py", "class Gain: ...\n")
    check("{path: m.keras, custom_objects: ['shop:Gain']}", code=0)


def test_what_must_be_installed(check, workspace):
    """Packages of the environment are out of sight where Python does not look into it."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    import msgspec
    import yaml

    archive(workspace.root / "m.keras", DENSE)
    workspace.write("m.yaml", RECIPE.format(section="{path: m.keras, backend: tensorflow}"))
    site = workspace.root / "site"
    site.mkdir()
    for package in (msgspec, yaml):  # what `check` itself needs
        (site / package.__name__).symlink_to(Path(package.__file__).parent)
    env = {"PYTHONPATH": os.pathsep.join([str(workspace.repository), str(site)]), "HOME": str(workspace.root)}
    command = [sys.executable, "-S", "-m", "onnxbuild", "check", "m.yaml"]
    done = subprocess.run(command, cwd=workspace.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "model: it needs keras, which is not installed\n    hint: pip install 'onnxbuild[keras]'" in done.stderr
    assert "it needs tf2onnx, which is not installed\n    hint: pip install 'onnxbuild[tensorflow]'" in done.stderr
