"""The optimizer passes, by the name that a recipe's `optimize` uses. To add one: a module here and a line below.

A pass takes a graph and gives a graph. It knows no stage, no store and no tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxbuild.passes import convert_opset, onnxoptimizer, onnxruntime, onnxscript, onnxsim

if TYPE_CHECKING:
    from onnxbuild.contracts import PassModule

__all__ = ["PASSES"]

PASSES: dict[str, PassModule] = {
    "onnxsim": onnxsim,
    "onnxoptimizer": onnxoptimizer,
    "onnxscript": onnxscript,
    "onnxruntime": onnxruntime,
    "convert_opset": convert_opset,
}
