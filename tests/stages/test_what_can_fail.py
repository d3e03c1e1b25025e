"""A comparison that can't fail isn't one: models and recipes on which a wrong graph would once have passed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from workspace import Workspace

from onnxbuild.errors import StageError
from onnxbuild.parity import arrays, probes

MODELS = """\
import torch
import torch.nn.functional as F


class Bucket(torch.nn.Module):
    def forward(self, offset):
        return offset // 4


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.e = torch.nn.Embedding(10, 8)

    def forward(self, ids, mask):
        m = None if bool(torch.all(mask == 1)) else mask[:, None, None, :].bool()
        x = self.e(ids)[:, None]
        return F.scaled_dot_product_attention(x, x, x, attn_mask=m)[:, 0]


class Tiny(torch.nn.Module):
    def forward(self, x):
        return (x // 0.5) * 1e-6


class Shrink(torch.nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=0.7, mode="nearest-exact")


class Upto(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] > 16 else x / 2
"""

BATCH = "dynamic_axes: {%s: {0: batch}, y: {0: batch}}\n      dims: {batch: {min: 1, max: 4}}"
RECIPES = {
    "bucket": ("Bucket", "torchscript", "offset: {dtype: int64, shape: [2, 8]}", BATCH % "offset"),
    "masked": (
        "Masked",
        "torchscript",
        "ids: {dtype: int64, shape: [2, 6]}\n        mask: {dtype: int64, shape: [2, 6], data: {constant: 1}}",
        "dynamic_axes: {ids: {0: batch}, mask: {0: batch}, y: {0: batch}}\n      dims: {batch: {min: 1, max: 4}}",
    ),
    "tiny": ("Tiny", "torchscript", "x: {dtype: float32, shape: [2, 8]}", BATCH % "x"),
    "shrink": (
        "Shrink",
        "dynamo",
        "x: {dtype: float32, shape: [2, 4, 16]}",
        "dynamic_axes: {x: {0: batch, 2: n}, y: {0: batch, 2: k}}\n      dims: {batch: {max: 4}, n: {min: 8, max: 64}}",
    ),
    "upto": ("Upto", "dynamo", "x: {dtype: float32, shape: [2, 8]}", "dynamic_axes: {x: {0: batch}, y: {0: batch}}"),
}
PADDED = """<ir_version: 8, opset_import: ["" : 17]>
padded (float[1, 1, 16, 16] x) => (float[1, 1, 3, 3] y)
<int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
{ p = Pad(x, pads)  y = MaxPool <kernel_shape = [6, 6], strides = [6, 6]> (p) }"""
PADDED_RECIPE = """\
    version: 1
    name: padded
    model: {{onnx: {{path: padded.onnx}}}}
    export:
      outputs: ["y"]
    optimize: [onnxoptimizer: [fuse_pad_into_pool]]
    parity: {{seed: {seed}}}
    runtime: {{session: {{graph_optimization_level: disable_all}}}}
"""
RECIPE = """\
    version: 1
    name: {name}
    model: {{pytorch: {{factory: "m:{model}"}}}}
    export:
      exporter: {exporter}
      inputs:
        {inputs}
      outputs: [y]
      {axes}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("what") / "can-fail")
    workspace.write("m.py", MODELS)
    for name, (model, exporter, inputs, axes) in RECIPES.items():
        text = RECIPE.format(name=name, model=model, exporter=exporter, inputs=inputs, axes=axes)
        workspace.write(f"{name}.yaml", text)
    workspace.run("run", *(f"{name}.yaml" for name in RECIPES), "--keep-going", code=1)
    return workspace


def failure(workspace, name):
    (found,) = workspace.report(name)["failures"]
    assert found["stage"] == "parity/export"
    assert not (workspace.root / f"build/{name}/model.onnx").exists()
    return found["fact"], found["hint"]


def test_negative_integers_are_tried_where_no_range_is_described(built):
    fact, hint = failure(built, "bucket")
    assert "offset=signed" in fact
    assert "the reference has -" in fact
    assert "export.inputs.offset.data" in hint


@pytest.mark.parametrize("seed", [0, 1])
def test_negative_values_alone_are_tried_where_no_range_is_described(workspace, seed):
    """Zeros that pad a pooling's input are its largest only where all else is below: draws of both signs may hide it."""
    model = onnx.parser.parse_model(PADDED)
    onnx.save(model, workspace.root / "padded.onnx")
    workspace.write("padded.yaml", PADDED_RECIPE.format(seed=seed))
    said = workspace.run("run", "padded.yaml", code=1).text

    assert "breaks at x=negative" in said and "introduced by optimize/1-onnxoptimizer" in said
    assert "take 'onnxoptimizer' out of optimize" in said
    assert "'x' has no described values, so negative ones alone are tried too" in " ".join(said.split())
    workspace.replace("padded.yaml", "outputs:", "inputs: {x: {data: {uniform: {low: 0.0, high: 1.0}}}}\n  outputs:")
    workspace.run("run", "padded.yaml")  # never below zero, it is right


def test_an_input_that_no_node_reads_though_it_matters_is_named_with_the_line(built):
    fact, hint = failure(built, "masked")
    assert fact.startswith("no node reads the values of input 'mask', though the source model's result depends on them")
    line = (
        MODELS.splitlines().index("        m = None if bool(torch.all(mask == 1)) else mask[:, None, None, :].bool()")
        + 1
    )
    assert f"m.py:{line}" in fact
    assert "torch.where" in hint
    assert any("'mask' is 1 in every case" in note for note in built.report("masked")["notes"])
    dropped = [note for note in built.report("masked")["notes"] if "ids=signed is dropped" in note]
    assert "the model itself fails there" in dropped[0]


def test_a_tolerance_larger_than_the_signal_proves_nothing_and_the_remedy_does(built):
    fact, hint = failure(built, "tiny")
    assert "y: the tolerance is larger than the signal: its results for other data are at most " in fact
    assert "spread over" in fact
    assert hint.startswith("give a tolerance in proportion to how far results lie apart, parity.outputs.y: {")
    remedy = hint.partition("parity.outputs.y: ")[2].partition("}")[0] + "}"
    built.write("tiny.yaml", built.read("tiny.yaml") + f"parity: {{outputs: {{y: {remedy}}}}}\n")
    built.run("run", "tiny.yaml", code=1)  # it was wrong all the time
    (row, *_) = built.report("tiny")["parity"]
    assert row["status"] == "failed"
    assert row["resolution"] > 100
    fact, _ = failure(built, "tiny")
    assert fact.startswith("output 'y' is wrong at 5 of 5 cases")


def test_sizes_between_are_tried(built):
    fact, _ = failure(built, "shrink")
    assert "n=14, 23, 28, 46, 51, 56" in fact


def test_what_the_exporter_holds_for_less_leads(built):
    """Named n: no size above 16 is tried, and above it the graph is wrong."""
    warning = "batch has no max in the recipe, and the exporter says that the graph holds up to 16"
    assert built.report("upto")["cautions"][0].startswith(warning)
    out = built.run("plan", "--check", "upto.yaml").out
    assert out.startswith(f"warning: upto: {warning}")
    assert out.splitlines()[-1].startswith("upto (upto.yaml): up to date")
    page = built.read("build/upto/report.html")
    assert page.index("holds up to 16") < page.index("Parity with the source model")


def f32(*shape, **data):
    return {"dtype": "float32", "shape": list(shape), **data}


def case(name, **shapes):
    return {"name": name, "dims": {"n": 1}, "shapes": shapes, "data": {}}


@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        ("nets:Counting", "forward changes the buffer 'seen', and a second call on the same data gives another result"),
        ("nets:Streaming", "forward changes the attribute 'h', and a second call on the same data gives another"),
        ("nets:Dropping", "the model gives another result for the same data"),
        ("nets:Training", "forward changes the buffer 'norm.running_mean', the buffer 'norm.running_var'"),
        ("nets:Jittery", "the model gives another result for the same data"),
    ],
)
def test_a_state_and_random_numbers_are_told_as_the_cause(torch_model, factory, cause):
    model = torch_model(factory, {"x": f32(2, 4)}, ["y"])
    with pytest.raises(StageError) as caught:
        model.reference(case("a", x=[2, 4]), case("b", x=[3, 4]))
    assert caught.value.fact.startswith(cause)
    assert caught.value.hint


@pytest.mark.parametrize("factory", ["nets:Caching", "nets:Logging", "nets:Seeded"])
def test_a_state_that_does_not_reach_the_result_is_none_of_our_business(torch_model, factory):
    model = torch_model(factory, {"x": f32(2, 4)}, ["y"])
    model.reference(case("a", x=[2, 4]), case("b", x=[3, 4]))


def test_which_inputs_matter_is_found_out(torch_model):
    one = {"data": {"constant": 1.0}}
    model = torch_model("nets:Choosy", {"x": f32(2, 4), "unused": f32(2, **one), "flag": f32(2, **one)}, ["y"])
    outcome = model.reference(case("a", x=[2, 4], unused=[2], flag=[2]))
    kept = arrays.read(model.objects / outcome.outputs["reference"])
    assert list(kept[probes.MATTER]) == ["x", "flag"]


def test_all_nan_at_one_size_is_a_fact(torch_model):
    model = torch_model("nets:NanAtThree", {"x": f32(2, 4)}, ["y"])
    outcome = model.reference(case("a", x=[2, 4]), case("b", x=[3, 4]))
    assert outcome.facts["all_nan"] == {"y": ["b"]}


@pytest.mark.parametrize(
    "array", [np.ones(4, np.int64), np.zeros((2, 3), np.float32), np.full(3, 16, np.int32), np.array([True, True])]
)
def test_other_values_of_what_never_varies(array):
    found = list(probes.changes(array, array.copy()))
    assert found
    assert all(one.dtype == array.dtype and one.shape == array.shape and (one != array).any() for one in found)


def test_tolerances_that_allow_anything_are_refused(workspace):
    model, exporter, inputs, axes = RECIPES["tiny"]
    recipe = RECIPE.format(name="tiny", model=model, exporter=exporter, inputs=inputs, axes=axes)
    workspace.write("m.py", MODELS)
    workspace.write("tiny.yaml", recipe + "    parity: {rtol: 1.0e300, outputs: {y: {rtol: 1, atol: 1.0e300}}}\n")
    said = workspace.run("check", "tiny.yaml", code=2).text
    assert "parity.rtol: rtol 1e+300 allows anything: a graph that gives zeros would pass" in said
    assert "give less than 1; 1e-3 suits float32, 1e-2 float16" in said
    assert "parity.outputs.y.atol: atol 1e+300 allows anything: no difference of float32 values is larger" in said
    assert "give a small part of the output's own spread" in said
