"""The share of the graph's k largest elements along an axis that are among the reference's k largest.

For a row, |top_k(a) n top_k(r)| / k; over all rows of a case, the mean. An element of the reference that ties with its
k-th counts as among them, since any of those is a right answer. The graph's are taken as ONNX's TopK does, of equal ones
the first. Overlap at depth k: W. Webber, A. Moffat, J. Zobel, "A Similarity Measure for Indefinite Rankings" (2010).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from onnxbuild.parity.verdict import Agreement, Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ("k", "axis")
BESIDE = ""
VARIES: int | None = None
UNIT = ""
LEAST = "agreement"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the graph's k largest that are among the reference's k largest, ties with the k-th included."""

    k: Annotated[int, Meta(ge=1, description="How many of the largest.")]
    agreement: Agreement = 1.0
    axis: Annotated[int, Meta(description="The axis of the classes.")] = -1


def figure(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], k: int, axis: int = -1) -> float:
    """The share, 1 of no rows at all. NaN counts as less than any number."""
    import numpy as np

    if not reference.size:
        return 1.0
    a, b = (np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]).astype(np.float64) for x in (got, reference))
    a, b = np.where(np.isnan(a), -np.inf, a), np.where(np.isnan(b), -np.inf, b)
    few = min(k, a.shape[1])
    first = np.argsort(-a, axis=1, kind="stable")[:, :few]
    kth = np.sort(b, axis=1)[:, -few, None]
    return float((np.take_along_axis(b, first, 1) >= kth).mean())


def look(
    got: np.ndarray[Any, Any],  # noqa: ARG001  # the protocol's
    reference: np.ndarray[Any, Any],
    k: int,
    axis: int = -1,
) -> Look:
    """Hollow where no choice is wrong: no more classes than k, or none of them less than the k-th."""
    import numpy as np

    if reference.dtype.kind in "OUS":
        return Look(refused="top_k is of numbers, and this output is of strings; 'exact' compares it")
    if not -reference.ndim <= axis < reference.ndim:
        return Look(refused=f"there is no axis {axis}: the shape is {list(reference.shape)}")
    classes = reference.shape[axis]
    if classes <= k:
        return Look(hollow=f"k is {k}, and there are {classes} classes: any graph would agree")
    whole = np.moveaxis(reference, axis, -1).astype(np.float64)
    if reference.size and bool((whole == whole[..., :1]).all()):
        return Look(hollow="all classes have one value: any graph would agree")
    ranked = np.sort(np.where(np.isnan(whole), -np.inf, whole), axis=-1)
    free = reference.size and bool((ranked[..., 0] >= ranked[..., -k]).all())
    return Look(hollow=f"in every row all the rest ties for place {k}: any graph would agree" if free else "")
