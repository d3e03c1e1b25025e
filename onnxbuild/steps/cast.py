"""cast: the same values in another dtype; ONNX's Cast, numpy's `astype`.

From floats to integers both cut off what is behind the point; ONNX leaves open what a value beyond the dtype becomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from onnxbuild.steps.interface import Tensor, UnfitError, nothing_else

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()

Name = Literal[
    "float16", "float32", "float64",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
]  # fmt: skip
Options = Annotated[Name, Meta(description="The same values in this dtype; ONNX's Cast.")]
takes = nothing_else


def gives(taken: Sequence[Tensor], options: str, least: Mapping[str, int]) -> list[Tensor]:  # noqa: ARG001  # the protocol's
    """The same shape. Raises UnfitError for text."""
    if taken[0].dtype == "string":
        raise UnfitError("text is not cast to numbers", "feed the model numbers")
    return [Tensor(options, taken[0].shape)]


def compute(taken: Sequence[Array], options: str) -> list[Array]:
    """`x.astype(dtype)`."""
    import numpy as np

    with np.errstate(all="ignore"):
        return [taken[0].astype(options)]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: str) -> list[str]:  # noqa: ARG001  # the protocol's
    """One Cast."""
    import numpy as np
    from onnx.helper import np_dtype_to_tensor_dtype

    return graph.node("Cast", taken, to=int(np_dtype_to_tensor_dtype(np.dtype(options))))
