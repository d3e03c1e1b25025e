"""The model sources, by the name that a recipe's `model` section uses. To add one: a module here and a line below."""

from __future__ import annotations

from onnxbuild.contracts import SourceModule
from onnxbuild.sources import onnx, pytorch

SOURCES: dict[str, SourceModule] = {
    "pytorch": pytorch,
    "onnx": onnx,
}
