"""scale: x * factor + offset, in the dtype of x; ONNX's Mul and Add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.steps.interface import FLOATS, Tensor, nothing_else, require_dtype, require_numbers

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
takes = nothing_else


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """x * factor + offset."""

    factor: Annotated[float, Meta(description="Such as 0.00392156862745098 for 1/255.")]
    offset: Annotated[float, Meta(description="Added afterwards.")] = 0.0


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:  # noqa: ARG001  # the protocol's
    """The same. Raises UnfitError for anything but floats, and for numbers that their dtype does not hold."""
    require_dtype(taken[0], FLOATS)
    require_numbers(taken[0], "factor", [options.factor], nonzero=True)
    require_numbers(taken[0], "offset", [options.offset])
    return [taken[0]]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """`x * factor + offset`, both numbers in the dtype of x."""
    import numpy as np

    (x,) = taken
    factor, offset = (np.array(value, x.dtype) for value in (options.factor, options.offset))
    return [x * factor + offset]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """Mul, and Add where there is an offset."""
    import numpy as np

    made = graph.node("Mul", [*taken, graph.constant("factor", np.array(options.factor, tensors[0].dtype))])
    if options.offset:
        made = graph.node("Add", [*made, graph.constant("offset", np.array(options.offset, tensors[0].dtype))])
    return made
