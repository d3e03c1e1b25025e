"""Runs a graph in onnxruntime at every case and measures how far its outputs are from the source framework's.

Measures only: tolerances are not known here, and `parity/` decides from the facts. A case that onnxruntime can't run is a
fact like any other; the rest is measured all the same.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from onnxbuild.contracts import Arrays, Json

VERSION = 3
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("ml-dtypes", "numpy", "onnxruntime")
TRAITS = frozenset({Trait.PROVES})
FIELDS: dict[str, tuple[str, ...]] = {
    "runtime": ("runtime",),
    "allow_not_run": ("parity", "allow_not_run"),
    "inputs": ("export", "inputs"),
    "outputs": ("export", "outputs"),
    "cases": ("export", "dims"),
    "seed": ("parity", "seed"),
}


def run(task: Task) -> Outcome:
    """Facts: `providers` (what really ran), `not_run`, `notes`, and one of `results` per case and output."""
    from onnxbuild.parity import arrays
    from onnxbuild.runtimes import onnxruntime

    options, graph = task.options, task.inputs["graph"]
    try:
        session, providers, notes = onnxruntime.open_session(graph, options["runtime"])
    except StageError as error:
        unsupported = onnxruntime.unsupported_operators(graph, error.fact)
        reason = _why_not_run(unsupported, options["allow_not_run"], _lacking_dtypes(graph, error.fact))
        if not reason:
            raise
        rows = [_row(case, output) for case in options["cases"] for output in options["outputs"]]
        return Outcome(facts={"providers": [], "not_run": reason, "notes": [], "results": rows})
    rows, complete = _measure(
        options,
        Path(task.root),
        onnxruntime.caller(session, options["outputs"]),
        arrays.read(Path(task.inputs["reference"])),
    )
    facts = {"providers": providers, "not_run": None, "notes": notes, "results": rows}
    return Outcome(facts=facts, cacheable=complete)


def _why_not_run(unsupported: list[str], allowed: list[str], dtypes: tuple[str, list[str]]) -> str:
    """Why the graph isn't run, where the recipe allows it; "" where no operator is to blame.

    `dtypes` is the operator that is there, but not for the dtypes of its inputs, and those.
    """
    if not unsupported:
        return ""
    lacking, found = dtypes
    of = {f"ai.onnx::{lacking}": f" for {' or '.join(found)}"} if found else {}
    fact = f"onnxruntime has no implementation of {', '.join(name + of.get(name, '') for name in unsupported)}"
    if set(unsupported) <= set(allowed):
        return fact
    refused = [operator for operator in unsupported if operator not in allowed]
    unchecked = f"add {', '.join(refused)} to parity.allow_not_run to build unchecked"
    if refused == list(of):
        others = "onnxruntime has more operators in float32: convert the model and its inputs"
        unchecked = f"{'a newer onnxruntime may have it' if found == ['float32'] else others}, or {unchecked}"
    else:
        unchecked += ", or decompose the operator in symbolics"
    raise StageError(f"{fact}, so parity can't be checked", unchecked)


def _lacking_dtypes(graph: str, error: str) -> tuple[str, list[str]]:
    """The standard operator that onnxruntime knows, but not for its inputs' dtypes, and those; ("", []) for none.

    Where onnxruntime does not name the node, the dtypes are those of every node of that operator.
    """
    import onnx

    from onnxbuild.graphs import interface, modelfile

    said = re.search(r"Could not find an implementation for (\w+)\(\d+\) node with name '(.*?)'", error)
    if not said:
        return "", []
    model = modelfile.structure(graph)
    with contextlib.suppress(Exception):  # without it the dtypes of some values are not known; there is no more to say
        model = onnx.shape_inference.infer_shapes(model)
    body = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*body.input, *body.value_info, *body.output)}
    types |= {tensor.name: tensor.data_type for tensor in body.initializer}
    nodes = [node for node in body.node if node.op_type == said[1] and said[2] in ("", node.name)]
    of_nodes = [
        dict.fromkeys(interface.dtype_name(types[name]) for name in node.input if types.get(name)) for node in nodes
    ]
    return said[1], list(dict.fromkeys(", ".join(dtypes) for dtypes in of_nodes if dtypes))


def _measure(
    options: Json, root: Path, call: Callable[[Arrays], Arrays], reference: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[list[dict[str, Json]], bool]:
    """One row per case and output, and whether onnxruntime could run every case."""
    from onnxbuild.parity import samples, vacuous
    from onnxbuild.runtimes import onnxruntime

    rows: list[dict[str, Json]] = []
    went_in: list[dict[str, vacuous.Values]] = []
    complete = True
    for case in options["cases"]:
        feed = samples.make(options["inputs"], case, options["seed"], root)
        went_in.append({name: vacuous.values(array) for name, array in feed.items()})
        try:
            results = call(feed)
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no class; the other cases go on
            # Not every error comes from the graph: memory can run out.
            complete = False
            said = f"onnxruntime failed: {onnxruntime.first_line(error)}"
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
    from onnxbuild.parity import compare

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
