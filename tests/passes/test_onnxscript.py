"""The onnxscript pass: weights stay in their files, dimension names survive."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile, tensors
from onnxbuild.passes import onnxscript


def operators(path):
    return [node.op_type for node in modelfile.structure(path).graph.node]


def test_the_options_are_the_librarys_with_its_defaults():
    import onnxscript.optimizer

    theirs = dict(list(inspect.signature(onnxscript.optimizer.optimize).parameters.items())[1:])
    assert {name: p.default for name, p in theirs.items()} == msgspec.structs.asdict(PASS.Options())


PASS = onnxscript


def test_it_folds_and_removes(convolution, tmp_path):
    path = convolution.after(PASS, PASS.Options(), tmp_path / "scratch")

    assert not {"Identity", "Transpose", "Neg", "BatchNormalization"} & set(operators(path))
    convolution.assert_same_outputs(path)
    assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(convolution.path))


def test_branches_and_their_weights_survive(branches, tmp_path):
    path = branches.after(PASS, PASS.Options(), tmp_path / "scratch")

    branches.assert_same_outputs(path)
    assert interface.signature(modelfile.structure(path)) == interface.signature(modelfile.structure(branches.path))


def test_weights_that_it_does_not_change_stay_where_they_are(branches, tmp_path):
    model, folder = PASS.run(branches.path, PASS.Options(), tmp_path)

    assert folder == branches.objects
    large = [t for t in tensors.large_candidates(model) if tensors.nbytes(t) >= modelfile.INLINE_BELOW]
    assert len(large) == 3
    assert all(tensors.is_external(tensor) for tensor in large)


def test_a_broken_model_is_a_failed_stage(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\xff not protobuf")

    with pytest.raises(StageError, match="onnxscript: "):
        PASS.run(tmp_path / "broken.onnx", PASS.Options(), tmp_path)
