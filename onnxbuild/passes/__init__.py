"""The optimizer passes, by the name that a recipe's `optimize` uses. To add one: a module here and a line below.

A pass takes a graph and gives a graph. It knows no stage, no store and no tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxbuild.passes import (
    convert_opset,
    float16,
    onnxoptimizer,
    onnxruntime,
    onnxscript,
    onnxsim,
    onnxslim,
    quantization,
    rename,
)
from onnxbuild.passes.beside import Beside
from onnxbuild.passes.excluding import EXCLUDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnxbuild.contracts import PassModule
    from onnxbuild.passes.beside import OfData, Problem

__all__ = ["EXCLUDING", "EXTRAS", "OF_DATA", "PASSES", "PROBLEMS", "Beside", "excluding", "rename"]

PASSES: dict[str, PassModule] = {
    "onnxsim": onnxsim,
    "onnxoptimizer": onnxoptimizer,
    "onnxscript": onnxscript,
    "onnxruntime": onnxruntime,
    "onnxslim": onnxslim,
    "convert_opset": convert_opset,
    "rename": rename,
    "float16": float16,
    "quantize_static": quantization.static,
    "quantize_dynamic": quantization.dynamic,
    "quantize_4bit": quantization.blocks,
}
# Packages that a pass can't do without and the first command does not bring, by import name: the extra that does.
EXTRAS: dict[str, dict[str, str]] = {"onnxslim": {"onnxslim": "onnxslim"}}
# Those that look at data, too.
OF_DATA: dict[str, OfData] = {"float16": float16, "quantize_static": quantization.static}
# Those with options that don't fit together, or that the library would pass over: which, what is wrong, and the remedy.
PROBLEMS: dict[str, Callable[[Any], Iterator[Problem]]] = {
    "float16": float16.problems,
    "quantize_static": quantization.static.problems,
    "quantize_4bit": quantization.blocks.problems,
}
