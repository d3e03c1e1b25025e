"""ONNX models as data: reading, writing, normalising, comparing and printing them.

Runs no graph and changes no number.
"""

from __future__ import annotations

__all__ = [
    "axes",
    "canonical",
    "checker",
    "diff",
    "dimensions",
    "external",
    "interface",
    "modelfile",
    "notes",
    "opsets",
    "protobuf",
    "renaming",
    "tensors",
    "text",
    "weights",
]
