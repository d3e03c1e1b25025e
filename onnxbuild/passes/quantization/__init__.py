"""Integers in place of floats, by onnxruntime's quantizers: with measured ranges, with ranges at run time, or weights alone.

Each quantizer is a pass, a module here. They know no store, no tolerance and no metric.
"""

from __future__ import annotations

from onnxbuild.passes.quantization import blocks, dynamic, static

__all__ = ["blocks", "dynamic", "static"]
