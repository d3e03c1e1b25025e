"""A first recipe: written from what the model is, valid, built as it stands, and never over another."""

from __future__ import annotations

import json

import onnx
import pytest
import yaml
from onnx import parser

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 3, 4, "no"] x, int64[N] k) => (float[N, 3, 4, "no"] y, int64[N] next)
{
  same = Identity(x)
  y = Relu(same)
  one = Constant<value_int=1>()
  next = Add(k, one)
}
""".replace('"no"', "no")


@pytest.fixture
def file(workspace):
    onnx.save(parser.parse_model(MODEL), workspace.root / "my_net v2.onnx")
    return workspace


def test_a_file_becomes_a_recipe_that_builds(file):
    ran = file.run("init", "my_net v2.onnx")
    assert "wrote my-net-v2.yaml" in ran.out
    assert "next: onnxbuild run my-net-v2.yaml" in ran.out
    text = file.read("my-net-v2.yaml")
    recipe = yaml.safe_load(text)
    assert recipe["name"] == "my-net-v2"
    assert recipe["model"] == {"onnx": {"path": "my_net v2.onnx"}}
    assert recipe["export"]["dynamic_axes"]["x"] == {0: "N", 3: "no"}
    assert recipe["export"]["opset"] == 21
    assert [*recipe["optimize"][0]] == ["onnxsim"]
    assert "# - the inputs, outputs and opset are those of the file" in text.splitlines()
    assert not (file.root / "build").exists()  # a trial publishes nothing
    assert sorted(path.name for path in file.root.glob("*.yaml")) == ["my-net-v2.yaml"]
    file.run("check", "my-net-v2.yaml")
    file.run("run", "my-net-v2.yaml")
    assert file.built("my-net-v2") <= {"benchmark", "package"}  # the rest was found in the store
    model = onnx.load(file.root / "build/my-net-v2/model.onnx")
    assert [node.op_type for node in model.graph.node] == ["Relu", "Add"]
    assert len(max(text.splitlines(), key=len)) <= 120


def test_it_goes_where_recipes_are(file):
    (file.root / "recipes").mkdir()
    (file.root / "schemas").mkdir()
    (file.root / "schemas/recipe.schema.json").touch()
    assert "wrote recipes/m.yaml" in file.run("init", "my_net v2.onnx", "--name", "m", "--no-build").out
    first = file.read("recipes/m.yaml").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/recipe.schema.json"
    assert not (file.root / ".onnxbuild").exists()
    file.run("run", "recipes/m.yaml")


def test_nothing_is_overwritten(file):
    file.write("m.yaml", "mine")
    ran = file.run("init", "my_net v2.onnx", "--name", "m", code=2)
    assert ran.err.startswith(
        "m.yaml is there already\n    hint: give --output another file, or --force to overwrite it"
    )
    assert file.read("m.yaml") == "mine"
    file.run("init", "my_net v2.onnx", "--output", "m.yaml", "--force", "--no-build")
    assert file.read("m.yaml") != "mine"


def test_a_recipe_that_does_not_build_is_written_all_the_same(workspace):
    onnx.save(parser.parse_model(MODEL.replace("Relu(same)", "Reshape(same, k)")), workspace.root / "m.onnx")
    ran = workspace.run("init", "m.onnx", code=1)
    assert "wrote m.yaml, which does not build as it stands" in ran.out
    assert "reference: " in ran.err
    workspace.run("check", "m.yaml")


def test_a_pass_that_changes_nothing_or_could_do_harm_is_left_out(workspace):
    onnx.save(
        parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> g (float[N, 3] x) => (float[N, 3] y) {'
            "a = Cast<to=7>(x) b = Cast<to=1>(a) y = Sub(b, x) }"
        ),
        workspace.root / "m.onnx",
    )
    said = workspace.run("init", "m.onnx").out
    passes = yaml.safe_load(workspace.read("m.yaml")).get("optimize", [])
    assert ("onnxsim is left out: it changes nothing" in said) == (not passes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["no.onnx"],
            "there is no file no.onnx\n    hint: a function is written as module:function, from the project root",
        ),
        (["notes.txt"], "notes.txt is of no kind that is known\n    hint: sources: "),
        (["net:net"], "model.pytorch.factory: 'net:net' cannot be imported"),
        (["net:net", "--kind", "onnx"], "no source 'onnx' takes a function\n    hint: --kind may be pytorch"),
        (["m.onnx", "--set", "nonsense"], "--set nonsense: not of the form KEY=VALUE\n    hint: the value is YAML"),
        (["m.onnx", "--set", "colour=red"], "model.onnx: Object contains unknown field `colour`"),
        (["m.onnx", "--input", "x"], "--input x: not of the form NAME=DTYPE[SIZES]\n    hint: such as image=float32"),
        (["m.onnx", "--input", "x=floot32[2]"], "--input x: Invalid enum value 'floot32'"),
        (
            ["m.onnx", "--decompose", "f=g"],
            "not of the form OPERATOR=MODULE:FUNCTION\n    hint: such as acme::swish=models",
        ),
        (["m.onnx", "-o", "no/m.yaml"], "there is no folder no\n    hint: make it, or give --output another one"),
    ],
)
def test_what_it_refuses(workspace, arguments, said):
    onnx.save(parser.parse_model(MODEL), workspace.root / "m.onnx")
    workspace.write("notes.txt", "hello")
    ran = workspace.run("init", *arguments, code=2)
    assert said in ran.err
    assert ("; --kind says which" in ran.err) == (arguments[0] == "notes.txt")
    assert not [*workspace.root.glob("*.yaml")]


def test_a_file_that_is_no_model(workspace):
    (workspace.root / "m.onnx").write_bytes(b"nothing")
    ran = workspace.run("init", "m.onnx", code=1)
    assert "m.onnx is not an ONNX model" in ran.err
    assert not (workspace.root / "m.yaml").exists()


def test_plan_knows_what_init_wrote(file):
    file.run("init", "my_net v2.onnx", "--name", "m")
    plan = json.loads(file.run("plan", "m.yaml", "--json").out)["recipes"][0]
    assert plan["filled"] == []


SWISH = """\
import torch

lib = torch.library.Library("init_test", "DEF")
lib.define("swish(Tensor x) -> Tensor")
lib.impl("swish", lambda x: x * torch.sigmoid(x), "CompositeExplicitAutograd")
torch.library.register_fake("init_test::swish")(torch.empty_like)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 4)

    def forward(self, x):
        return torch.ops.init_test.swish(self.first(x))


def to_onnx(op, x):
    return op.Mul(x, op.Sigmoid(x))
"""


@pytest.mark.heavy
def test_a_module_is_run_and_its_own_operator_asked_for(workspace):
    workspace.write("net.py", SWISH)
    ran = workspace.run("init", "net:Net", code=1)
    assert "wrote Net.yaml, which does not build as it stands" in ran.out
    assert "export: no exporter knows init_test::swish" in ran.err
    assert "hint: say what it becomes, under symbolics of the recipe or by --decompose, and run the recipe" in ran.err
    assert "#   init_test::swish: {decompose: module:function}" in workspace.read("Net.yaml").splitlines()
    workspace.run("init", "net:Net", "--force", "--decompose", "init_test::swish=net:to_onnx")
    recipe = yaml.safe_load(workspace.read("Net.yaml"))
    assert recipe["symbolics"] == {"init_test::swish": {"decompose": "net:to_onnx"}}
    assert recipe["export"]["inputs"] == {"x": {"dtype": "float32", "shape": [2, 6]}}
    assert recipe["export"]["dynamic_axes"] == {"x": {0: "batch"}, "output": {0: "batch"}}
    workspace.run("run", "Net.yaml")
