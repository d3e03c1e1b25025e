"""Whether what is listed by score, as TopK and sorts list it, is in the reference's order, but for equal scores.

`by` is the output that holds the scores. Along the last axis, a run of places whose neighbours in the reference's scores
are at most atol + rtol * |s| apart is a tie: there the elements may stand in any order, and have to be the same ones. A
tie at the end of a list may go on beyond it, where nobody sees it: let the list end elsewhere, or be whole. See ONNX's TopK,
which leaves the order of equal values open but for the lower index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from onnxbuild.parity.verdict import Agreement, Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ("by", "rtol", "atol")
BESIDE = "by"
VARIES: int | None = None
UNIT = ""
LEAST = "agreement"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows in the reference's order, but for elements whose scores tie; the share of such rows."""

    by: Annotated[str, Meta(description="The output of the same shape that holds the scores.")]
    rtol: Annotated[float, Meta(ge=0, description="Scores tie that are at most atol + rtol * |score| apart.")] = 0.0
    atol: Annotated[float, Meta(ge=0, description="See rtol.")] = 0.0
    agreement: Agreement = 1.0


def figure(
    got: np.ndarray[Any, Any],
    reference: np.ndarray[Any, Any],
    by: np.ndarray[Any, Any],
    rtol: float = 0.0,
    atol: float = 0.0,
) -> float:
    """The share of rows that are in order, 1 of no rows at all; `by` are the reference's scores."""
    import numpy as np

    if not reference.size:
        return 1.0
    size = reference.shape[-1]
    a, b = (x.astype(str) if x.dtype.kind == "O" else x for x in (got.reshape(-1, size), reference.reshape(-1, size)))
    scores = by.reshape(-1, size).astype(np.float64)
    before, after = scores[:, :-1], scores[:, 1:]
    with np.errstate(invalid="ignore"):
        tied = (before == after) | (np.abs(before - after) <= atol + rtol * np.abs(after))
    run = np.concatenate([np.zeros((len(scores), 1), int), np.cumsum(~tied, axis=1)], axis=1)
    ordered = [np.take_along_axis(x, np.lexsort((x, run), axis=1), 1) for x in (a, b)]
    equal = (ordered[0] == ordered[1]) | ((ordered[0] != ordered[0]) & (ordered[1] != ordered[1]))  # NaN
    return float(equal.all(axis=1).mean())


def look(
    got: np.ndarray[Any, Any],  # noqa: ARG001  # the protocol's
    reference: np.ndarray[Any, Any],
    by: np.ndarray[Any, Any],
    rtol: float = 0.0,
    atol: float = 0.0,
) -> Look:
    """Hollow where there is no order: lists of one element, or all scores in one tie."""
    import numpy as np

    if by.shape != reference.shape or by.dtype.kind in "OUS" or not reference.ndim:
        shapes = f"{list(by.shape)} of {by.dtype.name} for {list(reference.shape)}"
        return Look(refused=f"the scores have to be numbers, one for each element along the last axis: {shapes}")
    if reference.shape[-1] == 1:
        return Look(hollow="a list of one element is in order whatever it is")
    scores = by.astype(np.float64)
    before, after = scores[..., :-1], scores[..., 1:]
    with np.errstate(invalid="ignore"):
        tied = (before == after) | (np.abs(before - after) <= atol + rtol * np.abs(after))
    return Look(hollow="all scores tie: any order would do" if tied.size and bool(tied.all()) else "")
