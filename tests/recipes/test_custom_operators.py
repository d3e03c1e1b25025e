"""The recipes with `symbolics`: an operator that is decomposed, and one that stays a node of its own."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.recipes


@pytest.mark.sample(2)
@pytest.mark.parametrize("recipe", ["swish", "swish-torchscript"])
def test_swish_is_standard_operators_and_right(build, models, recipe: str) -> None:
    import torch

    from recipes.models.swish import SwishNet

    torch.manual_seed(0)
    model = SwishNet(beta=1.5).eval()
    built = build(recipe)
    assert not [op for op in built.report["graphs"][-1]["ops"] if "::" in op]
    features = np.random.default_rng(5).standard_normal((7, 32), dtype=np.float32)
    [logits] = built.run(features=features)
    with torch.no_grad():
        hidden = model.hidden(torch.from_numpy(features))
        expected = model.head(hidden / (1 + torch.exp(-1.5 * hidden))).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


def hysteresis(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """An independent reading of the operator, one step and one signal at a time."""
    result = np.zeros_like(x)
    for signal, states in zip(x, result, strict=True):
        opened = False
        for step, value in enumerate(signal):
            opened = value > high or (opened and value >= low)
            states[step] = opened
    return result


@pytest.mark.parametrize("recipe", ["gate", "gate-torchscript"])
def test_gate_keeps_its_node(build, models, recipe: str) -> None:
    """onnxruntime has no kernel for it; onnx's own evaluator runs the graph with the one above."""
    import onnx
    import torch
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    from recipes.models.gate import HysteresisGate

    class Hysteresis(OpRun):
        op_domain = "com.example"

        def _run(self, x, low=None, high=None):
            return (hysteresis(x, low, high),)

    built = build(recipe)
    assert built.report["graphs"][-1]["ops"]["com.example::Hysteresis"] == 1
    rows = built.report["parity"]
    assert {row["status"] for row in rows} == {"not run"}
    assert all("Hysteresis" in row["note"] for row in rows)

    signal = np.random.default_rng(2).standard_normal((6, 50)).astype(np.float32)
    [gated] = ReferenceEvaluator(onnx.load(built.model), new_ops=[Hysteresis]).run(None, {"signal": signal})
    with torch.no_grad():
        expected = HysteresisGate(low=0.3, high=0.8).eval()(torch.from_numpy(signal)).numpy()
    assert 0 < np.count_nonzero(expected) < expected.size
    np.testing.assert_allclose(gated, expected, rtol=1e-5, atol=1e-6)
