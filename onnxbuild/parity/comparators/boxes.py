"""The share of boxes that have a partner on the other side, by intersection over union.

IoU = area(A n B) / area(A u B); two equal boxes have 1. Pairs are made within an image from the largest IoU down, each
box once, and count from `iou` on: M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge" (2010), 4.2,
whose threshold is 0.5. The share is of the side that has more boxes, so that a dropped one and one too many both count.
Boxes without an area that are the same on both sides, as lists are filled up with, are left out: a hundred of them would
outvote the few that count. Boxes are [..., number, 4]; the number may differ from the reference's, order does not matter.
Scores and classes are outputs of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from onnxbuild.parity.verdict import Agreement, Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ("iou", "format")
BESIDE = ""
VARIES: int | None = -2
UNIT = ""
LEAST = "agreement"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The share of boxes [..., number, 4] with a partner of at least this IoU, of the side that has more of them."""

    iou: Annotated[float, Meta(gt=0, le=1, description="The least intersection over union of a pair.")] = 0.9
    agreement: Agreement = 1.0
    format: Annotated[
        Literal["xyxy", "xywh", "cxcywh"], Meta(description="As torchvision.ops.box_convert calls them.")
    ] = "xyxy"


def figure(
    got: np.ndarray[Any, Any],
    reference: np.ndarray[Any, Any],
    iou: float = 0.9,
    format: str = "xyxy",  # noqa: A002  # the word of the recipe
) -> float:
    """The share, 1 where neither side has a box. A box with NaN has no partner."""
    from collections import Counter

    import numpy as np

    def corners(boxes: Any) -> Any:
        low, high = boxes[..., :2], boxes[..., 2:]
        if format != "xyxy":
            low = low - high / 2 if format == "cxcywh" else low
            high = low + high
        return low, np.maximum(low, high)

    count = max(got.size, reference.size) // 4
    if not count:
        return 1.0
    pairs = 0
    sides = (x.astype(np.float64).reshape(int(np.prod(x.shape[:-2])), x.shape[-2], 4) for x in (got, reference))
    for every in zip(*sides, strict=True):
        full = [(high - low).prod(-1) != 0 for low, high in map(corners, every)]
        left_out, also = (Counter(map(tuple, x[~own].tolist())) for x, own in zip(every, full, strict=True))
        count -= (left_out & also).total()
        a, b = (x[own] for x, own in zip(every, full, strict=True))
        (low_a, high_a), (low_b, high_b) = corners(a), corners(b)
        areas = (high_b - low_b).prod(-1)
        shares, rows, columns = [np.empty(0)], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        for i in range(len(low_a)):  # one row at a time: a table of all pairs may be larger than the memory
            inner = np.maximum(np.minimum(high_a[i], high_b) - np.maximum(low_a[i], low_b), 0).prod(-1)
            union = (high_a[i] - low_a[i]).prod() + areas - inner
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where((a[i] == b).all(-1), 1.0, np.where(union > 0, inner / union, 0.0))
            near = np.flatnonzero(share >= iou).astype(np.int32)
            shares.append(share[near])
            rows.append(np.full(len(near), i, np.int32))
            columns.append(near)
        share, row, column = np.concatenate(shares), np.concatenate(rows), np.concatenate(columns)
        left: set[int] = set()
        right: set[int] = set()
        for at in np.lexsort((column, row, -share)):
            if len(left) == min(len(low_a), len(low_b)):
                break
            i, j = int(row[at]), int(column[at])
            if i not in left and j not in right:
                left.add(i)
                right.add(j)
        pairs += len(left)
    return pairs / count if count else 1.0


def look(
    got: np.ndarray[Any, Any],
    reference: np.ndarray[Any, Any],
    iou: float = 0.9,  # noqa: ARG001  # the protocol's
    format: str = "xyxy",  # noqa: A002  # the word of the recipe
) -> Look:
    """Boxes of four numbers; hollow where every box of the reference is without an area."""
    shape = list(reference.shape)
    if reference.ndim < 2 or shape[-1] != 4 or reference.dtype.kind in "OUSb":
        kind = "strings" if reference.dtype.kind in "OUS" else reference.dtype.name
        return Look(refused=f"boxes are numbers [..., number, 4], and this is {shape} of {kind}")
    if not reference.size:
        return Look(hollow="" if got.size else "no box on either side")
    sides = reference[..., 2:] - reference[..., :2] if format == "xyxy" else reference[..., 2:]
    return Look(hollow="" if bool((sides > 0).all(-1).any()) else "no box of the reference has an area")
