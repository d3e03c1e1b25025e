"""argmax: where the largest value lies along one axis, the first of several; ONNX's ArgMax, numpy's `argmax`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.steps.interface import Tensor, axis_of, nothing_else, require_dtype, require_elements

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
DTYPES = ("float32", "float64", "int8", "uint8", "int32")  # that onnxruntime runs
takes = nothing_else


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the largest value lies along one axis, as int64; the first of several."""

    axis: Annotated[int, Meta(description="Counted from 0; -1 is the last.")] = -1
    keepdims: Annotated[bool, Meta(description="Leave the axis there, with a size of 1.")] = False


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:
    """int64, without that axis, or with 1 there. Raises UnfitError for another dtype, and where there is no such axis or
    nothing on it.
    """
    (x,) = taken
    require_dtype(x, DTYPES)
    axis = axis_of(x, options.axis)
    require_elements(x, axis, least)
    return [Tensor("int64", [*x.shape[:axis], *([1] if options.keepdims else []), *x.shape[axis + 1 :]])]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """`x.argmax(axis)`."""
    import numpy as np

    return [np.asarray(taken[0].argmax(options.axis, keepdims=options.keepdims), np.int64)]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """One ArgMax."""
    axis = axis_of(tensors[0], options.axis)
    return graph.node("ArgMax", taken, axis=axis, keepdims=int(options.keepdims), select_last_index=0)
