"""The web target: the published model in onnxruntime-web, as node runs it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from small import small
from workspace import REPOSITORY, Workspace

from onnxbuild.contracts import Shapes
from onnxbuild.errors import StageError
from onnxbuild.recipe.running import Runtime
from onnxbuild.runtimes import web
from onnxbuild.targets import web as target

TARGET = "targets: {web: {}}\n"
INSTALLED = REPOSITORY / "tests/web"  # by `make test`
RUNTIME = msgspec.to_builtins(Runtime())

why = web.missing(INSTALLED)
needs_node = pytest.mark.skipif(bool(why), reason=why)


def project(folder: Path, *, installed: bool = True, text: str = TARGET, version: int = 1) -> Workspace:
    """The small project; onnxruntime-web lies in the folder above it, as node would find it there."""
    made = small(Workspace.make(folder / "project"), version)
    made.write("small.yaml", made.read("small.yaml") + text)
    if installed:
        (folder / "node_modules").symlink_to(INSTALLED / "node_modules")
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = project(tmp_path_factory.mktemp("web"))
    made.run("run", "small.yaml")
    return made


@pytest.fixture
def edited(built, tmp_path) -> Workspace:
    (tmp_path / "node_modules").symlink_to(INSTALLED / "node_modules")
    return built.copy(tmp_path / "copy")


def opened(folder: Path, graph: str, outputs: list[str], session: dict | None = None):
    """A model of ONNX text, in onnxruntime-web."""
    (folder / "target").mkdir()
    onnx.save(onnx.parser.parse_model(graph), folder / "target/model.onnx")
    return web.open(folder / "target", {**RUNTIME, "session": {**RUNTIME["session"], **(session or {})}}, outputs)


@pytest.fixture
def at_root(monkeypatch):
    """As a stage has it: in a folder from which node finds onnxruntime-web."""
    monkeypatch.chdir(INSTALLED)


@needs_node
def test_the_published_model_is_what_ran(built):
    report = built.report("small")
    (told,) = report["targets"]

    assert (told["name"], told["level"]) == ("web", "run")
    assert told["files"] == report["artifacts"][::-1]  # nothing of its own: the very bytes that are published
    assert (
        told["files"][0]["sha256"] == hashlib.sha256((built.root / "build/small/model.onnx").read_bytes()).hexdigest()
    )
    assert not (built.root / "build/small/web").exists()
    rows = [row for row in report["parity"] if row["stage"] == "parity/web"]
    assert len(rows) == 4
    assert all(row["passed"] and row["max_abs"] < 1e-5 for row in rows)
    pinned = json.loads((INSTALLED / "package-lock.json").read_text())["packages"]["node_modules/onnxruntime-web"]
    assert pinned["version"] == web.TESTED
    assert any(f"onnxruntime-web {web.TESTED} in WebAssembly, node v" in note for note in report["notes"])


@needs_node
def test_nothing_to_do_afterwards_and_another_version_runs_it_again(edited):
    edited.run("run", "small.yaml")
    assert edited.built("small") == set()

    modules = edited.root.parent / "node_modules"
    modules.unlink()
    modules.mkdir()
    for package in (INSTALLED / "node_modules").iterdir():
        (modules / package.name).symlink_to(package)
    own = modules / "onnxruntime-web"
    own.unlink()
    own.mkdir()
    (own / "dist").symlink_to(INSTALLED / "node_modules/onnxruntime-web/dist")
    described = json.loads((INSTALLED / "node_modules/onnxruntime-web/package.json").read_text())
    (own / "package.json").write_text(json.dumps({**described, "version": "1.30.1"}))

    said = edited.run("plan", "small.yaml").out
    assert f"platform npm:onnxruntime-web: {web.TESTED} -> 1.30.1" in " ".join(said.split())
    edited.run("run", "small.yaml")
    assert edited.built("small") == {"parity/web"}


@needs_node
def test_it_is_tried_in_the_form_that_is_published(edited):
    edited.replace("small.yaml", "external_data: true", "external_data: false")
    edited.write("small.yaml", edited.read("small.yaml") + "benchmark: {warmup: 1, runs: 3}\n")
    edited.run("run", "small.yaml")

    assert edited.built("small") == {"target/web", "parity/web", "package", "benchmark", "benchmark/web"}
    (told,) = edited.report("small")["targets"]
    assert told["files"] == edited.report("small")["artifacts"][::-1]
    assert told["p50"] > 0
    assert told["onnxruntime_p50"] > 0
    assert "target/web, the same bytes" in edited.run("verify", "--rebuild", "small.yaml").out


@needs_node
def test_values_of_every_dtype_come_back_as_they_went(tmp_path, at_root):
    arrays = {
        "f2": np.array([[1.5, -2.0]], np.float16),
        "f4": np.array([0.1, np.inf], np.float32),
        "f8": np.array(0.1),
        "i1": np.array([-128, 127], np.int8),
        "i2": np.array([-(2**15)], np.int16),
        "i4": np.array([2**31 - 1], np.int32),
        "i8": np.array([2**63 - 1, -(2**63)]),
        "u1": np.zeros((2, 0), np.uint8),
        "u2": np.array([2**16 - 1], np.uint16),
        "u4": np.array([2**32 - 1], np.uint32),
        "u8": np.array([2**64 - 1], np.uint64),
        "b": np.array([[True], [False]]),
        "s": np.array(["a", "ü\n"], object),
    }
    element = {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [name], [f"{name}_out"]) for name in arrays],
        "dtypes",
        [value(name, element[name], array.shape) for name, array in arrays.items()],
        [value(f"{name}_out", element[name], array.shape) for name, array in arrays.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    text = onnx.printer.to_text(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8))
    found = opened(tmp_path, text, [f"{name}_out" for name in arrays]).call({**arrays, "unused": np.zeros(1)})

    for name, array in arrays.items():
        got = found[f"{name}_out"]
        assert (got.dtype, got.shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(got, array)


EXP = (
    '<ir_version: 8, opset_import: ["" : 17]> g (int64[2] s) => (float[A,B] y) { z = ConstantOfShape(s)\n y = Exp(z) }'
)


@needs_node
def test_a_case_that_fails_and_a_node_that_dies_leave_the_others(tmp_path, at_root, capfd):
    ran = opened(tmp_path, EXP, ["y"], {"graph_optimization_level": "disable_all"})
    with pytest.raises(RuntimeError, match="Integer overflow"):  # 4 GiB
        ran.call({"s": np.array([1 << 15, 1 << 15])})
    assert ran.call({"s": np.array([2, 2])})["y"].tolist() == [[1, 1], [1, 1]]
    assert ran.took() > 0

    os.kill(ran.call.__self__._node._process.pid, signal.SIGKILL)
    with pytest.raises(StageError, match="node was killed by signal 9") as died:
        ran.call({"s": np.array([2, 2])})
    assert "WebAssembly addresses 4 GiB" in died.value.hint
    assert ran.call({"s": np.array([1, 1])})["y"].tolist() == [[1]]
    assert capfd.readouterr() == ("", "")


@needs_node
def test_a_node_that_takes_too_long_is_ended(tmp_path, at_root, monkeypatch):
    ran = opened(tmp_path, EXP, ["y"])
    process = ran.call.__self__._node._process
    monkeypatch.setattr(web, "LIMIT_S", 0.01)
    with pytest.raises(StageError, match=r"node gave no answer within 0.01 s") as late:
        ran.call({"s": np.array([1 << 13, 1 << 13])})

    assert late.value.hint == "make the sizes of the cases smaller"
    assert process.returncode is not None


@needs_node
def test_an_operator_that_it_has_not(tmp_path, at_root):
    text = '<ir_version: 8, opset_import: ["" : 17, "acme": 1]> g (float[N] x) => (float[N] y) { y = acme.Foo(x) }'
    with pytest.raises(StageError, match=r"acme:Foo\(-1\) is not a registered function/op") as refused:
        opened(tmp_path, text, ["y"])

    assert "WebAssembly knows no custom operators" in refused.value.hint


@pytest.mark.skipif(not web.node.executable(), reason="node is not on the PATH")
def test_without_onnxruntime_web_it_is_not_run_and_that_is_said(tmp_path):
    made = project(tmp_path, installed=False)
    ran = made.run("run", "small.yaml")

    assert "npm install onnxruntime-web@" in " ".join(ran.out.split())
    (told,) = made.report("small")["targets"]
    assert (told["level"], told["why"]) == ("built, not run", web.missing(tmp_path))
    assert made.statuses("small")["target/web"] == "built"

    made.replace("small.yaml", "web: {}", "web: {optional: true}")
    made.env["PATH"] = "/nowhere"
    made.run("run", "small.yaml")
    (told,) = made.report("small")["targets"]
    assert (told["level"], told["why"]) == ("skipped", "node is not on the PATH")
    assert made.built("small") == {"package"}, "which names another recipe"


def test_what_javascript_and_webassembly_do_not_have(tmp_path):
    shapes = Shapes(inputs={"x": {"dtype": "bfloat16", "shape": [1]}})
    ((option, fact, hint),) = target.wrong(target.Options(), shapes)
    assert (option, fact) == ("", "JavaScript has no bfloat16, which input 'x' is of")
    assert hint == "give the model an input of float32, which it converts itself, or take web out of targets"

    (tmp_path / "model.onnx").write_bytes(b"")
    with (tmp_path / "model.onnx.data").open("wb") as data:
        data.truncate(target.ADDRESSED + 1)
    with pytest.raises(StageError, match=r"the model has 4\.\d+ GB, and WebAssembly addresses 4\.\d+ GB") as refused:
        target.build(tmp_path / "model.onnx", target.Options(), tmp_path, Shapes())
    assert refused.value.hint == "make the weights smaller (float16 or int8), or take web out of targets"
