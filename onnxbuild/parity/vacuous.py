"""Outputs whose agreement would prove nothing: empty, all NaN, or one value whatever goes in.

The one judge of it, for the reference and for every parity; it looks at what went in and at the reference alone, so all
of them say the same. Knows nothing of stages and reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from onnxbuild.parity.compare import CHUNK, plain
from onnxbuild.parity.samples import is_float

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Json

    Array: TypeAlias = np.ndarray[Any, Any]


class Values(NamedTuple):
    """What the elements of an array have in common; `value` is the one that all have, as JSON, where it is constant."""

    kind: Literal["empty", "nan", "constant", "mixed"]
    size: int
    value: Json = None


def values(array: Array) -> Values:
    """What the elements of an array have in common, looked at piece by piece."""
    import numpy as np

    flat = array.reshape(-1)
    if not flat.size:
        return Values("empty", 0)
    chunks = (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))
    if is_float(flat.dtype) and np.isnan(flat[0]):
        return Values("nan" if all(bool(np.isnan(chunk).all()) for chunk in chunks) else "mixed", flat.size)
    if all(bool((chunk == flat[0]).all()) for chunk in chunks):
        return Values("constant", flat.size, plain(flat[0]))
    return Values("mixed", flat.size)


def vary(fed: Iterable[Mapping[str, Values]]) -> bool:
    """Whether any input has two different values, in one case or between two; `fed` is what went in, by case."""
    first: dict[str, Values] = {}
    for case in fed:
        for name, found in case.items():
            if found.kind == "mixed":
                return True
            if found.kind != "empty":
                before = first.setdefault(name, found)
                if (found.kind, found.value) != (before.kind, before.value):
                    return True
    return False


def of_one(found: Values) -> str:
    """Why the reference's values of one output at one case prove nothing; "" where that can't be said of one case."""
    return {"empty": "empty: there is nothing to compare", "nan": "all NaN in the reference"}.get(found.kind, "")


def of_all(cases: Iterable[Values], *, varied: bool) -> str:
    """Why the reference's values of one output at all cases prove nothing; "" where they prove something."""
    found = list(cases)
    kinds = {one.kind for one in found}
    if kinds <= {"empty"}:
        return "empty in every case"
    if kinds <= {"empty", "nan"}:
        return "all NaN in every case"
    constants = {one.value for one in found if one.kind == "constant"}
    if varied and kinds <= {"empty", "constant"} and len(constants) == 1 and sum(one.size for one in found) > 1:
        return f"always {constants.pop()}, though the inputs vary"
    return ""
