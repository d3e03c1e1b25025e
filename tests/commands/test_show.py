"""Where nodes come from: the line map beside the exported graph, as `show --lines`, diffs and failures tell it."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest
from workspace import Workspace

NET = """\
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))
        self.bias = nn.Parameter(torch.rand(4))
        self.act = act

    def forward(self, x):
        x = torch.matmul(x, self.weight)
        x = x + self.bias
        return self.act(x)


class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.layers = nn.Sequential(Layer(act))

    def forward(self, x):
        return torch.sin(self.layers(x))


class Baked(nn.Module):
    def forward(self, x):
        rows = int(x.shape[0])
        return torch.relu(x.reshape(rows, 1, 3))


def net(act="relu"):
    return Net(getattr(torch, act))
"""
RECIPE = """\
version: 1
name: {name}
model: {{pytorch: {{{model}}}}}
export:
  exporter: {exporter}
  opset: 18
  inputs:
    x: {{dtype: float32, shape: [2, 3]}}
  outputs: [y]
  dynamic_axes: {{x: {{0: N}}, y: {{0: N}}}}
  dims: {{N: {{min: 1, max: 3}}}}
optimize: [{{onnxruntime: {{}}}}]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """The same model by both exporters, but for its activation, and one that bakes its batch in."""
    made = Workspace.make(tmp_path_factory.mktemp("show") / "project")
    made.write("models/net.py", NET)
    made.write("net.yaml", RECIPE.format(name="net", exporter="dynamo", model='factory: "models.net:net"'))
    other = 'factory: "models.net:net", kwargs: {act: tanh}'
    made.write("other.yaml", RECIPE.format(name="other", exporter="torchscript", model=other))
    baked = 'factory: "models.net:Baked"'
    made.write("baked.yaml", RECIPE.format(name="baked", exporter="torchscript", model=baked))
    made.failed = made.run("run", "-k", "net.yaml", "other.yaml", "baked.yaml", code=1).text
    return made


def line_of(text: str, project: Workspace) -> str:
    lines = project.read("models/net.py").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return f"models/net.py:{number}"


def test_every_node_of_the_dynamo_exporter_has_its_line(built):
    shown = built.run("show", "--lines", "net.yaml", "--stage", "export")
    assert shown.out.splitlines() == [
        "net: export: 4 nodes, exported by dynamo",
        f"  MatMul  {line_of('torch.matmul', built)}  matmul in layers.0",
        f"  Add     {line_of('+ self.bias', built)}  add_5 in layers.0".replace("add_5", added(built)),
        f"  Relu    {line_of('self.act(x)', built)}  relu in layers.0",
        f"  Sin     {line_of('torch.sin', built)}  y",
    ]


def added(built: Workspace) -> str:
    """What the exporter calls the sum."""
    graph = onnx.load(built.root / "build/net/model.onnx").graph
    return next(node.output[0] for node in graph.node if node.op_type == "Gemm")


def test_a_node_that_others_were_merged_into_has_all_their_lines(built):
    for recipe, of in (("net", "the dynamo exporter"), ("other", "the TorchScript exporter")):
        text = built.run("show", "--lines", f"{recipe}.yaml").out
        gemm = text.splitlines()[1:3]
        assert gemm[0].split()[:2] == ["Gemm", line_of("+ self.bias", built)], (of, text)
        assert gemm[1].split() == ["also", line_of("torch.matmul", built)], (of, text)
        assert "layers.0" in gemm[0]
    found = json.loads(built.run("show", "--lines", "--json", "other.yaml").out)
    node = found["nodes"][0]
    assert (found["version"], found["exporter"], node["op"], node["scope"]) == (1, "torchscript", "Gemm", "layers.0")
    assert [one["op"] for one in node["merged"]] == ["Add", "MatMul"]
    assert node["line"] == node["merged"][0]["place"]


def test_a_comment_moves_the_lines_and_builds_nothing_after_the_export(built, tmp_path):
    project = built.copy(tmp_path / "another" / "place")
    before = project.run("show", "--lines", "net.yaml").out
    was = (project.root / "build/net/model.onnx").read_bytes()
    project.replace(
        "models/net.py", "        x = torch.matmul", "        # what\n        # how\n        x = torch.matmul"
    )
    project.run("run", "net.yaml")

    assert project.built("net") == {"reference", "export"}  # both read the model's code
    assert (project.root / "build/net/model.onnx").read_bytes() == was
    after = project.run("show", "--lines", "net.yaml").out
    assert after != before
    assert line_of("torch.matmul", project) in after
    assert line_of("+ self.bias", project) in after
    assert line_of("+ self.bias", project) not in before


def test_a_line_map_is_no_part_of_the_model_and_holds_no_path_of_the_machine(built):
    maps = [path.read_bytes() for path in (built.root / ".onnxbuild/objects").glob("??/*")]
    maps = [content for content in maps if b"models/net.py:" in content]
    assert len(maps) == 3
    for content in (*maps, (built.root / "build/net/model.onnx").read_bytes()):
        assert str(built.root).encode() not in content
        assert b"site-packages" not in content
    graphs = [path.read_bytes() for path in (built.root / ".onnxbuild/objects").glob("*.onnx")]
    assert graphs and not any(b"net.py" in graph for graph in graphs)


def test_a_diff_names_the_lines_of_both_sides(built):
    text = built.run("diff", "net.yaml", "other.yaml", code=1).out
    assert "- Relu 'node_relu' in layers.0, models/net.py:15" in text
    assert "+ Tanh '/model/layers/layers.0/Tanh' in layers.0, models/net.py:15" in text
    found = json.loads(built.run("diff", "net.yaml", "other.yaml", "--json", code=1).out)["structure"]
    assert [node["line"] for node in (*found["removed"], *found["added"])] == [line_of("self.act(x)", built)] * 2


def test_a_diff_without_the_store_has_no_lines(built, tmp_path):
    sides = [shutil.copytree(built.root / "build" / name, tmp_path / name) for name in ("net", "other")]
    text = built.run("diff", *map(str, sides), code=1).out
    assert "- Relu 'node_relu'" in text
    assert "net.py:15" not in text


@pytest.mark.parametrize("damaged", ["line map", "graph"])
def test_what_is_damaged_in_the_store_is_no_traceback(built, tmp_path, damaged):
    project = built.copy(tmp_path / "copy")
    objects = project.root / ".onnxbuild/objects"
    found = objects.glob("*.onnx" if damaged == "graph" else "??/*")
    for path in [path for path in found if damaged == "graph" or b"models/net.py:" in path.read_bytes()]:
        path.write_bytes(b"\xff" * path.stat().st_size)
    ran = project.run("show", "--lines", "net.yaml", code=2)
    assert "the store holds no graph of optimize/1-onnxruntime with its lines" in ran.err
    assert "node 'node_relu'" in project.run("diff", "net.yaml", "other.yaml", code=1).out.replace("Relu ", "node ")


def test_a_failure_names_the_line_of_the_node_that_bakes_an_axis_in(built):
    said = " ".join(built.failed.split())
    place = line_of("x.reshape", built)
    assert f"output 'y', axis 0 (N) is static 2 N ends at node '/model/Reshape' ({place})" in said
    assert f"while running Reshape node. Name:'/model/Reshape' ({place})" in said


def test_a_file_tells_no_more_than_it_holds(built, tmp_path):
    text = built.run("show", "--lines", "build/other/model.onnx").out
    assert "  Gemm  -  " in text
    assert text.endswith("No line is known of any node: the file tells none.\n")
    model = onnx.load(built.root / "build/net/model.onnx")
    stack = 'File "/models/net.py", line 3, in forward\n  File "/v/site-packages/torch/f.py", line 9, in g'
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=stack)
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'body', 'mm']")
    onnx.save(model, tmp_path / "noted.onnx")
    text = built.run("show", "--lines", str(tmp_path / "noted.onnx")).out
    assert "Gemm  /models/net.py:3" in text
    assert "in body" in text
    assert text.endswith("No line is known of 2 of 3 nodes.\n")


@pytest.mark.parametrize(
    ("arguments", "fact", "remedy"),
    [
        (["--json", "net.yaml"], "--json is for --lines", "give both, or neither"),
        (["--lines", "--stage", "nope", "net.yaml"], "no stage 'nope'", "export"),
        (["--lines", "--stage", "package", "net.yaml"], "'package' gives no graph", "those that do: export"),
        (["--lines", "--stage", "export", "build/net/model.onnx"], "has no stages", "give a recipe's .yaml file"),
        (["--lines", "unbuilt.yaml"], "the store holds no graph of optimize/1-onnxruntime", "build it first"),
        (["--lines", "missing.onnx"], "no such file", "give an .onnx file"),
        (
            ["net.yaml"],
            "net.yaml is a recipe",
            "onnxbuild show --lines net.yaml, or give an .onnx file, such as build/",
        ),
    ],
)
def test_what_has_no_lines_to_show_is_refused(built, arguments, fact, remedy):
    built.write(
        "unbuilt.yaml", built.read("net.yaml").replace("name: net", "name: unbuilt").replace("[2, 3]", "[3, 3]")
    )
    ran = built.run("show", *arguments, code=2)
    assert fact in ran.err
    assert remedy in ran.err
    assert "Traceback" not in ran.err
