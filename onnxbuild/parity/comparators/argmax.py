"""The share of rows whose largest element is where the reference's largest is.

argmax(a) = argmax(r) along an axis, as numpy.argmax has it, over all rows of a case; where several elements of the
reference are the largest, each of them is right. The agreement of two classifiers: S. Stanton et al., "Does Knowledge
Distillation Really Work?" (2021), section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from onnxbuild.parity.verdict import Agreement, Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ("axis",)
BESIDE = ""
VARIES: int | None = None
UNIT = ""
LEAST = "agreement"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The share of rows whose largest element is where the reference's is; of equal ones, each is right."""

    agreement: Agreement = 1.0
    axis: Annotated[int, Meta(description="The axis of the classes: 1 of a segmentation's [N, C, H, W].")] = -1


def figure(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], axis: int = -1) -> float:
    """The share, 1 of no rows at all. NaN counts as less than any number."""
    import numpy as np

    if not reference.size:
        return 1.0
    a, b = (np.where(np.isnan(x), -np.inf, x) for x in (got.astype(np.float64), reference.astype(np.float64)))
    chosen = np.take_along_axis(b, np.expand_dims(a.argmax(axis), axis), axis)
    return float((chosen == b.max(axis, keepdims=True)).mean())


def look(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], axis: int = -1) -> Look:  # noqa: ARG001  # the protocol's
    """Hollow where no choice is wrong: one class, or all of them equal."""
    import numpy as np

    if reference.dtype.kind in "OUS":
        return Look(refused="argmax is of numbers, and this output is of strings; 'exact' compares it")
    if not -reference.ndim <= axis < reference.ndim:
        return Look(refused=f"there is no axis {axis}: the shape is {list(reference.shape)}")
    if reference.shape[axis] == 1:
        return Look(hollow="there is one class: any graph would agree")
    whole = np.moveaxis(reference, axis, -1)
    tied = reference.size and bool((whole == whole[..., :1]).all())
    return Look(hollow="all classes have one value: any graph would agree" if tied else "")
