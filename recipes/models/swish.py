"""A custom torch operator that standard ONNX operators can express, and how (`symbolics: decompose` in a recipe)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.library.custom_op("onnxbuild_example::swish", mutates_args=())
def swish(x: Tensor, beta: float) -> Tensor:
    """x * sigmoid(beta * x), element by element (https://arxiv.org/abs/1710.05941)."""
    return x * torch.sigmoid(beta * x)


@swish.register_fake
def _(x: Tensor, beta: float) -> Tensor:  # noqa: ARG001  # the shape doesn't depend on it, the signature does
    return torch.empty_like(x)


def swish_to_onnx(op: Any, x: Any, beta: float) -> Any:
    """The same in ONNX: `op` makes a node per call, x is a value of the graph, beta a plain number."""
    return op.Mul(x, op.Sigmoid(op.Mul(x, beta)))


class SwishNet(nn.Module):
    """Feature vectors (N, 32), float32, to logits (N, 10)."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.hidden = nn.Linear(32, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(swish(self.hidden(x), self.beta))
