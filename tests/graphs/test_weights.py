"""The digest of a graph and that of its weights are apart: what changes the one leaves the other as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from onnxbuild.graphs import modelfile, weights

TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[n, {size}] x) => (float[n, {size}] y) <float[{size}] w = {{{values}}}, int64[1] axes = {{{axis}}}>
{{
    added = Add (x, w)
    y = ReduceSum <keepdims = 1> (added, axes)
}}
"""


def digests(folder: Path, *, size: int = 4, scale: float = 1.0, axis: int = 1) -> tuple[str, str]:
    """Of a graph in the store's form; weights of 300 elements are objects of their own there."""
    values = ", ".join(f"{scale * number}" for number in range(1, size + 1))
    ref, _ = modelfile.save(parser.parse_model(TEXT.format(size=size, values=values, axis=axis)), None, folder)
    return weights.digests(modelfile.structure(folder / ref))


@pytest.mark.parametrize("size", [4, 300])
def test_other_values_are_other_weights_in_the_same_graph(tmp_path, size):
    graph, held = digests(tmp_path, size=size)
    other_graph, other_held = digests(tmp_path, size=size, scale=2.0)

    assert (graph == other_graph, held == other_held) == (True, False)
    assert digests(tmp_path, size=size) == (graph, held)


def test_another_axis_is_another_graph_of_the_same_weights(tmp_path):
    graph, held = digests(tmp_path)
    other_graph, other_held = digests(tmp_path, axis=0)

    assert (graph == other_graph, held == other_held) == (False, True)


def test_weights_kept_in_the_graph_or_beside_it_have_one_digest(tmp_path):
    model = parser.parse_model(TEXT.format(size=300, values=", ".join(["1.0"] * 300), axis=1))
    inline = weights.digests(model)[1]
    ref, (blob,) = modelfile.save(model, None, tmp_path)

    assert weights.digests(modelfile.structure(tmp_path / ref))[1] == inline
    assert np.frombuffer((tmp_path / blob).read_bytes(), np.float32).tolist() == [1.0] * 300


def test_what_an_estimator_learned_is_weights():
    def scaler(scale: float) -> tuple[str, str]:
        text = f"""
            <ir_version: 10, opset_import: ["" : 18, "ai.onnx.ml" : 4]>
            g (float[n, 2] x) => (float[n, 2] y)
            {{ y = ai.onnx.ml.Scaler <offset = [0.0, 1.0], scale = [1.0, {scale}]> (x) }}
        """
        return weights.digests(parser.parse_model(text))

    (graph, held), (other_graph, other_held) = scaler(1.0), scaler(2.0)
    assert (graph == other_graph, held == other_held) == (True, False)
