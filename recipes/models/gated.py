"""Data-dependent control flow: quiet audio frames take one branch of the network, loud ones another.

Each exporter understands one spelling: torch.export wants `torch.cond`, TorchScript a scripted `if`. Both compute the
same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """The two branches, and what decides between them.

    Args:
        features: size of a frame.
        threshold: mean absolute amplitude above which a batch of frames counts as loud.
    """

    def __init__(self, features: int, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.deep = nn.Sequential(nn.Linear(features, 128), nn.GELU(), nn.Linear(128, features))
        self.shallow = nn.Linear(features, features)

    def is_loud(self, frames: Tensor) -> Tensor:
        return frames.abs().mean() > self.threshold

    def loud(self, frames: Tensor) -> Tensor:
        return self.deep(frames).tanh()

    def quiet(self, frames: Tensor) -> Tensor:
        return 0.1 * self.shallow(frames)


class CondGate(Branches):
    """Frames (N, features), float32, to frames of the same shape, by `torch.cond`."""

    def forward(self, frames: Tensor) -> Tensor:
        return torch.cond(self.is_loud(frames), self.loud, self.quiet, (frames,))


class ScriptGate(Branches):
    """Frames (N, features), float32, to frames of the same shape, by Python's own."""

    def forward(self, frames: Tensor) -> Tensor:
        return self.loud(frames) if bool(self.is_loud(frames)) else self.quiet(frames)


def scripted(features: int, threshold: float) -> torch.jit.ScriptModule:
    """`ScriptGate`, compiled: tracing it would keep only the branch that the example takes."""
    return torch.jit.script(ScriptGate(features, threshold))
