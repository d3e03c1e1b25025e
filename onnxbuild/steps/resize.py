"""resize: other sizes along some axes; ONNX's Resize by `sizes`, coordinates half_pixel, without antialiasing.

The definition, axis by axis, n elements becoming m: element i is taken at x = (i + 0.5) / (m / n) - 0.5, in float32, as
ONNX's scales are. linear: between the elements around x, the first or last one where x lies beyond them. nearest: the one
nearest to x, the lower one of two as near (round_prefer_floor). Pixels that a smaller picture steps over count for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct, field

from onnxbuild.steps.interface import Tensor, UnfitError, axis_of, nothing_else, require_dtype, require_elements

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
AXES = 18  # the opset from which Resize has an attribute `axes`
LINEAR, NEAREST = ("float32",), ("float32", "uint8", "int8", "int32")  # of those that onnxruntime runs
takes = nothing_else


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Other sizes along some axes; ONNX's Resize, half_pixel, without antialiasing."""

    size: Annotated[
        list[Annotated[int, Meta(ge=1)]], Meta(min_length=1, description="One size for each axis: [height, width].")
    ]
    axes: Annotated[list[int], Meta(description="[1, 2] are height and width in NHWC, [2, 3] in NCHW.")] = field(
        default_factory=lambda: [1, 2]
    )
    mode: Annotated[
        Literal["linear", "nearest"], Meta(description="nearest is round_prefer_floor; linear takes float32.")
    ] = "linear"


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:
    """The new sizes on those axes. Raises UnfitError for another dtype, and for axes that don't match the sizes or may be
    empty.
    """
    (x,) = taken
    require_dtype(x, LINEAR if options.mode == "linear" else NEAREST)
    axes = [axis_of(x, axis) for axis in options.axes]
    if len(axes) != len(options.size) or len(set(axes)) != len(axes):
        fact = f"size has {len(options.size)} sizes for the axes {options.axes}"
        raise UnfitError(fact, "give one size for each axis, and each axis once")
    for axis in axes:
        require_elements(x, axis, least)
    return [Tensor(x.dtype, [*_sizes(x.shape, axes, options.size)])]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """The formula above, one axis after the other."""
    (x,) = taken
    along = _linear if options.mode == "linear" else _nearest
    for axis, size in zip(options.axes, options.size, strict=True):
        x = along(x, axis, size)
    return [x]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:
    """One Resize; the sizes of dynamic axes are read from the value itself where the opset is older than `axes`."""
    import numpy as np

    axes = [axis_of(tensors[0], axis) for axis in options.axes]
    asked: dict[str, Any] = {"mode": options.mode, "coordinate_transformation_mode": "half_pixel"}
    asked |= {"nearest_mode": "round_prefer_floor"} if options.mode == "nearest" else {}
    if graph.opset >= AXES:
        sizes = graph.constant("sizes", np.array(options.size, np.int64))
        return graph.node("Resize", [*taken, "", "", sizes], axes=axes, **asked)
    whole = _sizes(tensors[0].shape, axes, options.size)
    if all(isinstance(size, int) for size in whole):
        sizes = graph.constant("sizes", np.array(whole, np.int64))
        return graph.node("Resize", [*taken, "", "", sizes], **asked)
    shape = graph.node("Shape", taken)
    parts = []
    for axis, size in enumerate(whole):
        own = graph.constant(f"axis{axis}", np.array([axis if isinstance(size, str) else size], np.int64))
        parts += graph.node("Gather", [*shape, own], axis=0) if isinstance(size, str) else [own]
    return graph.node("Resize", [*taken, "", "", *graph.node("Concat", parts, axis=0)], **asked)


def _sizes(shape: Sequence[int | str], axes: Sequence[int], sizes: Sequence[int]) -> list[int | str]:
    new = dict(zip(axes, sizes, strict=True))
    return [new.get(axis, size) for axis, size in enumerate(shape)]


def _places(before: int, after: int) -> Array:
    """Where the new elements lie among the old ones, in float32."""
    import numpy as np

    scale, half = np.float32(after / before), np.float32(0.5)
    places: Array = (np.arange(after, dtype=np.float32) + half) / scale - half
    return places


def _linear(x: Array, axis: int, size: int) -> Array:
    import numpy as np

    if x.shape[axis] == size:
        return x
    places = np.clip(_places(x.shape[axis], size), 0, x.shape[axis] - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    part = (places - low).astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - axis % x.ndim))
    made: Array = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return made


def _nearest(x: Array, axis: int, size: int) -> Array:
    import numpy as np

    places = np.ceil(_places(x.shape[axis], size) - np.float32(0.5)).astype(np.int64)
    return np.take(x, np.clip(places, 0, x.shape[axis] - 1), axis)
