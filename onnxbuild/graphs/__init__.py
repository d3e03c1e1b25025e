"""ONNX models as data: reading, writing, normalising, comparing and printing them.

Runs no graph and changes no number.
"""

from __future__ import annotations
