"""The cosine of the angle between an output and the reference: whether they point the same way, at whatever length.

cos(a, b) = a.b / (|a| |b|), in float64; see G. Salton and M. McGill, "Introduction to Modern Information Retrieval" (1983),
and torch.nn.functional.cosine_similarity. A graph whose output is twice the reference has a cosine of 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.parity.verdict import Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ("axis",)
BESIDE = ""
VARIES: int | None = None
UNIT = ""
LEAST = "min"
SCALE = 0.05  # by which two lengths may differ without a word


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """a.b / (|a| |b|) over all of a case's elements, in float64. It does not see scale; `sqnr` beside it does."""

    min: Annotated[float, Meta(gt=0, le=1, description="The least cosine at any case.")]
    axis: (
        Annotated[
            int, Meta(description="Of the vectors along this axis, the least cosine; without it, one vector in all.")
        ]
        | UnsetType
    ) = UNSET


def figure(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], axis: int | None = None) -> float:
    """The cosine of two arrays of one shape, the least one of the vectors along `axis` where that is given.

    What is not finite on both sides is left out. Two vectors of zeros are alike; zeros and anything else have a cosine of 0.
    """
    import numpy as np

    a, b = got.astype(np.float64), reference.astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(both, a, 0.0), np.where(both, b, 0.0)
    largest = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)) or 1.0
    a, b = a / largest, b / largest  # squares of large numbers are no numbers
    if axis is None:
        a, b, axis = a.reshape(-1), b.reshape(-1), -1
    one, other = np.sqrt((a * a).sum(axis)), np.sqrt((b * b).sum(axis))
    # |a| |b| - a.b, without the difference of two numbers that are nearly the same
    apart = (((a - b) ** 2).sum(axis) - (one - other) ** 2) / 2
    zeros = np.where(one == other, 0.0, 1.0)
    product = one * other
    loss = np.where(product > 0, apart / np.where(product > 0, product, 1.0), zeros)
    return float(1.0 - np.clip(loss, 0.0, 2.0).max(initial=0.0))


def look(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], axis: int | None = None) -> Look:
    """No strings; hollow where a direction is no news: vectors of one element, or of one value throughout."""
    import numpy as np

    if reference.dtype.kind in "OUSb":
        kind = "bool" if reference.dtype.kind == "b" else "strings"
        return Look(refused=f"a cosine is of numbers, and this output is of {kind}; 'exact' compares it")
    if axis is not None and not -reference.ndim <= axis < reference.ndim:
        return Look(refused=f"there is no axis {axis}: the shape is {list(reference.shape)}")
    whole = reference.astype(np.float64)
    hollow = ""
    if (reference.size if axis is None else reference.shape[axis]) == 1:
        hollow = "one number has no direction, but for its sign"
    elif (known := whole[np.isfinite(whole)]).size and bool((known == known[0]).all()):
        hollow = "all values are one, and any other such output points the same way"
    finite = np.isfinite(whole) & np.isfinite(got.astype(np.float64))
    largest = np.abs(whole[finite]).max(initial=0.0) or 1.0
    one, other = (float(np.sqrt(((x[finite].astype(np.float64) / largest) ** 2).sum())) for x in (got, reference))
    ratio = one / other if other else 1.0
    blind = f"it is {ratio:.3g} times as long as the reference, which a cosine does not see: name sqnr beside it"
    return Look(hollow=hollow, unseen=blind if abs(ratio - 1) > SCALE else "")
