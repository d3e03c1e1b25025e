"""channels: some channels, in an order ([2, 1, 0] makes RGB of BGR); ONNX's Gather, numpy's `take`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.steps.interface import Tensor, UnfitError, axis_of, known_as, nothing_else

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
takes = nothing_else


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Channels by their numbers, in this order; ONNX's Gather."""

    order: Annotated[
        list[Annotated[int, Meta(ge=0)]], Meta(min_length=1, description="[2, 1, 0] makes RGB of BGR, and back.")
    ]
    axis: Annotated[int, Meta(description="That of the channels: -1 in NHWC, 1 in NCHW.")] = -1


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:  # noqa: ARG001  # the protocol's
    """As many channels as are named. Raises UnfitError where there is no such channel."""
    (x,) = taken
    axis = axis_of(x, options.axis)
    size = known_as(axis, x)
    if max(options.order) >= size:
        fact = f"there is no channel {max(options.order)}: axis {axis} has the size {size}"
        raise UnfitError(fact, "channels are counted from 0; axis: 1 is that of NCHW")
    return [Tensor(x.dtype, [*x.shape[:axis], len(options.order), *x.shape[axis + 1 :]])]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """`numpy.take(x, order, axis)`."""
    import numpy as np

    return [np.take(taken[0], options.order, options.axis)]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """One Gather."""
    import numpy as np

    order = graph.constant("order", np.array(options.order, np.int64))
    return graph.node("Gather", [*taken, order], axis=axis_of(tensors[0], options.axis))
