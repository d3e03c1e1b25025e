"""The ways of comparing, by name: how two arrays are measured, judged, and what is too coarse to tell them apart.

To add one: a module here and a line below. Knows no cases, graphs or recipes.
"""

from __future__ import annotations

from onnxbuild.parity.comparators import allclose
from onnxbuild.parity.verdict import Comparator

COMPARATORS: dict[str, Comparator] = {
    "allclose": allclose,
}
DEFAULT = "allclose"  # of an output for which the recipe names no other
