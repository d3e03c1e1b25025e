"""Two ONNX models side by side, by what they compute: nodes matched by structure, weights by content.

Names of nodes and of the values between them, and the order of independent nodes, say nothing here; `graphs.diff` is the
comparison that counts them. Knows no recipes, builds and reports of builds.
"""

from __future__ import annotations

from onnxbuild.graphs.comparison.models import compare

__all__ = ["compare"]
