"""A custom torch operator that stays a node of its own in the ONNX graph (`symbolics: node` in a recipe)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.library.custom_op("onnxbuild_example::hysteresis", mutates_args=())
def hysteresis(x: Tensor, low: float, high: float) -> Tensor:
    """1 from the step at which x rises above `high` until it falls below `low`, else 0, along the last axis.

    Each step depends on the one before it: a job for a kernel, not for a chain of standard operators.
    """
    state = torch.zeros_like(x[..., 0])
    steps = []
    for value in x.unbind(-1):
        state = torch.where(value > high, 1.0, torch.where(value < low, 0.0, state))
        steps.append(state)
    return torch.stack(steps, -1)


@hysteresis.register_fake
def _(x: Tensor, low: float, high: float) -> Tensor:  # noqa: ARG001  # the shape doesn't depend on them
    return torch.empty_like(x)


class HysteresisGate(nn.Module):
    """Signals (N, T), float32, smoothed over five steps and silenced where the envelope is low.

    Args:
        low: envelope below which the gate closes.
        high: envelope above which it opens.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low = low
        self.high = high
        self.smooth = nn.AvgPool1d(5, stride=1, padding=2)

    def forward(self, signal: Tensor) -> Tensor:
        envelope = self.smooth(signal.abs().unsqueeze(1)).squeeze(1)
        return signal * hysteresis(envelope, self.low, self.high)
