"""top_k: the k largest values along one axis, the largest first, and where they lie; ONNX's TopK.

Of equal values the one of the lower index comes first, as ONNX has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.steps.interface import Tensor, UnfitError, axis_of, nothing_else, require_dtype

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
DTYPES = ("float32", "float64", "int32", "int64")  # that onnxruntime runs
takes = nothing_else


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The k largest values along one axis, the largest first, and their indices (int64): two outputs."""

    k: Annotated[int, Meta(ge=1, description="How many; no more than the axis ever has.")]
    axis: Annotated[int, Meta(description="Counted from 0; -1 is the last.")] = -1


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:
    """The axis with k elements, twice. Raises UnfitError where the axis may be shorter than k."""
    (x,) = taken
    require_dtype(x, DTYPES)
    axis = axis_of(x, options.axis)
    size = x.shape[axis]
    shortest = least.get(size, options.k) if isinstance(size, str) else size
    if shortest < options.k:
        fact = f"k is {options.k}, and axis {axis} has {size if size == shortest else f'{shortest} at least ({size})'}"
        raise UnfitError(fact, f"lower it to {shortest}" if size == shortest else f"let {size} start at {options.k}")
    shape = [*x.shape[:axis], options.k, *x.shape[axis + 1 :]]
    return [Tensor(x.dtype, shape), Tensor("int64", shape)]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """A stable sort, from the end: of equal values the lower index comes first."""
    import numpy as np

    (x,) = taken
    axis = options.axis
    backwards = np.argsort(np.flip(x, axis), axis, kind="stable")
    order = np.take(x.shape[axis] - 1 - np.flip(backwards, axis), np.arange(options.k), axis).astype(np.int64)
    return [np.take_along_axis(x, order, axis), order]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """One TopK."""
    import numpy as np

    k = graph.constant("k", np.array([options.k], np.int64))
    return graph.node("TopK", [*taken, k], 2, axis=axis_of(tensors[0], options.axis), largest=1, sorted=1)
