"""Operators of Core ML's MIL programs that move values about: gathering, slicing, padding, joining, splitting.

Each does to torch tensors what coremltools' documentation of the operator says. Knows no files and no programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from onnxbuild.runtimes.mil_layers import Op, Tensor


def gather(op: Op) -> Tensor:
    """`x` at `indices` of one axis; a negative one counts from the end."""
    axis, at = int(op.number("axis")), op.given["indices"].long()
    axis %= op.x.ndim
    at = torch.where(at < 0, at + op.x.shape[axis], at)
    return op.x.index_select(axis, at.reshape(-1)).reshape(op.shapes[0])


def along(op: Op) -> Tensor:
    """As `gather`, with indices of its own at every place."""
    axis, at = int(op.number("axis")), op.given["indices"].long()
    return op.x.gather(axis, torch.where(at < 0, at + op.x.shape[axis], at))


def gather_nd(op: Op) -> Tensor:
    """`x` at the places whose coordinates the last axis of `indices` holds."""
    return op.x[tuple(op.given["indices"].long().unbind(-1))]


_SCATTERED = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _scattered(op: Op, where: tuple[Any, ...]) -> Tensor:
    made, updates = op.given["data"].numpy().copy(), op.given["updates"].numpy()
    mode = op.text("mode", "add")
    if mode == "update":
        made[where] = updates
    else:
        _SCATTERED[mode].at(made, where, updates)
    return torch.from_numpy(made)


def scatter_along(op: Op) -> Tensor:
    """`data` with `updates` at `indices` of one axis, at every place."""
    at = op.given["indices"].numpy()
    axis = int(op.number("axis")) % at.ndim
    places = list(np.indices(at.shape))
    places[axis] = np.where(at < 0, at + op.given["data"].shape[axis], at)
    return _scattered(op, tuple(places))


def sliced(op: Op) -> Tensor:
    """From `begin` to `end` by `stride`, each over all axes; a mask leaves an end open, or takes an axis away."""
    rank = op.x.ndim
    begins, ends, strides = op.ints("begin"), op.ints("end"), op.ints("stride", [1] * rank)
    from_start, to_end, squeezed = (op.ints(f"{name}_mask", [0] * rank) for name in ("begin", "end", "squeeze"))
    places: list[Any] = []
    for axis in range(rank):
        whole = slice(None if from_start[axis] else begins[axis], None if to_end[axis] else ends[axis], strides[axis])
        places.append(begins[axis] if squeezed[axis] else whole)
    return torch.from_numpy(np.ascontiguousarray(op.x.numpy()[tuple(places)]))


def slice_by_size(op: Op) -> Tensor:
    """From `begin`, as much as the output holds."""
    starts = op.ints("begin")
    return op.x[tuple(slice(start, start + size) for start, size in zip(starts, op.shapes[0], strict=True))]


def split(op: Op) -> Sequence[Tensor]:
    """In as many parts along one axis as there are outputs, each of its own size."""
    axis = int(op.number("axis"))
    parts: Sequence[Tensor] = op.x.split([shape[axis] for shape in op.shapes], axis)
    return parts


def pad(op: Op) -> Tensor:
    """Wider at the last axes: `pad` holds two numbers for each of them."""
    pads = op.ints("pad")
    pairs = [(0, 0)] * (op.x.ndim - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[op.text("mode", "constant")]
    filled = {"constant_values": op.number("constant_val")} if mode == "constant" else {}
    made: Any = np.pad(op.x.numpy(), pairs, mode, **filled)  # type: ignore[call-overload]  # a mode that is computed
    return torch.from_numpy(made)


def depth_to_space(op: Op) -> Tensor:
    """Blocks of channels as places, depth first."""
    n, c, h, w = op.x.shape
    size = int(op.number("block_size"))
    parts = op.x.reshape(n, size, size, c // size**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(op.shapes[0])


def space_to_depth(op: Op) -> Tensor:
    """Places as blocks of channels, the other way round."""
    n, c, h, w = op.x.shape
    size = int(op.number("block_size"))
    parts = op.x.reshape(n, c, h // size, size, w // size, size)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(op.shapes[0])


def topk(op: Op) -> Sequence[Tensor]:
    """The largest along one axis, or the smallest, and where they are."""
    size = op.shapes[0][int(op.number("axis", -1))]
    values, at = op.x.topk(size, int(op.number("axis", -1)), largest=not op.flag("ascending"))
    return [values, at] if len(op.shapes) > 1 else [values]


def concat(op: Op) -> Tensor:
    """One after the other, or taking turns."""
    values, axis = op.given["values"], int(op.number("axis"))
    if op.flag("interleave"):
        return torch.stack(values, axis % values[0].ndim + 1).reshape(op.shapes[0])
    return torch.cat(values, axis)


def scatter_nd(op: Op) -> Tensor:
    """`data` with `updates` at the places whose coordinates the last axis of `indices` holds."""
    return _scattered(op, tuple(np.moveaxis(op.given["indices"].numpy(), -1, 0)))
