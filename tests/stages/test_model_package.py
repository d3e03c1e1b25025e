"""`package: {layout: ort_model_package}`: opened by onnxruntime's own functions for it, and replaced without a trace."""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small import model
from workspace import Workspace

RECIPE = """\
version: 1
name: small
model: {onnx: {path: m.onnx}}
export: {dims: {N: {min: 1, max: 3}}}
targets: {ort: {}}
package: {layout: ort_model_package}
runtime: {providers: [CUDAExecutionProvider, CPUExecutionProvider]}
"""
# Places in onnxruntime's tables of functions: what a version has stays where it is in later ones.
MESSAGE, CREATE_ENV, CREATE_OPTIONS, PACKAGES = 2, 3, 10, 427
SETTINGS, CONTEXT, SELECT, NAME, SESSION = 0, 2, 11, 13, 15  # of OrtModelPackageApi, which OrtApi gives at PACKAGES
FOLDER = "session.model_external_initializers_file_folder_path"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    workspace = Workspace.make(tmp_path_factory.mktemp("packed") / "project")
    (workspace.root / "m.onnx").write_bytes(model(1))
    workspace.write("small.yaml", RECIPE)
    workspace.first = workspace.run("run", "small.yaml")  # type: ignore[attr-defined]  # only this module reads it
    return workspace


def package(workspace: Workspace) -> Path:
    return workspace.root / "build/small/model_package"


class Runtime:
    """onnxruntime's C functions, as far as its model package needs them."""

    def __init__(self) -> None:
        major, minor, *_ = onnxruntime.__version__.split(".")
        found = list(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
        if (int(major), int(minor)) < (1, 31) or not found:
            pytest.skip("this onnxruntime has no model package API, or no shared library to call")
        base = ctypes.CDLL(str(found[0])).OrtGetApiBase
        base.restype = ctypes.POINTER(ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32))
        self.api = ctypes.cast(base().contents(31), ctypes.POINTER(ctypes.c_void_p))
        packages = ctypes.CFUNCTYPE(ctypes.c_void_p)(self.api[PACKAGES])()
        self.packages = ctypes.cast(packages, ctypes.POINTER(ctypes.c_void_p))

    def call(self, function: int | None, *arguments: object) -> None:
        status = ctypes.CFUNCTYPE(ctypes.c_void_p)(function)(*arguments)
        if status:
            message = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self.api[MESSAGE])
            raise AssertionError((message(status) or b"").decode())


def chosen(folder: Path) -> str:
    """The variant that onnxruntime chooses for the processor, after a session was made of it."""
    runtime = Runtime()
    env, options, context, settings, component, session = (ctypes.c_void_p() for _ in range(6))
    name, ref, none = ctypes.c_char_p(), ctypes.byref, ctypes.c_void_p()
    runtime.call(runtime.api[CREATE_ENV], ctypes.c_int(4), b"test", ref(env))
    runtime.call(runtime.api[CREATE_OPTIONS], ref(options))
    runtime.call(runtime.packages[CONTEXT], str(folder).encode(), ref(context))
    runtime.call(runtime.packages[SETTINGS], env, options, ref(settings))
    runtime.call(runtime.packages[SELECT], context, b"model", settings, ref(component))
    runtime.call(runtime.packages[NAME], component, ref(name))
    runtime.call(runtime.packages[SESSION], env, component, none, ref(session))
    assert session.value
    return (name.value or b"").decode()


def test_onnxruntime_opens_it_and_makes_a_session_of_the_graph(built):
    assert chosen(package(built)) == "onnx-CPUExecutionProvider"


def test_the_graph_takes_its_weights_from_the_shared_asset(built):
    manifest = json.loads((package(built) / "manifest.json").read_text())
    variants = manifest["components"]["model"]["variants"]
    assert {name: one["ep"] for name, one in variants.items()} == {
        "onnx-CUDAExecutionProvider": "CUDAExecutionProvider",
        "onnx-CPUExecutionProvider": "CPUExecutionProvider",
        "ort": "CPUExecutionProvider",
    }
    load = variants["onnx-CPUExecutionProvider"]["executor_info"]["ort"]
    asset = load["session_options"][FOLDER].removeprefix("sha256:")
    (weights,) = (package(built) / "shared_assets").rglob("*.data")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert asset == hashlib.sha256(f"{digest}  {weights.name}\n".encode()).hexdigest()
    assert weights.parent.name == f"sha256-{asset}"

    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry(FOLDER, str(weights.parent))
    x = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    cpu = ["CPUExecutionProvider"]
    graph = package(built) / "model/onnx" / load["model_file"]
    (got,) = onnxruntime.InferenceSession(graph, settings, providers=cpu).run(None, {"x": x})
    (plain,) = onnxruntime.InferenceSession(built.root / "build/small/model.onnx", providers=cpu).run(None, {"x": x})
    np.testing.assert_array_equal(got, plain)
    assert not onnx.load(graph, load_external_data=False).graph.initializer[0].raw_data


def test_it_is_published_told_and_verified_as_everything_else(built):
    manifest = json.loads((built.root / "build/small/manifest.json").read_text())
    listed = {one["target"]: one for one in manifest["targets"]}
    assert listed["model_package"]["load"] == "model_package/manifest.json"
    assert listed["model_package"]["parity"] == listed["onnx"]["parity"]
    assert listed["onnx"]["load"] == "model.onnx" and len(listed["onnx"]["files"]) == 1
    assert "build/small/model_package/  5 files, " in built.first.out
    built.run("verify", "--rebuild", "small.yaml")
    (weights,) = (package(built) / "shared_assets").rglob("*.data")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"!")
    assert "changed since it was built" in built.run("verify", "small.yaml", code=1).text
    built.run("run", "small.yaml")
    assert weights.read_bytes() == whole


def test_what_an_earlier_package_left_goes_and_nothing_else(built):
    (package(built) / "notes.txt").write_text("mine")
    before = set(package(built).rglob("*.data"))
    (built.root / "m.onnx").write_bytes(model(2))
    built.env["ONNXBUILD_FAILPOINT"] = "package.cleared@*/manifest.json"
    built.run("run", "small.yaml", code=1)
    assert not (package(built) / "manifest.json").exists(), "it never lists what lies there half"
    del built.env["ONNXBUILD_FAILPOINT"]
    built.run("run", "small.yaml")
    after = set(package(built).rglob("*.data"))
    assert len(after) == 1 and not before & after
    assert chosen(package(built)) == "onnx-CPUExecutionProvider"

    built.write("small.yaml", RECIPE.replace("ort_model_package", "plain"))
    built.run("run", "small.yaml")
    assert [path.name for path in package(built).iterdir()] == ["notes.txt"]
