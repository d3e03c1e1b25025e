"""nms: which boxes are left where others overlap them and score higher; ONNX's NonMaxSuppression.

Boxes are [batch, n, 4], scores [batch, class, n], both float32; what comes out are rows of (batch, class, box), int64, as
many as there are. For each batch and class, from the highest score down (the lower index first of equal ones), a box above
score_threshold is kept unless its intersection over union with one that was kept is above iou_threshold, at most
max_output_boxes_per_class of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.steps.interface import Tensor, UnfitError, require_dtype, shown

if TYPE_CHECKING:
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
OWN = "selected"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Indices (batch, class, box) of the boxes that are left, int64; ONNX's NonMaxSuppression, after the boxes' output."""

    scores: Annotated[str, Meta(min_length=1, description="The output that holds [batch, class, box].")]
    max_output_boxes_per_class: Annotated[int, Meta(ge=1, description="Of each class of each batch.")]
    iou_threshold: Annotated[float, Meta(ge=0, le=1, description="A box that overlaps a better one by more goes.")]
    score_threshold: Annotated[
        float | UnsetType, Meta(description="A box that does not score more goes; none does without it.")
    ] = UNSET
    center_point_box: Annotated[
        bool, Meta(description="Boxes are x, y of the centre, width, height; else y1, x1, y2, x2 of two corners.")
    ] = False
    dim: Annotated[
        str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="What the axis of the rows is called.")
    ] = OWN


def takes(options: Options) -> Sequence[str]:
    """The scores."""
    return (options.scores,)


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:
    """[selected, 3]. Raises UnfitError for other dtypes and shapes, and where that dimension is another already."""
    boxes, scores = taken
    for value in taken:
        require_dtype(value, ("float32",))
    whole = len(boxes.shape) == len(scores.shape) == 3
    if not whole or boxes.shape[2] != 4 or [boxes.shape[0], boxes.shape[1]] != [scores.shape[0], scores.shape[2]]:
        fact = f"the boxes are {shown(boxes)}, and the scores {shown(scores)}"
        raise UnfitError(fact, "boxes are [batch, n, 4] and scores [batch, class, n]: use layout where they are not")
    if options.dim in {*least, *boxes.shape, *scores.shape}:
        fact = f"'{options.dim}' is the name of a dimension that the model has"
        raise UnfitError(fact, f"the number of rows is one of its own: dim: {OWN}")
    return [Tensor("int64", [options.dim, 3])]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """The definition above, in float32."""
    import numpy as np

    boxes, scores = taken
    corners = _corners(boxes, center=options.center_point_box)
    least = -np.inf if options.score_threshold is UNSET else np.float32(options.score_threshold)
    rows = []
    for batch, classes in enumerate(scores):
        for number, own in enumerate(classes):
            kept: list[int] = []
            for box in np.argsort(-own, kind="stable"):
                if len(kept) == options.max_output_boxes_per_class or not own[box] > least:
                    break
                overlaps = _overlaps(corners[batch, box], corners[batch, kept])
                if not (overlaps > np.float32(options.iou_threshold)).any():
                    kept.append(int(box))
            rows += [[batch, number, box] for box in kept]
    return [np.array(rows, np.int64).reshape(-1, 3)]


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:  # noqa: ARG001  # the protocol's
    """One NonMaxSuppression."""
    import numpy as np

    limits = [
        graph.constant("max_output_boxes_per_class", np.array([options.max_output_boxes_per_class], np.int64)),
        graph.constant("iou_threshold", np.array([options.iou_threshold], np.float32)),
    ]
    if options.score_threshold is not UNSET:
        limits.append(graph.constant("score_threshold", np.array([options.score_threshold], np.float32)))
    return graph.node("NonMaxSuppression", [*taken, *limits], center_point_box=int(options.center_point_box))


def _corners(boxes: Array, *, center: bool) -> Array:
    """The lower and the upper corner of each box, two numbers each."""
    import numpy as np

    if center:
        half = boxes[..., 2:] / np.float32(2)
        return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)
    ends = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(*ends), np.maximum(*ends)], -1)


def _overlaps(box: Array, others: Array) -> Array:
    """The intersection over union of a box with others; 0 where one of the two has no area."""
    import numpy as np

    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.where((sides > 0).all(-1), sides.prod(-1), np.float32(0))
    area, areas = (box[2:] - box[:2]).prod(-1), (others[:, 2:] - others[:, :2]).prod(-1)
    both = area + areas - common
    return np.where((area > 0) & (areas > 0), common / np.where(both > 0, both, np.float32(1)), np.float32(0))
