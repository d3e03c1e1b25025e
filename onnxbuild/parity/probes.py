"""What is tried of the source model besides the cases, and the names under which the results lie beside theirs.

With other data of the same description a result shows how far apart two results are; with one input changed, whether that
input matters; with the same data again, whether the model has a state or draws random numbers. Runs no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.parity import compare
from onnxbuild.parity.samples import is_float

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Arrays, Json

    Array: TypeAlias = np.ndarray[Any, Any]

OTHER = "other data"  # no case is called so: "other data/y" is the output y for other data at the first case's sizes
MATTER = "inputs that matter"  # names of inputs on whose values some output depends
UNKNOWN = "inputs that may matter"  # names of inputs for whose other values the model raises
MOST = 8  # inputs that are changed one by one; beyond, only those that are the same in every case
REPEATED = 16  # rounding steps of the largest value that two runs on the same data may differ by


def changes(array: Array, redrawn: Array) -> Iterator[Array]:
    """Other values of one input: as it is drawn again, else every second element of what never varies, changed."""
    import numpy as np

    if not array.size:
        return
    if not same(array, redrawn):
        yield redrawn
        return
    if array.dtype.kind in "OUS":
        return
    with np.errstate(all="ignore"):
        for other in _others(array):
            found = array.copy().reshape(-1)
            found[-1::-2] = other.reshape(-1)[-1::-2]
            if not np.array_equal(found.reshape(array.shape), array):
                yield found.reshape(array.shape)


def _others(array: Array) -> Iterator[Array]:
    import numpy as np

    if array.dtype.kind == "b":
        yield ~array
        return
    one = array.dtype.type(1)
    yield np.where(array == 1, np.zeros_like(array), np.full_like(array, one))
    yield (array // array.dtype.type(2)).astype(array.dtype)
    yield (array + one).astype(array.dtype)
    yield (array + array).astype(array.dtype)


def same(one: Array, other: Array) -> bool:
    """Whether two arrays are equal to the last bit, NaN where the other is NaN."""
    import numpy as np

    return bool(np.array_equal(one, other, equal_nan=is_float(one.dtype)))


def differ(one: Arrays, other: Arrays) -> bool:
    """Whether any output is not the same on both sides, to the last bit."""
    return any(not same(array, other[name]) for name, array in one.items())


def drift(first: Arrays, again: Arrays) -> dict[str, float]:
    """The outputs that two runs on the same data don't agree on, each with how far they are apart."""
    found = {}
    for name, array in first.items():
        if array.shape != again[name].shape or array.dtype != again[name].dtype:
            found[name] = float("inf")
            continue
        facts = compare.compare(again[name], array)
        off = facts["max_abs"] or 0.0
        if facts["mismatches"] or off > _allowed(array):
            found[name] = off or float("inf")
    return found


def _allowed(array: Array) -> float:
    import numpy as np

    if not is_float(array.dtype):
        return 0.0
    import ml_dtypes

    finite = array[np.isfinite(array)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return REPEATED * float(ml_dtypes.finfo(array.dtype).eps) * largest


def apart(output: str, first: Arrays, other: Arrays, asked: Mapping[str, Json] | None = None) -> dict[str, Json] | None:
    """The facts by which a tolerance can be held against how far two results lie apart; None where nothing tells.

    The other result is the one for other data. Where an output does not depend on data, it is its own values, each at the
    next place. `spread` is the distance of the largest value from the smallest. `asked` are the comparators that the recipe
    names for the output, with their parameters.
    """
    import numpy as np

    from onnxbuild.parity import gates
    from onnxbuild.parity.comparators import allclose

    one, another = first[output], other.get(output)
    # Integers have to be equal, unless comparators judge them.
    judged = is_float(one.dtype) or (bool(asked) and one.dtype.kind in "iu")
    if another is None or not judged or one.shape != another.shape:
        return None
    finite = one[np.isfinite(one)].astype(np.float64)
    if not finite.size:
        return None
    of = "its results for other data"
    facts = allclose.measure(another, one)
    if not facts["max_abs"] and not facts["mismatches"]:
        of = "its values at other places"
        another = np.roll(one.reshape(-1), 1).reshape(one.shape)
        facts = allclose.measure(another, one)
    if not facts["max_abs"] and not facts["mismatches"]:
        return None
    if asked:
        facts["measured"] = gates.measure(another, one, asked, first)
    spread = float(np.ptp(finite))
    return {**facts, "of": of, "dtype": one.dtype.name, "shape": list(one.shape), "spread": spread}


def lost(read: set[str], reference: Mapping[str, Array]) -> tuple[list[str], list[str]]:
    """The inputs that matter and that a graph, which reads the values of some, does not; and those that may matter."""
    matter, unknown = ([*map(str, reference[name])] if name in reference else [] for name in (MATTER, UNKNOWN))
    return [name for name in matter if name not in read], [name for name in unknown if name not in read]
