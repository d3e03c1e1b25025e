"""What runs a graph, or what was made of one, by the name that a target gives. To add one: a module here and a line below.

Knows providers and session options; no recipe, no tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxbuild.runtimes import compiled, mil, onnxruntime, openvino, tensorrt, web

if TYPE_CHECKING:
    from onnxbuild.contracts import RuntimeModule

__all__ = ["RUNTIMES", "compiled", "mil", "onnxruntime", "openvino", "reproduction", "tensorrt", "unsupported", "web"]

RUNTIMES: dict[str, RuntimeModule] = {
    "mil": mil,
    "onnxruntime": onnxruntime,
    "web": web,
    "openvino": openvino,
    "tensorrt": tensorrt,
}
