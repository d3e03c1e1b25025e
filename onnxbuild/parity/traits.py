"""What stands out in an array that goes into a model: a NaN, a negative value, a row that is all zero.

Each trait is a few words that can follow "has". They are compared between the cases that fail and those that hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.parity.samples import is_float

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

LARGE = (1e2, 1e4, 65504.0, 2.0**31)  # beyond float16's largest, and beyond int32


def of_inputs(arrays: Mapping[str, Array]) -> list[str]:
    """The traits of all inputs of one run: "'mask' has a row that is all zero"."""
    return [f"'{name}' has {trait}" for name, array in arrays.items() for trait in of_one(array)]


def of_one(array: Array) -> list[str]:
    """The traits of one array; none of strings and of what is empty."""
    import numpy as np

    if not array.size or (array.dtype.kind not in "fiub" and not is_float(array.dtype)):
        return []
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    zero = values == 0
    found = {
        "a NaN": bool(np.isnan(values).any()),
        "an infinity": bool(np.isinf(values).any()),
        "a negative value": bool((finite < 0).any()),
        "a zero": bool(zero.any()),
        "a row that is all zero": array.ndim > 1 and bool(zero.reshape(-1, array.shape[-1]).all(axis=1).any()),
        "one value throughout": array.size > 1 and bool((values == values.reshape(-1)[0]).all()),
        "two equal values": array.size > 1 and np.unique(finite).size < finite.size,
    }
    largest = float(np.abs(finite).max(initial=0.0))
    found |= {f"a value of {limit:g} or more in magnitude": largest >= limit for limit in LARGE}
    return [trait for trait, there in found.items() if there]
