"""normalize: (x - mean) / std, channel by channel, in the dtype of x; ONNX's Sub and Div.

The formula of torchvision.transforms.Normalize, along any axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.steps.interface import (
    FLOATS,
    Tensor,
    UnfitError,
    axis_of,
    known_as,
    nothing_else,
    require_dtype,
    require_numbers,
)

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
takes = nothing_else

Numbers = Annotated[list[float], Meta(min_length=1, description="One for all channels, or one for each.")]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """(x - mean) / std, in the units of x: mean 127, std 128 for a picture of 0 to 255."""

    mean: Numbers
    std: Numbers
    axis: Annotated[int, Meta(description="That of the channels: -1 in NHWC, 1 in NCHW.")] = -1


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:  # noqa: ARG001  # the protocol's
    """The same. Raises UnfitError for anything but floats, another number of channels, and numbers beyond the dtype."""
    require_dtype(taken[0], FLOATS)
    axis = axis_of(taken[0], options.axis)
    for name, values in (("mean", options.mean), ("std", options.std)):
        if len(values) > 1 and len(values) != known_as(axis, taken[0]):
            fact = f"{name} has {len(values)} values, and axis {axis} has the size {taken[0].shape[axis]}"
            raise UnfitError(fact, "give one for all channels, or one for each; axis: 1 is that of NCHW")
    if 0.0 in options.std:
        raise UnfitError("std is 0 for some channel", "nothing can be divided by 0: leave the channel at 1")
    require_numbers(taken[0], "mean", options.mean)
    require_numbers(taken[0], "std", options.std, nonzero=True)
    return [taken[0]]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """`(x - mean) / std`, both in the dtype of x."""
    (x,) = taken
    mean, std = (_along(values, options.axis % x.ndim, x.ndim, x.dtype) for values in (options.mean, options.std))
    return [(x - mean) / std]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """Sub and Div."""
    (x,) = tensors
    axis, rank = axis_of(x, options.axis), len(x.shape)
    less = graph.node("Sub", [*taken, graph.constant("mean", _along(options.mean, axis, rank, x.dtype))])
    return graph.node("Div", [*less, graph.constant("std", _along(options.std, axis, rank, x.dtype))])


def _along(values: Sequence[float], axis: int, rank: int, dtype: object) -> Array:
    """Values that lie along an axis, with the axes behind it."""
    import numpy as np

    return np.array(values, dtype).reshape(-1, *[1] * (rank - 1 - axis))  # type: ignore[call-overload, no-any-return]
