"""The optimizer passes, by the name that a recipe's `optimize` uses. To add one: a module here and a line below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxbuild.passes import onnxoptimizer, onnxruntime, onnxscript, onnxsim

if TYPE_CHECKING:
    from onnxbuild.contracts import PassModule

PASSES: dict[str, PassModule] = {
    "onnxsim": onnxsim,
    "onnxoptimizer": onnxoptimizer,
    "onnxscript": onnxscript,
    "onnxruntime": onnxruntime,
}
