"""softmax: exp(x - max) / sum(exp(x - max)) along one axis; ONNX's Softmax as it is from opset 13 on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.steps.interface import FLOATS, Tensor, axis_of, nothing_else, require_dtype, require_elements

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
takes = nothing_else


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Probabilities along one axis."""

    axis: Annotated[int, Meta(description="Counted from 0; -1 is the last.")] = -1


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:
    """The same. Raises UnfitError for anything but floats, and where there is no such axis or nothing on it."""
    require_dtype(taken[0], FLOATS)
    require_elements(taken[0], axis_of(taken[0], options.axis), least)
    return [taken[0]]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """In float64, and then in the dtype of x."""
    import numpy as np

    (x,) = taken
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(options.axis, keepdims=True))
    return [(powers / powers.sum(options.axis, keepdims=True)).astype(x.dtype)]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """One Softmax."""
    return graph.node("Softmax", taken, axis=axis_of(tensors[0], options.axis))
