"""One output of a graph beside the source model's: a row of a parity's facts, from which any tolerance is judged later.

Runs no model: it is given arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnxbuild.parity import gates
from onnxbuild.parity.comparators import allclose

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays, Json


def compared(case: Json, output: str, got: Any, wanted: Arrays, asked: Mapping[str, Json]) -> dict[str, Json]:
    """The row of one output at one case; `wanted` are the source model's, `asked` the comparators that the recipe names."""
    reference, own = wanted[output], asked.get(output, {})
    row = row_of(case, output, reference_shape=list(reference.shape))
    if not hasattr(got, "dtype"):
        return {**row, "error": f"the runtime gives a {type(got).__name__}, the reference is a tensor"}
    row |= {"dtype": _dtype_name(got), "shape": list(got.shape)}
    axis = gates.may_vary(own)
    error = difference(row, _dtype_name(reference), axis)
    if error:
        return {**row, "error": error}
    if row["shape"] == row["reference_shape"]:
        row |= allclose.measure(got, reference)
    if own:
        row["measured"] = gates.measure(got, reference, own, wanted)
    return row


def difference(row: Json, reference_dtype: str, varies: int | None = None) -> str | None:
    """How an output's dtype or shape is not the reference's, axis by axis; None where both are the same.

    `varies` is an axis, from the end, whose size may be another.
    """
    if row["dtype"] != reference_dtype:
        return f"dtype {row['dtype']}, the reference has {reference_dtype}"
    got, expected = row["shape"], row["reference_shape"]
    if got == expected:
        return None
    if len(got) != len(expected):
        return f"shape {got}, the reference has {expected}: rank {len(got)} instead of {len(expected)}"
    sizes = enumerate(zip(got, expected, strict=True))
    free = None if varies is None else len(got) + varies
    differ = [(axis, size, wanted) for axis, (size, wanted) in sizes if size != wanted and axis != free]
    axes = [f"axis {axis} is {size} instead of {wanted}" for axis, size, wanted in differ]
    if not axes:
        return None
    return f"shape {got}, the reference has {expected}: {', '.join(axes)}"


def row_of(case: Json, output: str, **known: Json) -> dict[str, Json]:
    """The row of an output at a case of which no more than this is known."""
    return {
        "case": case["name"],
        "dims": case["dims"],
        "varies": case.get("varies"),
        "output": output,
        "dtype": None,
        "shape": None,
        "reference_shape": None,
        "exact": False,
        "max_abs": None,
        "max_rel": None,
        "points": [],
        "slack": 0.0,
        "nonfinite": None,
        "mismatches": 0,
        "error": None,
        "vacuous": None,
        **known,
    }


def _dtype_name(array: Any) -> str:
    return "string" if array.dtype.kind in "OUT" else str(array.dtype.name)
