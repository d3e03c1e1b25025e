"""What a recipe leaves out is asked of its model: filled in, shown with where it is from, and never stale."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from onnxbuild.errors import StageError
from onnxbuild.executors.interface import Finished
from onnxbuild.queries.describing import Describing
from onnxbuild.sources import SOURCES
from onnxbuild.store import store as store_module

RECIPE = "version: 1\nname: m\nmodel: {onnx: {path: m.onnx}}\n"
MODEL = """
<ir_version: 10, opset_import: ["" : {opset}]>
g (float[N, 3, height] x, int64[N, 1] offset) => (float[N, 3, height] y, float[N] mean, int64[N, 1] next)
{{
  y = Relu(x)
  axes = Constant<value_ints=[1, 2]>()
  mean = ReduceMean<keepdims=0>(x, axes)
  one = Constant<value_int={step}>()
  next = Add(offset, one)
}}
"""


@pytest.fixture
def project(workspace):
    def write(more="", opset=21, step=1, text=MODEL):
        onnx.save(parser.parse_model(text.format(opset=opset, step=step)), workspace.root / "m.onnx")
        workspace.write("m.yaml", RECIPE + more)
        return workspace

    return write


def shapes(path):
    model = onnx.load(path)
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


def test_a_file_says_it_all(project):
    workspace = project()
    plan = json.loads(workspace.run("plan", "m.yaml", "--json").out)["recipes"][0]
    told = {one["field"]: one["value"] for one in plan["filled"]}
    assert {one["origin"] for one in plan["filled"]} == {"m.onnx"}
    assert told["export.opset"] == 21
    assert told["export.inputs.x"] == {"dtype": "float32", "shape": [2, 3, 3]}
    assert told["export.inputs.offset"] == {"dtype": "int64", "shape": [2, 1]}
    assert told["export.dynamic_axes.y"] == {"0": "N", "2": "height"}
    assert told["export.outputs"] == ["y", "mean", "next"]
    assert not (workspace.root / ".onnxbuild").exists()  # a plan writes nothing
    workspace.run("check", "m.yaml")
    workspace.run("run", "m.yaml")
    assert shapes(workspace.root / "build/m/model.onnx")["y"] == ["N", 3, "height"]
    report = json.loads(workspace.read("build/m/report.json"))
    tried = {case["case"] for case in report["parity"]}
    assert len(tried) > 2
    assert "up to date" in workspace.run("run", "m.yaml").out


def test_the_same_said_by_hand_is_the_same_build(project):
    workspace = project()
    workspace.run("run", "m.yaml")
    workspace.write(
        "m.yaml",
        RECIPE
        + """\
export:
  opset: 21
  inputs: {x: {dtype: float32, shape: [2, 3, 3]}, offset: {dtype: int64, shape: [2, 1]}}
  outputs: [y, mean, next]
  dynamic_axes: {x: {0: N, 2: height}, offset: {0: N}, y: {0: N, 2: height}, mean: {0: N}, next: {0: N}}
""",
    )
    assert "up to date" in workspace.run("run", "m.yaml").out


def test_a_recipe_says_what_the_file_does_not(project):
    workspace = project(
        """\
export:
  inputs: {offset: {data: {integers: {low: 5, high: 9}}}}
  outputs: [y, next]
  dims: {height: {min: 4, max: 16, multiple_of: 4}}
"""
    )
    workspace.run("run", "m.yaml")
    session = onnxruntime.InferenceSession(workspace.root / "build/m/model.onnx")
    assert [value.name for value in session.get_outputs()] == ["y", "next"]
    x, offset = np.full((3, 3, 8), -1, np.float32), np.full((3, 1), 6, np.int64)
    y, next_ = session.run(None, {"x": x, "offset": offset})
    assert next_.tolist() == [[7]] * 3
    assert not y.any()
    report = json.loads(workspace.read("build/m/report.json"))
    sizes = {case["dims"]["height"] for stage in report["stages"] for case in stage["facts"].get("cases", [])}
    assert sizes
    assert all(size % 4 == 0 and 4 <= size <= 16 for size in sizes)


def test_a_changed_file_is_asked_anew(project):
    workspace = project()
    workspace.run("run", "m.yaml")
    workspace.run("run", "m.yaml")
    project(opset=22, step=2)
    ran = workspace.run("run", "m.yaml")
    assert "up to date" not in ran.out
    model = onnx.load(workspace.root / "build/m/model.onnx")
    assert model.opset_import[0].version == 22
    renamed = MODEL.replace("offset", "start")
    project(text=renamed)
    workspace.run("run", "m.yaml")
    assert "start" in shapes(workspace.root / "build/m/model.onnx")


def test_a_run_with_nothing_to_do_asks_nobody(project):
    workspace = project()
    workspace.env["ONNXBUILD_REMEMBERED"] = "0"
    workspace.run("run", "m.yaml")
    heavy = (
        "import sys; import onnxbuild.cli as c; c.main(['run', 'm.yaml']); print({'onnx', 'numpy'} & {*sys.modules})"
    )
    _, environment = workspace.command()
    ran = subprocess.run(
        [sys.executable, "-c", heavy], cwd=workspace.root, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.endswith("set()\n")


def test_explain_says_where_from(project):
    workspace = project()
    whole = workspace.run("explain", "m.yaml").out
    assert "left out of the recipe, and told by m.onnx:" in whole
    assert ["export.opset", "21"] in [line.split() for line in whole.splitlines()]
    workspace.run("run", "m.yaml")
    stage = workspace.run("explain", "m.yaml", "check/export").out
    assert "21 (told by m.onnx)" in stage


@pytest.mark.sample(2)
@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_a_file_that_says_nothing(workspace, content):
    (workspace.root / "m.onnx").write_bytes(content)
    workspace.write("m.yaml", RECIPE)
    for command in ("check", "plan", "run"):
        ran = workspace.run(command, "m.yaml", code=2)
        assert "m.yaml:3:9: model: m.onnx is not an ONNX model" in ran.err
    assert not (workspace.root / "build").exists()


def test_a_file_that_is_not_there_hides_what_it_would_say(workspace):
    workspace.write("m.yaml", RECIPE)
    ran = workspace.run("check", "m.yaml", code=2)
    assert "no file 'm.onnx'" in ran.err
    assert "1 problem." in ran.err


def test_a_module_says_nothing(workspace):
    workspace.write("net.py", "import torch\n\n\ndef net():\n    return torch.nn.Linear(3, 4)\n")
    workspace.write("m.yaml", "version: 1\nname: m\nmodel: {pytorch: {factory: 'net:net'}}\nexport: {outputs: [y]}\n")
    ran = workspace.run("run", "m.yaml", code=2)
    assert "m.yaml:3:9: model: a torch.nn.Module does not say what it takes and gives" in ran.err
    assert "hint: declare inputs and outputs under export, or let `onnxbuild init` find them out" in ran.err
    assert "missing" not in ran.err


class Dying:
    """An executor whose stages say nothing before they end."""

    def __init__(self, folder):
        self.folder = folder

    def scratch(self):
        return self.folder

    def start(self, task, preload):
        return 1

    def wait(self, timeout):
        return [Finished(1, None, 7, 0, "first\nSegmentation fault\n")]


def test_a_process_that_dies_is_told(tmp_path):
    store, digests = store_module.opened(
        tmp_path / "store", print, look=False, project=tmp_path, trusted=False, paranoid=False
    )
    (tmp_path / "m.onnx").write_bytes(b"")
    describing = Describing(lambda root: (store, digests), lambda store: Dying(tmp_path))
    with pytest.raises(StageError) as caught:
        describing("onnx", SOURCES["onnx"].Options("m.onnx"), tmp_path)
    assert caught.value.fact == "the process that asks the model of its inputs ended with status 7: Segmentation fault"
    assert caught.value.hint == "say them under export"


def test_wrong_parts_are_told_before_anything_is_asked(project):
    workspace = project("export: {inputs: [1], dims: {N: {max: 0}}}\n")
    ran = workspace.run("check", "m.yaml", code=2)
    assert "export.inputs: expected a mapping" in ran.err
    assert "is missing" not in ran.err


def test_an_input_that_the_model_has_not(project):
    workspace = project("export: {inputs: {ofset: {data: {constant: 1}}}}\n")
    ran = workspace.run("check", "m.yaml", code=2)
    assert "m.yaml:4:19: export.inputs: the model has no input 'ofset'\n    hint: did you mean 'offset'?" in ran.err
    assert "1 problem." in ran.err


def test_what_the_model_does_not_tell_of_an_input(workspace):
    text = MODEL.format(opset=21, step=1).replace("float[N, 3, height] x", "float x")
    model = parser.parse_model(text.replace("float[N, 3, height] y", "float y"))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, workspace.root / "m.onnx")
    workspace.write("m.yaml", RECIPE)
    ran = workspace.run("check", "m.yaml", code=2)
    assert "export.inputs.x: the key 'shape' is missing, and the model does not tell it" in ran.err
    assert "hint: add 'shape': The example's size on each axis" in ran.err
