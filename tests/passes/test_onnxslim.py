"""The onnxslim pass, an extra: each option does something, and what it is known to get wrong is refused."""

from __future__ import annotations

import importlib.util

import onnx
import pytest
from onnx import parser

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile
from onnxbuild.passes import EXTRAS, onnxslim
from onnxbuild.passes.onnxslim import Options

needs_it = pytest.mark.skipif(importlib.util.find_spec("onnxslim") is None, reason="onnxslim is an extra")


def operators(path):
    return [node.op_type for node in modelfile.structure(path).graph.node]


@needs_it
def test_it_folds_fuses_and_keeps_the_interface(convolution, tmp_path):
    path = convolution.after(onnxslim, Options(), tmp_path / "scratch")
    convolution.assert_same_outputs(path)
    onnx.checker.check_model(str(path), full_check=True)
    assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(convolution.path))
    assert not {"BatchNormalization", "Identity", "Neg"} & {*operators(path)}


@needs_it
@pytest.mark.parametrize(
    "options",
    [
        Options(skip_optimizations=["graph_fusion"]),
        Options(skip_optimizations=["constant_folding", "dead_node_elimination"]),
        Options(skip_fusion_patterns=["FusionConvBN"]),
    ],
)
def test_every_option_does_something(convolution, tmp_path, options):
    whole = convolution.after(onnxslim, Options(), tmp_path / "1")
    path = convolution.after(onnxslim, options, tmp_path / "2")
    assert operators(path) != operators(whole)
    convolution.assert_same_outputs(path)


@needs_it
def test_a_fusion_that_it_does_not_know_is_refused(convolution, tmp_path):
    with pytest.raises(StageError, match="onnxslim knows no fusion pattern 'FusionConvBm'") as told:
        convolution.after(onnxslim, Options(skip_fusion_patterns=["FusionConvBm"]), tmp_path / "scratch")
    assert told.value.hint == "did you mean 'FusionConvBN'?"
    with pytest.raises(StageError) as told:
        convolution.after(onnxslim, Options(skip_fusion_patterns=["x"]), tmp_path / "2")
    assert told.value.hint.startswith("known: Elimination")


@needs_it
def test_random_numbers_are_not_made_the_same(tmp_path):
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[4] x) => (float[4] y)'
        " { a = RandomUniformLike(x) b = RandomUniformLike(x) y = Sub(a, b) }"
    )
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(StageError, match="it takes two nodes of RandomUniformLike for one") as told:
        onnxslim.run(tmp_path / "m.onnx", Options(), tmp_path)
    assert told.value.hint == "set skip_optimizations: [subexpression_elimination]"
    made, _ = onnxslim.run(tmp_path / "m.onnx", Options(skip_optimizations=["subexpression_elimination"]), tmp_path)
    assert len(made.graph.node) == 3


@needs_it
def test_past_2_gib_it_is_refused(tmp_path):
    model = parser.parse_model('<ir_version: 8, opset_import: ["": 18]> g (float[4] x) => (float[4] y) { y = Relu(x) }')
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[1 << 30])
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="w")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(StageError, match="past protobuf's 2 GiB") as told:
        onnxslim.run(tmp_path / "m.onnx", Options(), tmp_path)
    assert told.value.hint == "use onnxsim or onnxscript in its place"


def test_where_it_is_not_installed_the_recipe_is_refused_with_the_line_to_install_it(workspace, monkeypatch):
    from onnxbuild import recipe
    from onnxbuild.errors import UserError
    from onnxbuild.recipe import importables

    assert EXTRAS["onnxslim"] == {"onnxslim": "onnxslim"}
    found = importables.folder_of
    monkeypatch.setattr(importables, "folder_of", lambda name: None if name == "onnxslim" else found(name))
    workspace.write("m.onnx", "")
    inputs = "inputs: {x: {dtype: float32, shape: [1]}}, outputs: [y], opset: 18"
    path = workspace.write(
        "r.yaml",
        f"version: 1\nname: r\nmodel: {{onnx: {{path: m.onnx}}}}\nexport: {{{inputs}}}\noptimize:\n  - onnxslim: {{}}\n",
    )
    with pytest.raises(UserError, match=r"optimize\[0\]: it needs onnxslim, which is not installed") as told:
        recipe.load(path)
    assert told.value.problems[0].hint == "pip install 'onnxbuild[onnxslim]'"
