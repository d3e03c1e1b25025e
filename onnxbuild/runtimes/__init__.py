"""What runs a graph: sessions of onnxruntime.

Knows providers and session options; no recipe, no tolerance.
"""

from __future__ import annotations

__all__ = ["onnxruntime", "reproduction", "unsupported"]
