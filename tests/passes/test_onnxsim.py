"""The onnxsim pass: options mean what onnxsim says, and nothing is passed over in silence."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile
from onnxbuild.passes import onnxsim

Options = onnxsim.Options


def operators(path):
    return [node.op_type for node in modelfile.structure(path).graph.node]


def test_the_options_are_the_librarys_with_its_defaults():
    import onnxsim as library

    theirs = inspect.signature(library.simplify).parameters
    empty = {
        "overwrite_input_shapes": None,
        "skipped_optimizers": None,
        "extra_optimizers": None,
        "unused_output": None,
    }
    for name, default in msgspec.structs.asdict(Options()).items():
        assert theirs[name].default == empty.get(name, default), name


def test_it_folds_and_fuses(convolution, tmp_path):
    path = convolution.after(onnxsim, Options(), tmp_path / "scratch")

    assert sorted(operators(path)) == [
        "Add",
        "Constant",
        "Conv",
        "Flatten",
        "GlobalAveragePool",
        "MatMul",
        "Mul",
        "Relu",
    ]
    convolution.assert_same_outputs(path)
    assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(convolution.path))
    assert not modelfile.structure(path).metadata_props


def test_branches_and_their_weights_survive(branches, tmp_path):
    path = branches.after(onnxsim, Options(), tmp_path / "scratch")

    branches.assert_same_outputs(path)
    assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(branches.path))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (Options(skip_fuse_bn=True), "BatchNormalization"),
        (Options(skipped_optimizers=["fuse_bn_into_conv"]), "BatchNormalization"),
        (Options(perform_optimization=False), "Identity"),
    ],
)
def test_options_leave_steps_out(convolution, tmp_path, options, kept):
    path = convolution.after(onnxsim, options, tmp_path / "scratch")

    assert kept in operators(path)
    convolution.assert_same_outputs(path)


def test_skip_constant_folding(convolution, tmp_path):
    folded = convolution.after(onnxsim, Options(), tmp_path / "1")
    unfolded = convolution.after(onnxsim, Options(skip_constant_folding=True), tmp_path / "2")

    assert len(operators(unfolded)) > len(operators(folded))


def test_overwrite_input_shapes_makes_them_static(convolution, tmp_path):
    path = convolution.after(onnxsim, Options(overwrite_input_shapes={"x": [2, 3, 8, 8]}), tmp_path / "scratch")

    assert interface.signature(modelfile.structure(path))["inputs"][0]["shape"] == [2, 3, 8, 8]


def test_unused_output_is_removed(convolution, tmp_path):
    path = convolution.after(onnxsim, Options(unused_output=["z"]), tmp_path / "scratch")

    assert [value["name"] for value in interface.signature(modelfile.structure(path))["outputs"]] == ["y"]


@pytest.mark.parametrize("field", ["skipped_optimizers", "extra_optimizers"])
def test_an_unknown_optimizer_is_refused(convolution, tmp_path, field):
    with pytest.raises(StageError) as caught:
        onnxsim.run(convolution.path, Options(**{field: ["fuse_bn"]}), tmp_path)

    assert caught.value.fact == "onnxsim knows no optimizer pass 'fuse_bn'"
    assert "fuse_bn_into_conv" in caught.value.hint


def test_a_broken_model_is_a_failed_stage(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\xff not protobuf")

    with pytest.raises(StageError, match="onnxsim: "):
        onnxsim.run(tmp_path / "broken.onnx", Options(), tmp_path)
