"""The table of steps, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxbuild.steps import (
    argmax,
    cast,
    channels,
    function,
    layout,
    nms,
    normalize,
    resize,
    scale,
    softmax,
    top_k,
)

if TYPE_CHECKING:
    from onnxbuild.steps.interface import StepModule

STEPS: dict[str, StepModule] = {
    "cast": cast,
    "scale": scale,
    "normalize": normalize,
    "layout": layout,
    "channels": channels,
    "resize": resize,
    "softmax": softmax,
    "argmax": argmax,
    "top_k": top_k,
    "nms": nms,
    "function": function,
}
