"""Tiny models, each one way in which real models differ. The project folder of the torch tests."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import onnx
import torch
from torch import nn


class Conv(nn.Module):
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, 40)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


class WrongElsewhere(nn.Module):
    """Exports cleanly under TorchScript, and holds at the example's batch only."""

    def forward(self, x):
        y = x * 2
        n = int(x.shape[0])
        return y.reshape(n, -1).sum(1).reshape(n, 1)


class Answers(nn.Module):
    """A dict that nests, with a None; keyword-only inputs; two input types; a constant argument."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(10, 64)

    def forward(self, ids, *, mask, scale: float = 1.0):
        hidden = self.emb(ids) * mask[..., None] * scale
        return {"hidden": hidden, "extra": (hidden.sum(1), mask > 0), "none": None}


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Dataclass(nn.Module):
    def forward(self, x):
        return Output(x * 3)


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Named(nn.Module):
    def forward(self, x):
        return Pair(x - 1, x + 1)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x, state):
        return self.lstm(x, state)


class Cond(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda t: t * 2, lambda t: t - 1, (x,))


@torch.jit.script
def branch(x):
    if bool(x.sum() > 0):
        return x * 2
    return x - 1


class Scripted(nn.Module):
    def forward(self, x):
        return branch(x)


class Doubled(nn.Module):
    """An input as an output, and one tensor as two."""

    def forward(self, x):
        y = x + 1
        return x, y, y


class Unused(nn.Module):
    def forward(self, x, y):
        return x + 1


class Fixed(nn.Module):
    """Fixes the size of an axis, whoever declares it dynamic."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bias", torch.arange(4.0))

    def forward(self, x):
        return x + self.bias


class Positions(nn.Module):
    """Works up to 6 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(6, 4)

    def forward(self, x):
        return x + self.emb(torch.arange(x.shape[1]))


class Hollow(nn.Module):
    def forward(self, x):
        return x * 0, x / 0 - x / 0, x[:0], x + 1


class Noisy(nn.Module):
    def forward(self, x):
        warnings.warn("look at this", stacklevel=1)
        return x + 1


class Namesakes(nn.Module):
    """Its values get names in the graph ("embedding", "weight", "relu") that a recipe may want for the outputs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))

    def forward(self, ids):
        found = nn.functional.embedding(ids, self.weight)
        return found.relu() * self.weight.sum(), found.sum(-1)


class Half(nn.Module):
    def forward(self, x):
        return x * 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(16, 32)
        self.out = nn.Linear(32, 16, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, ids):
        return self.out(self.emb(ids))


class Breaks(nn.Module):
    def forward(self, x):
        raise RuntimeError("not today")


@torch.library.custom_op("onnxbuildtest::swish", mutates_args=())
def swish(x: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    return x * torch.sigmoid(beta * x)


@swish.register_fake
def _(x, beta=1.0):
    return torch.empty_like(x)


@torch.library.custom_op("onnxbuildtest::halves", mutates_args=())
def halves(x: torch.Tensor, bias: torch.Tensor | None, sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.split(x, sizes, 1)
    return (a + bias if bias is not None else a).clone(), b.clone()


@halves.register_fake
def _(x, bias, sizes):
    return x.new_empty(x.shape[0], sizes[0]), x.new_empty(x.shape[0], sizes[1])


class Swish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(torch.ops.onnxbuildtest.swish(x, 1.5)).reshape(-1, 4, 2)


class SwishByBatch(nn.Module):
    def forward(self, x):
        return torch.ops.onnxbuildtest.swish(x, float(x.size(0)))


def scripted_swish():
    return torch.jit.script(SwishByBatch())


class Halves(nn.Module):
    def forward(self, x):
        return torch.ops.onnxbuildtest.halves(x, None, [3, 5])


def swish_in_onnx(op, x, beta):
    return op.Clip(op.Mul(x, op.Sigmoid(op.Mul(x, beta))), max=100.0)


def swish_of_constants(op, x, beta):
    zero = op.Constant(value=onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT, [], [0.0]))
    swish = op.Add(op.Mul(x, op.Sigmoid(op.Mul(x, beta))), zero)
    swish = op.Clip(swish, op.Constant(value_float=-100.0), op.Constant(value_float=100.0))
    swish = op.Mul(swish, op.Constant(value_floats=[1.0] * 8))
    swish = op.Mul(swish, op.Cast(op.Constant(value_int=1), to=onnx.TensorProto.FLOAT))
    return op.Reshape(swish, op.Constant(value_ints=[-1, 8]))


def swish_of_text(op, x, beta):
    op.Constant(value_string="no such tensor in TorchScript")
    return swish_in_onnx(op, x, beta)


def halves_in_onnx(op, x, bias, *, sizes):
    assert bias is None
    first = op.Slice(x, [0], [sizes[0]], [1])
    second = op.Slice(x, [sizes[0]], [sum(sizes)], [1])
    return first, op.LeakyRelu(op.Abs(second), alpha=0.1)


def bert():
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return BertModel(BertConfig(vocab_size=50, max_position_embeddings=64, **sizes))


def scripted_conv():
    return torch.jit.script(Conv())


def not_a_module():
    return 3


class Counting(nn.Module):
    """Adds how often it was called, which is kept in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return x + self.seen


class Streaming(nn.Module):
    """Keeps its state in a plain attribute, made anew where the batch is another."""

    def __init__(self) -> None:
        super().__init__()
        self.h = None

    def forward(self, x):
        h = torch.zeros_like(x) if self.h is None or self.h.shape != x.shape else self.h
        self.h = 0.5 * h + x
        return self.h


class Dropping(nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x)


class Training(nn.Module):
    """Batch norm whose running statistics, left to train, are used as well."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        norm = self.norm
        torch.nn.functional.batch_norm(x, norm.running_mean, norm.running_var, training=True)
        return norm(x)


class Jittery(nn.Module):
    def forward(self, x):
        return x + 0.01 * torch.randn_like(x)


class Caching(nn.Module):
    """A table that is made once and is always the same."""

    def __init__(self) -> None:
        super().__init__()
        self.table = None

    def forward(self, x):
        if self.table is None or len(self.table) < x.shape[0]:
            self.table = torch.arange(2 * x.shape[0], dtype=x.dtype)
        return x + self.table[: x.shape[0], None]


class Logging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * 2


class Seeded(nn.Module):
    def forward(self, x):
        torch.manual_seed(0)
        return x + torch.randn_like(x)


class Choosy(nn.Module):
    def forward(self, x, unused, flag):
        return x * 2 if bool((flag == 1).all()) else -x


class NanAtThree(nn.Module):
    def forward(self, x):
        return x * float("nan") if x.shape[0] == 3 else x
