"""The published schema in an editor: what a real YAML language server says of recipes, and offers in them."""

from __future__ import annotations

import pytest
from language_server import MISSING, Server
from workspace import REPOSITORY

from onnxbuild.passes import PASSES
from onnxbuild.sources import SOURCES
from onnxbuild.targets import TARGETS

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
MODELINE = "# yaml-language-server: $schema=../schemas/recipe.schema.json\n"
START = f"{MODELINE}version: 1\nname: a\n"
EXPORTERS = ["dynamo", "onnxmltools", "skl2onnx", "tf2onnx", "torchscript"]


@pytest.fixture(scope="module")
def server():
    with Server(REPOSITORY) as started:
        yield started


def offered(server: Server, text: str) -> dict:
    """What is offered where the text has a "|"."""
    before, _, after = text.partition("|")
    name = new(server)
    server.open(name, before + after)
    return server.complete(name, before.count("\n"), len(before.rpartition("\n")[2]))


def new(server: Server) -> str:
    """The name of a recipe that is not open yet."""
    return f"recipes/new-{len(server.diagnostics)}.yaml"


def test_checked_in_recipes_are_right(server):
    wrong = {}
    for path in sorted((REPOSITORY / "recipes").glob("*.yaml")):
        text = path.read_text("utf-8")
        if not path.name.endswith(".lock.yaml") and text.startswith(MODELINE):
            wrong[path.name] = server.open(f"recipes/{path.name}", text)

    assert "resnet.yaml" in wrong and len(wrong) > 9
    assert [name for name, found in wrong.items() if found] == []


@pytest.mark.parametrize(
    ("old", "wrong", "said"),
    [
        ("dynamic_axes:", "dynamic_axis:", "Property dynamic_axis is not allowed."),
        ("exporter: dynamo", "exporter: dynamic", 'Value is not accepted. Valid values: "dynamo"'),
        ("opset: 18", "opset: 99", "Value is above the maximum of 28."),
    ],
)
def test_a_slip_of_the_pen_is_underlined_at_its_place(server, old, wrong, said):
    text = (REPOSITORY / "recipes/resnet.yaml").read_text("utf-8")
    assert text.count(old) == 1
    (found,) = server.open(new(server), text.replace(old, wrong))

    line = text[: text.index(old)].count("\n")
    start = text.splitlines()[line].index(old) + (wrong.index(": ") + 2 if ": " in wrong else 0)
    assert said in found["message"]
    assert found["range"]["start"] == {"line": line, "character": start}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("optimize:\n  - |", [*PASSES, "parity"]),
        ("optimize:\n  - onnxsim: {}\n  - |", [*PASSES, "parity"]),
        ("model:\n  |", SOURCES),
        ("targets:\n  |", TARGETS),
        ("export:\n  exporter: |", EXPORTERS),
        (
            "export:\n  inputs:\n    x:\n      data:\n        |",
            ["normal", "uniform", "integers", "constant", "values", "npz"],
        ),
        ("symbolics:\n  acme::f:\n    |", ["decompose", "node"]),
        ("runtime:\n  providers: [|]", ["CPUExecutionProvider", "CUDAExecutionProvider"]),
        ("runtime:\n  session:\n    execution_mode: |", ["parallel", "sequential"]),
    ],
)
def test_what_can_stand_there_is_offered(server, text, names):
    found = offered(server, START + text)

    assert sorted(found) == sorted(names)
    if "providers" not in text:
        assert [name for name, item in found.items() if not item.get("documentation")] == []


def test_what_is_put_in_is_a_recipe(server):
    found = offered(server, START + "|")
    assert {"export", "optimize", "parity", "runtime", "targets", "benchmark", "package"} < set(found)
    assert found["optimize"]["documentation"] == "Passes, in order; each one is a stage of its own."

    source = offered(server, START + "model:\n  |")["onnx"]
    assert source["insertText"] == "onnx:\n  path: "
    assert source["documentation"] == "An existing .onnx file."


def test_a_key_says_what_it_is_for(server):
    text = f"{START}export:\n  exporter: dynamo\n  opset: 18\noptimize:\n  - onnxsim: {{skip_fuse_bn: true}}\n"
    server.open("recipes/hover.yaml", text)

    assert "torch.onnx.export with dynamo=True" in server.hover("recipes/hover.yaml", 4, 4)
    assert "The version of ONNX's default operator set." in server.hover("recipes/hover.yaml", 5, 4)
    assert "Leave BatchNormalization out of Conv." in server.hover("recipes/hover.yaml", 7, 16)
