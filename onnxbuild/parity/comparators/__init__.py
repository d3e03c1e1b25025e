"""The ways of comparing an output by one figure, by the name that a recipe gives them.

To add one: a module here and a line below. `allclose` beside them goes element by element, and holds where a recipe names
none. Knows no cases, graphs or recipes.
"""

from __future__ import annotations

from onnxbuild.parity.comparators import argmax, boxes, cosine, exact, sqnr, top_k
from onnxbuild.parity.comparators import sorted as sorted_
from onnxbuild.parity.verdict import Comparator

COMPARATORS: dict[str, Comparator] = {
    "cosine": cosine,
    "sqnr": sqnr,
    "top_k": top_k,
    "argmax": argmax,
    "boxes": boxes,
    "exact": exact,
    "sorted": sorted_,
}
