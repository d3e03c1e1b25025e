"""The onnxoptimizer pass: every name is the library's, and no pass ever sees weights that are not there."""

from __future__ import annotations

import os
import typing

import msgspec
import pytest
from onnx import TensorProto, helper

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile
from onnxbuild.passes import onnxoptimizer

NAMES = typing.get_args(onnxoptimizer.Name)


def operators(path):
    return [node.op_type for node in modelfile.structure(path).graph.node]


def test_the_names_are_the_librarys():
    import onnxoptimizer as library

    assert sorted(NAMES) == sorted(library.get_available_passes())
    assert set(NAMES) >= onnxoptimizer.STRUCTURAL


def test_an_unknown_name_is_refused_by_the_options():
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'fuse_bn'"):
        msgspec.convert(["fuse_bn"], onnxoptimizer.Options)


def test_passes_that_read_weights_get_them(convolution, tmp_path):
    passes = [
        "eliminate_identity",
        "fuse_consecutive_transposes",
        "eliminate_nop_transpose",
        "eliminate_deadend",
        "fuse_bn_into_conv",
    ]

    path = convolution.after(onnxoptimizer, passes, tmp_path / "scratch")

    assert not {"BatchNormalization", "Identity", "Transpose", "Neg"} & set(operators(path))
    convolution.assert_same_outputs(path)
    assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(convolution.path))


def test_shapes_are_there_for_the_passes_that_match_on_them(convolution, tmp_path):
    path = convolution.after(onnxoptimizer, ["fuse_consecutive_transposes", "eliminate_nop_cast"], tmp_path / "1")
    model = modelfile.structure(path)

    assert not model.graph.value_info  # inferred on the way, and dropped again
    assert [node.op_type for node in model.graph.node].count("Transpose") == 1


@pytest.mark.parametrize("name", sorted(onnxoptimizer.STRUCTURAL))
def test_structural_passes_give_the_same_graph_with_and_without_the_weights(convolution, branches, tmp_path, name):
    import onnxoptimizer as library
    from onnx import shape_inference

    for kept in (convolution, branches):
        without = kept.after(onnxoptimizer, [name], tmp_path / "scratch")
        full = shape_inference.infer_shapes(modelfile.load(kept.path))
        ref, _ = modelfile.save(library.optimize(full, [name]), None, kept.objects)

        assert without.name == ref
        kept.assert_same_outputs(without)


# These change what a model's inputs and outputs are.
INTERFACE = {"split_init", "split_predict", "rename_input_output", "rewrite_input_dtype"}


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - onnxoptimizer.STRUCTURAL - INTERFACE - {"lift_lexical_references"})
)
def test_every_other_pass_keeps_the_outputs(convolution, name, tmp_path):
    path = convolution.after(onnxoptimizer, [name], tmp_path / "scratch")

    convolution.assert_same_outputs(path)


def test_what_the_library_refuses_is_a_failed_stage(convolution, tmp_path):
    with pytest.raises(StageError, match="onnxoptimizer: RuntimeError: Unresolved value references"):
        onnxoptimizer.run(convolution.path, ["lift_lexical_references"], tmp_path)


@pytest.fixture
def huge(tmp_path):
    """A graph whose one weight is a sparse file of 2.25 GiB."""
    rows = (9 << 28) // 4096
    (tmp_path / "ab").mkdir()
    with open(tmp_path / "ab" / ("c" * 62), "wb") as file:
        os.truncate(file.fileno(), rows * 4096)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, 1024], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="ab/" + "c" * 62)
    nodes = [helper.make_node("Identity", ["x"], ["i"]), helper.make_node("Gather", ["w", "i"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.INT64, ["n"])], [value("y", TensorProto.FLOAT, ["n", 1024])], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "huge.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "huge.onnx"


def test_past_2_gib_structural_passes_run(huge, tmp_path):
    model, folder = onnxoptimizer.run(huge, sorted(onnxoptimizer.STRUCTURAL), tmp_path)

    assert [node.op_type for node in model.graph.node] == ["Gather"]
    assert modelfile.save(model, folder, folder)[1] == ["ab/" + "c" * 62]


def test_past_2_gib_the_others_are_refused_by_name(huge, tmp_path):
    with pytest.raises(StageError) as caught:
        onnxoptimizer.run(
            huge, ["eliminate_identity", "fuse_bn_into_conv", "eliminate_duplicate_initializer"], tmp_path
        )

    assert caught.value.fact == (
        "onnxoptimizer: fuse_bn_into_conv, eliminate_duplicate_initializer would read the weights, "
        "which are past protobuf's 2 GiB"
    )
    assert caught.value.hint.startswith("Leave them out or use onnxsim; of these passes, any size will do: eliminate_")
