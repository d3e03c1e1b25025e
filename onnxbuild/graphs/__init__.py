"""ONNX models as data: reading, writing, normalising, comparing and printing them.

Runs no graph and changes no number.
"""

from __future__ import annotations

__all__ = [
    "axes",
    "canonical",
    "checker",
    "comparison",
    "diff",
    "dimensions",
    "external",
    "interface",
    "lines",
    "lines_text",
    "lost_axes",
    "mapped",
    "modelfile",
    "nodes",
    "notes",
    "opsets",
    "protobuf",
    "publishing",
    "renaming",
    "stamps",
    "tensors",
    "text",
    "weights",
]
