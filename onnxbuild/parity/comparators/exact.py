"""Whether every element equals the reference's, NaN where that is NaN: what integers, booleans and strings always have to.

For floats it is numpy.array_equal(a, r, equal_nan=True): no rounding at all, though 0 equals -0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from onnxbuild.parity.verdict import Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ()
BESIDE = ""
VARIES: int | None = None
UNIT = ""
LEAST = ""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Every element equals the reference's, NaN where that is NaN."""


def figure(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """The share of elements that are equal, 1 of none."""
    same = (got == reference) | ((got != got) & (reference != reference))  # noqa: PLR0124  # true of NaN alone
    return float(same.mean()) if same.size else 1.0


def look(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> Look:  # noqa: ARG001  # the protocol's
    """Fit for any dtype; that there is nothing to compare is said of every comparator."""
    return Look()
