"""layout: the axes in another order, each named by a letter (NHWC->NCHW); ONNX's Transpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from onnxbuild.steps.interface import Tensor, UnfitError, nothing_else, shown

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
takes = nothing_else

Options = Annotated[
    str,
    Meta(
        pattern=r"^[A-Z]{1,8}->[A-Z]{1,8}$(?!\n)",
        description="The axes in another order, each a letter of its own: NHWC->NCHW. ONNX's Transpose.",
        extra_json_schema={"x-expected": "two layouts of the same letters, such as NHWC->NCHW"},
    ),
]


def gives(taken: Sequence[Tensor], options: str, least: Mapping[str, int]) -> list[Tensor]:  # noqa: ARG001  # the protocol's
    """The axes, moved. Raises UnfitError where the letters are not the same, or not as many as there are axes."""
    before, _, after = options.partition("->")
    if len(set(before)) != len(before) or sorted(before) != sorted(after):
        raise UnfitError(f"'{options}' does not name the same axes on both sides, each once", "such as NHWC->NCHW")
    if len(before) != len(taken[0].shape):
        raise UnfitError(f"'{before}' names {len(before)} axes, and gets {shown(taken[0])}", "name every axis")
    return [Tensor(taken[0].dtype, [taken[0].shape[axis] for axis in _order(options)])]


def compute(taken: Sequence[Array], options: str) -> list[Array]:
    """`x.transpose(order)`."""
    return [taken[0].transpose(_order(options))]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: str) -> list[str]:  # noqa: ARG001  # the protocol's
    """One Transpose."""
    return graph.node("Transpose", taken, perm=_order(options))


def _order(options: str) -> list[int]:
    before, _, after = options.partition("->")
    return [before.index(letter) for letter in after]
