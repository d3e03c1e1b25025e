"""Operators of Core ML's MIL programs whose result depends on windows, states or positions: convolution, pooling,
resizing, normalization, recurrence.

Each computes with torch in float32 what coremltools' documentation of the operator says
(apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html). Knows no files and no programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from msgspec import Struct

Tensor: TypeAlias = torch.Tensor
INFINITE = float("inf")


class Op(Struct, frozen=True):
    """An operation with its values: tensors, texts, or lists of tensors by parameter; `shapes` are those of its outputs."""

    kind: str
    given: dict[str, Any]
    shapes: list[list[int]]

    @property
    def x(self) -> Tensor:
        """What most operators call their input."""
        found: Tensor = self.given["x"]
        return found

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """A parameter as whole numbers."""
        return [int(value) for value in self.given[name].reshape(-1)] if name in self.given else list(default)

    def number(self, name: str, default: float = 0.0) -> float:
        """A parameter as a number."""
        return float(self.given[name]) if name in self.given else default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A parameter that is true or false."""
        return bool(self.given[name]) if name in self.given else default

    def text(self, name: str, default: str = "") -> str:
        """A parameter that is a word."""
        return str(self.given.get(name, default))


def _pads(op: Op, kernel: Sequence[int], strides: Sequence[int], spatial: Sequence[int]) -> list[tuple[int, int]]:
    """How much is added before and after each spatial axis."""
    kind = op.text("pad_type", "valid")
    if kind == "custom":
        pads = op.ints("pad", [0] * 2 * len(kernel))
        return list(zip(pads[::2], pads[1::2], strict=True))
    if kind == "valid":
        return [(0, 0)] * len(kernel)
    totals = [
        max(0, (-(-size // step) - 1) * step + width - size)
        for size, width, step in zip(spatial, kernel, strides, strict=True)
    ]
    less = [(total // 2, total - total // 2) for total in totals]
    return [(after, before) for before, after in less] if kind == "same_lower" else less


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    return F.pad(x, [size for pair in reversed(pads) for size in pair], value=value)


def conv(op: Op) -> Tensor:
    """`x` [n, C_in, *D], `weight` [C_out, C_in / groups, *K]."""
    x, weight = op.x, op.given["weight"]
    rank = x.ndim - 2
    strides, dilations = op.ints("strides", [1] * rank), op.ints("dilations", [1] * rank)
    kernel = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True)]
    call = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    padded = _padded(x, _pads(op, kernel, strides, x.shape[2:]))
    return call(padded, weight, op.given.get("bias"), strides, 0, dilations, int(op.number("groups", 1)))


def conv_transpose(op: Op) -> Tensor:
    """`x` [n, C_in, *D], `weight` [C_in, C_out / groups, *K]; what `pad` names is cut from the whole."""
    x, weight = op.x, op.given["weight"]
    rank = x.ndim - 2
    strides, dilations = op.ints("strides", [1] * rank), op.ints("dilations", [1] * rank)
    call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    whole = call(x, weight, op.given.get("bias"), strides, 0, 0, int(op.number("groups", 1)), dilations)
    before = op.ints("pad", [0] * 2 * rank)[::2]
    for axis, (start, size) in enumerate(zip(before, op.shapes[0][2:], strict=True), 2):
        lacking = start + size - whole.shape[axis]
        if lacking > 0:  # output_shape asks for rows that only the bias reaches
            wider = [*whole.shape[:axis], lacking, *whole.shape[axis + 1 :]]
            bias = op.given.get("bias", torch.zeros(whole.shape[1]))
            whole = torch.cat([whole, bias.reshape(1, -1, *[1] * rank).expand(wider)], axis)
        whole = whole.narrow(axis, start, size)
    return whole


def pool(op: Op) -> Tensor:
    """`max_pool`, `avg_pool` and `l2_pool`: as many windows as the output has; the last may reach past the padding."""
    x = op.x.square() if op.kind == "l2_pool" else op.x
    kernel = op.ints("kernel_sizes")
    rank = len(kernel)
    strides = op.ints("strides", [1] * rank)
    pads = _pads(op, kernel, strides, x.shape[2:])
    reach = [(size - 1) * step + width for size, step, width in zip(op.shapes[0][2:], strides, kernel, strict=True)]
    past = [max(0, end - size - sum(pad)) for end, size, pad in zip(reach, x.shape[2:], pads, strict=True)]
    beyond = [(0, size) for size in past]
    if op.kind == "max_pool":
        wide = _padded(_padded(x, pads, -INFINITE), beyond, -INFINITE)
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1](wide, kernel, strides)
    mean = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    wide = _padded(_padded(x, pads), beyond)
    if op.kind == "l2_pool":
        count = 1
        for size in kernel:
            count *= size
        return (mean(wide, kernel, strides) * count).sqrt()
    ones = torch.ones(1, 1, *x.shape[2:])
    counted = _padded(_padded(ones, pads, 0.0 if op.flag("exclude_padding_from_average") else 1.0), beyond)
    return mean(wide, kernel, strides) / mean(counted, kernel, strides)


def _places(size: int, wanted: int, mode: str) -> Tensor:
    """Where the samples of a resized axis lie on the axis as it was; see `resize_bilinear`'s notes."""
    steps = torch.arange(wanted, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0
        found = steps * ((size - 1) / (wanted - 1)) if wanted > 1 else steps + alone
    elif mode == "DEFAULT":
        found = steps * (size / wanted)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / wanted
        found = steps * delta + delta / 2
    else:  # UNALIGN_CORNERS
        found = (steps + 0.5) * (size / wanted) - 0.5
    return found.clamp(0, size - 1)


def bilinear(op: Op) -> Tensor:
    """`resize_bilinear` and `upsample_bilinear`, which recomputes its factors from the sizes."""
    mode = op.text("sampling_mode", "DEFAULT")
    if op.kind == "upsample_bilinear":
        mode = "STRICT_ALIGN_CORNERS" if op.flag("align_corners", default=True) else "UNALIGN_CORNERS"
    made = op.x
    for axis in (-2, -1):
        at = _places(made.shape[axis], op.shapes[0][axis], mode)
        low = at.floor().long()
        high = (low + 1).clamp(max=made.shape[axis] - 1)
        part = (at - low).float().reshape(-1, *[1] * (-axis - 1))
        made = made.index_select(axis, low) * (1 - part) + made.index_select(axis, high) * part
    return made


def nearest(op: Op) -> Tensor:
    """`resize_nearest_neighbor` and `upsample_nearest_neighbor`."""
    made = op.x
    for axis in (-2, -1):
        at = _places(made.shape[axis], op.shapes[0][axis], "DEFAULT")
        made = made.index_select(axis, at.floor().long())
    return made


def resample(op: Op) -> Tensor:
    """Samples at `coordinates` [n, h, w, 2] between -1 and 1; see `unsupported` for what else there is."""
    padding = {"constant": "zeros", "border": "border"}.get(op.text("padding_mode"), "reflection")
    align = op.flag("align_corners")
    return F.grid_sample(op.x, op.given["coordinates"], op.text("sampling_mode", "bilinear"), padding, align)


def batch_norm(op: Op) -> Tensor:
    """Over axis 1, by the statistics that are given."""
    gamma, beta = op.given.get("gamma"), op.given.get("beta")
    return F.batch_norm(
        op.x, op.given["mean"], op.given["variance"], gamma, beta, eps=op.number("epsilon", 1e-5), training=False
    )


def instance_norm(op: Op) -> Tensor:
    """Over the spatial axes of each channel."""
    axes = list(range(2, op.x.ndim))
    normed = _normed(op.x, axes, op.number("epsilon", 1e-5))
    shape = [1, -1, *[1] * len(axes)]
    return _scaled(normed, op, shape)


def layer_norm(op: Op) -> Tensor:
    """Over `axes`, with one factor for each place in them."""
    axes = [axis % op.x.ndim for axis in op.ints("axes", range(op.x.ndim))]
    normed = _normed(op.x, axes, op.number("epsilon", 1e-5))
    shape = [size if axis in axes else 1 for axis, size in enumerate(op.x.shape)]
    return _scaled(normed, op, shape)


def _normed(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + epsilon).sqrt()


def _scaled(x: Tensor, op: Op, shape: list[int]) -> Tensor:
    x = x * op.given["gamma"].reshape(shape) if "gamma" in op.given else x
    return x + op.given["beta"].reshape(shape) if "beta" in op.given else x


def l2_norm(op: Op) -> Tensor:
    """Over the last three axes."""
    return op.x / (op.x.square().sum([-3, -2, -1], keepdim=True) + op.number("epsilon", 1e-6)).sqrt()


def local_response_norm(op: Op) -> Tensor:
    """Over `size` neighbouring channels."""
    size, alpha = int(op.number("size")), op.number("alpha", 1e-4)
    return F.local_response_norm(op.x, size, alpha, op.number("beta", 0.75), op.number("k", 1.0))


ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "linear": torch.clone,
}


def lstm(op: Op) -> list[Tensor]:
    """`x` [s, b, I], states [b, directions * H], weights [4 * H, ...] in the order input, forget, output, cell."""
    both = op.text("direction", "forward") == "bidirectional"
    hidden = op.given["weight_hh"].shape[1]
    made = []
    for number, back in enumerate(("", "_back") if both else ("",)):
        here = slice(number * hidden, (number + 1) * hidden)
        x = op.x.flip(0) if back else op.x
        steps, cell = _lstm_steps(op, x, back, op.given["initial_h"][:, here], op.given["initial_c"][:, here])
        made.append((steps.flip(0) if back else steps, steps[-1], cell))
    every, last, cells = (torch.cat(parts, -1) for parts in zip(*made, strict=True))
    return [every if op.flag("output_sequence") else last[None], last, cells]


def _lstm_steps(op: Op, x: Tensor, back: str, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    gate, cell, out = (
        ACTIVATIONS[op.text(name, default)]
        for name, default in (("recurrent_activation", "sigmoid"), ("cell_activation", "tanh"), ("activation", "tanh"))
    )
    entering = x @ op.given[f"weight_ih{back}"].T + op.given.get(f"bias{back}", torch.zeros(1))
    weight = op.given[f"weight_hh{back}"].T
    steps = []
    for step in entering:
        i, f, o, z = (step + h @ weight).chunk(4, -1)
        z = z.clamp(-op.number("clip"), op.number("clip")) if "clip" in op.given else z
        c = gate(f) * c + gate(i) * cell(z)
        h = gate(o) * out(c)
        steps.append(h)
    return torch.stack(steps), c
