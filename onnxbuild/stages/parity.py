"""Runs a graph in onnxruntime at every case and measures how far its outputs are from the source framework's.

Measures only: tolerances are not known here, and `judge` decides from the facts. A case that onnxruntime can't run is a
fact like any other; the rest is measured all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Outcome, Task
from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from onnxbuild.contracts import Arrays, Json

VERSION = 2
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("ml-dtypes", "numpy", "onnxruntime")


def run(task: Task) -> Outcome:
    """Facts: `providers` (what really ran), `not_run`, `notes`, and one of `results` per case and output."""
    from onnxbuild import arrays, sessions

    options, graph = task.options, task.inputs["graph"]
    try:
        session, providers, notes = sessions.open_session(graph, options["runtime"])
    except StageError as error:
        reason = _why_not_run(sessions.unsupported_operators(graph, error.fact), options["allow_not_run"])
        if not reason:
            raise
        rows = [_row(case, output) for case in options["cases"] for output in options["outputs"]]
        return Outcome(facts={"providers": [], "not_run": reason, "notes": [], "results": rows})
    rows, complete = _measure(
        options,
        Path(task.root),
        sessions.caller(session, options["outputs"]),
        arrays.read(Path(task.inputs["reference"])),
    )
    facts = {"providers": providers, "not_run": None, "notes": notes, "results": rows}
    return Outcome(facts=facts, cacheable=complete)


def _why_not_run(unsupported: list[str], allowed: list[str]) -> str:
    """Why the graph isn't run, where the recipe allows it; "" where no operator is to blame."""
    if not unsupported:
        return ""
    operators = ", ".join(unsupported)
    if set(unsupported) <= set(allowed):
        return f"onnxruntime has no implementation of {operators}"
    refused = [operator for operator in unsupported if operator not in allowed]
    raise StageError(
        f"onnxruntime has no implementation of {operators}, so parity can't be checked",
        f"add {', '.join(refused)} to parity.allow_not_run to build unchecked, or decompose the operator in symbolics",
    )


def _measure(
    options: Json, root: Path, call: Callable[[Arrays], Arrays], reference: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[list[dict[str, Json]], bool]:
    """One row per case and output, and whether onnxruntime could run every case."""
    from onnxbuild import data, sessions, vacuous

    rows: list[dict[str, Json]] = []
    went_in: list[dict[str, vacuous.Values]] = []
    complete = True
    for case in options["cases"]:
        feed = data.make(options["inputs"], case, options["seed"], root)
        went_in.append({name: vacuous.values(array) for name, array in feed.items()})
        try:
            results = call(feed)
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no class; the other cases go on
            # Not every error comes from the graph: memory can run out.
            complete = False
            said = f"onnxruntime failed: {sessions.first_line(error)}"
            rows += [_row(case, output, error=said) for output in options["outputs"]]
            continue
        del feed
        for output in options["outputs"]:
            rows.append(_compare(case, output, results[output], reference[f"{case['name']}/{output}"]))
            del results[output]
    varied = vacuous.vary(went_in)
    for output in options["outputs"]:
        made = [vacuous.values(reference[f"{case['name']}/{output}"]) for case in options["cases"]]
        why = vacuous.of_all(made, varied=varied)
        own = (row for row in rows if row["output"] == output)
        for row, found in zip(own, made, strict=True):
            if row["error"] is None:
                row["vacuous"] = vacuous.of_one(found) or why or None
    return rows, complete


def _compare(case: Json, output: str, got: Any, reference: np.ndarray[Any, Any]) -> dict[str, Json]:
    """The row of one output at one case."""
    from onnxbuild import compare

    row = _row(case, output, reference_shape=list(reference.shape))
    if not hasattr(got, "dtype"):
        return {**row, "error": f"onnxruntime gives a {type(got).__name__}, the reference is a tensor"}
    row |= {"dtype": _dtype_name(got), "shape": list(got.shape)}
    error = difference(row, _dtype_name(reference))
    if error:
        return {**row, "error": error}
    return {**row, **compare.unravel(compare.compare(got, reference), got.shape)}


def difference(row: Json, reference_dtype: str) -> str | None:
    """How an output's dtype or shape is not the reference's, axis by axis; None where both are the same."""
    if row["dtype"] != reference_dtype:
        return f"dtype {row['dtype']}, the reference has {reference_dtype}"
    got, expected = row["shape"], row["reference_shape"]
    if got == expected:
        return None
    if len(got) != len(expected):
        return f"shape {got}, the reference has {expected}: rank {len(got)} instead of {len(expected)}"
    sizes = enumerate(zip(got, expected, strict=True))
    axes = [f"axis {axis} is {size} instead of {wanted}" for axis, (size, wanted) in sizes if size != wanted]
    return f"shape {got}, the reference has {expected}: {', '.join(axes)}"


def _row(case: Json, output: str, **known: Json) -> dict[str, Json]:
    return {
        "case": case["name"],
        "dims": case["dims"],
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
