"""Steps before and after a model, by the names that a recipe's `prepend` and `append` use.

A step is one definition in two forms, numpy's for the reference and ONNX's for the graph, and a rule for dtypes and shapes.
Knows no recipe, no stage and no tolerance.
"""

from __future__ import annotations

from onnxbuild.steps.table import STEPS

__all__ = ["STEPS", "attaching", "chains", "function", "interface", "surrounding"]
