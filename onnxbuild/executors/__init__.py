"""Where a stage runs. An executor, see `interface`, is handed tasks and gives back what became of them.

The first one is child processes of this machine. Knows no keys, no store and no kind of stage.
"""

from __future__ import annotations

from typing import NamedTuple

MIB = 1 << 20


class Template(NamedTuple):
    """A process that children are forked from: what it imports, in order, and the bytes that those imports take."""

    imports: tuple[str, ...]
    bytes: int


TEMPLATES = {
    "onnx": Template(("numpy", "onnx", "onnxruntime"), 200 * MIB),
    "sklearn": Template(("numpy", "pandas", "sklearn", "onnx", "skl2onnx"), 250 * MIB),
    "torch": Template(("numpy", "torch", "onnx", "onnx_ir", "onnxscript"), 700 * MIB),
    "tensorflow": Template(("numpy", "onnx", "tensorflow", "tf2onnx"), 350 * MIB),
}

__all__ = ["TEMPLATES", "child", "interface", "local"]
