"""The onnxruntime pass: each level does what it says, and those above basic say that they bind the file."""

from __future__ import annotations

import pytest

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile
from onnxbuild.passes import onnxruntime

Options = onnxruntime.Options


def operators(path):
    return [node.op_type for node in modelfile.structure(path).graph.node]


@pytest.mark.parametrize("level", ["basic", "extended", "layout", "all"])
def test_every_level_keeps_outputs_and_interface(convolution, branches, tmp_path, level):
    for number, kept in enumerate((convolution, branches)):
        path = kept.after(onnxruntime, Options(level), tmp_path / f"{number}")

        kept.assert_same_outputs(path)
        assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(kept.path))


def test_basic_keeps_to_standard_operators(convolution, tmp_path):
    model = modelfile.structure(convolution.after(onnxruntime, Options("basic"), tmp_path / "scratch"))

    assert {node.domain for node in model.graph.node} == {""}
    assert [entry.domain for entry in model.opset_import] == [""]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_extended_fuses_into_its_own_operators(convolution, tmp_path):
    path = convolution.after(onnxruntime, Options("extended"), tmp_path / "scratch")

    assert "FusedConv" in operators(path)


def test_a_disabled_optimizer_does_not_run(convolution, tmp_path):
    path = convolution.after(onnxruntime, Options("basic", ["ConvBNFusion"]), tmp_path / "scratch")

    assert "BatchNormalization" in operators(path)


def test_levels_above_basic_say_so():
    assert onnxruntime.notes(Options("basic")) == []
    assert onnxruntime.notes(Options("all")) == ["all: bound to this hardware and this onnxruntime version"]


def test_a_model_it_can_not_load_is_a_failed_stage(tmp_path):
    from onnx import parser

    text = (
        '<ir_version: 8, opset_import: ["": 18, "com.acme": 1]> g (float[2] x) => (float[2] y) { y = com.acme.Gate(x) }'
    )
    (tmp_path / "custom.onnx").write_bytes(parser.parse_model(text).SerializeToString())

    with pytest.raises(StageError, match=r"com\.acme"):
        onnxruntime.run(tmp_path / "custom.onnx", Options(), tmp_path)
