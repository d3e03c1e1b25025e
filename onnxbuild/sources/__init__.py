"""The model sources, by the name that a recipe's `model` section uses. To add one: a module here and a line below.

A source gives an ONNX model, and the outputs of the framework that it comes from. It knows no tolerance and no other source.
"""

from __future__ import annotations

from onnxbuild.contracts import SourceModule
from onnxbuild.sources import keras, onnx, pytorch, sklearn, tensorflow

__all__ = ["SOURCES", "installed"]

SOURCES: dict[str, SourceModule] = {
    "pytorch": pytorch,
    "onnx": onnx,
    "tensorflow": tensorflow,
    "keras": keras,
    "sklearn": sklearn,
}
