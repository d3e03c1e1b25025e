"""Runs a graph in onnxruntime at every case and measures how far its outputs are from the source framework's.

Measures only: tolerances are not known here, and `parity/` decides from the facts. A case that onnxruntime can't run is a
fact like any other; the rest is measured all the same.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.parity import measuring
from onnxbuild.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from onnxbuild.contracts import Arrays, Json

VERSION = 7
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
    "comparators": ("parity", "outputs"),
}


def run(task: Task) -> Outcome:
    """Facts: `providers` (what really ran), `not_run`, `notes`, and one of `results` per case and output."""
    from onnxbuild.parity import arrays
    from onnxbuild.runtimes import onnxruntime, unsupported
    from onnxbuild.stages import source_model

    options, graph = task.options, task.inputs["graph"]
    if "target" in options:
        return _of_target(task)
    try:
        session, providers, notes = onnxruntime.open_session(graph, options["runtime"], Path(task.scratch))
    except StageError as error:
        reason = unsupported.reason(graph, error.fact, options["allow_not_run"])
        if not reason:
            raise _unopened(task, error) from error
        return _not_run(options, reason)
    reference = arrays.read(Path(task.inputs["reference"]))
    if not reference:
        return _not_run(options, "there is no reference: the model itself can't be run here")
    lost, unknown = _lost(graph, options, reference)
    rows, complete = _measure(options, Path(task.root), source_model.caller(session, options), reference)
    if not options.get("bare"):  # else its inputs and outputs are not the published ones
        _require_published(graph, options, rows)
    facts = {
        "providers": providers,
        "not_run": None,
        "notes": [*notes, *unknown],
        "results": rows,
        "resolution": _resolution(options, reference),
        "lost": lost,
    }
    return Outcome(facts=facts, cacheable=complete)


def _of_target(task: Task) -> Outcome:
    """As `run`, for the files of a target, by the runtime that it names; `bounds` says what a stand-in proves and what not,
    `asides` how far off the same files are at other settings.
    """
    from onnxbuild.parity import arrays
    from onnxbuild.stages import opening

    options, reference = task.options, arrays.read(Path(task.inputs["reference"]))
    if not reference:
        return _not_run(options, "there is no reference: the model itself can't be run here")
    opened = opening.opened(task)
    if opened.refused:
        return _not_run(options, opened.refused)
    call, notes = opening.retyped(opened, reference) if opened.few_types else (opened.call, [])
    rows, complete = _measure(options, Path(task.root), call, reference)
    asides = {word: _measure(options, Path(task.root), call, reference)[0] for word, call in opened.asides.items()}
    resolution = _resolution(options, reference)
    spreads = {output: resolution.get(output, {}).get("spread") for output in options["outputs"]}
    facts = {
        "providers": opened.providers,
        "not_run": None,
        "notes": [*opened.notes, *notes],
        "results": rows,
        "resolution": resolution,
        "lost": [],
        "bounds": opening.runtime(task).BOUNDS,
        "asides": [_worst(word, name, rows, spreads[name]) for word, rows in asides.items() for name in spreads],
    }
    return Outcome(facts=facts, cacheable=complete)


def _worst(word: str, output: str, rows: Sequence[Mapping[str, Json]], spread: float | None) -> dict[str, Json]:
    """How far an output is off at worst, of the rows of one setting; no number where some case could not be compared."""
    own = [row for row in rows if row["output"] == output]
    known = all(row["error"] is None and row["max_abs"] is not None for row in own)
    return {
        "setting": word,
        "output": output,
        "max_abs": max((row["max_abs"] for row in own), default=None) if known else None,
        "spread": spread,
    }


def _unopened(task: Task, error: StageError) -> StageError:
    """Whose fault it is that onnxruntime opens the graph not at all."""
    from onnxbuild.runtimes import onnxruntime

    runtime = task.options["runtime"]
    if error.__cause__ is None:  # it opened, and ran on other providers than are required
        return error
    with contextlib.suppress(StageError):
        level = {"graph_optimization_level": "disable_all"}
        weaker = {**runtime, "session": {**runtime["session"], **level}}
        onnxruntime.open_session(task.inputs["graph"], weaker, Path(task.scratch))
        own = "; without its own rewriting of the graph, it can"
        hint = "set runtime.session.graph_optimization_level: disable_all; it is a fault of onnxruntime"
        return StageError(error.fact + own, hint)
    number, _, name = task.stage.rpartition("/")[2].partition("-")
    if number.isdecimal() and name:  # the graph before it was opened
        hint = f"the graph before '{name}' could be opened: take that pass out of optimize, or change its options"
        return StageError(error.fact, hint)
    return error


def _require_published(graph: str, options: Json, rows: list[dict[str, Json]]) -> None:
    """Raises StageError where outputs are right, and the graph says that they have other shapes."""
    from onnxbuild.graphs import axes, interface, modelfile
    from onnxbuild.runtimes import onnxruntime

    if onnxruntime.is_ort_format(graph):
        return
    cases = {case["name"]: case for case in options["cases"]}
    run = [row for row in rows if row["error"] is None and row["case"] in cases]
    seen = [(cases[row["case"]], row["output"], row["shape"]) for row in run]
    if wrong := axes.published(interface.signature(modelfile.structure(graph)), seen):
        raise StageError("\n".join(wrong), "take the false shape out of the file, or declare the axis as it is")


def _not_run(options: Json, reason: str) -> Outcome:
    rows = [measuring.row_of(case, output) for case in options["cases"] for output in options["outputs"]]
    return Outcome(facts={"providers": [], "not_run": reason, "notes": [], "results": rows})


def _lost(graph: str, options: Json, reference: Mapping[str, np.ndarray[Any, Any]]) -> tuple[list[str], list[str]]:
    """The inputs that matter to the source model and that no node reads, and a note on those that may matter."""
    from onnxbuild.graphs import interface, modelfile
    from onnxbuild.parity import probes
    from onnxbuild.runtimes import onnxruntime
    from onnxbuild.steps import surrounding

    if onnxruntime.is_ort_format(graph):  # made of a graph that was looked at
        return [], []
    read = interface.values_read(modelfile.structure(graph))
    if options.get("bare"):
        read = {surrounding.input_fed(options, name) for name in options["model"]["inputs"] if name in read}
    lost, unknown = probes.lost(read, reference)
    why = "the model raises for other values than the described ones, so nothing shows whether they matter"
    return lost, [f"no node reads the values of input '{name}': {why}" for name in unknown if name in options["inputs"]]


def _resolution(options: Json, reference: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Json]:
    """How far apart two results of the source model are, by output, where anything tells."""
    from onnxbuild.parity import probes

    first = options.get("target", {}).get(
        "example", options["cases"][0]["name"]
    )  # the one that there is other data for
    one, other = (_outputs(reference, options, case) for case in (first, probes.OTHER))
    found = {
        output: probes.apart(output, one, other, options.get("comparators", {}).get(output))
        for output in options["outputs"]
    }
    return {output: facts for output, facts in found.items() if facts is not None}


def _measure(
    options: Json, root: Path, call: Callable[[Arrays], Arrays], reference: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[list[dict[str, Json]], bool]:
    """One row per case and output, and whether onnxruntime could run every case."""
    from onnxbuild.parity import samples, vacuous
    from onnxbuild.runtimes import onnxruntime

    rows: list[dict[str, Json]] = []
    asked = options.get("comparators", {})
    went_in: list[dict[str, vacuous.Values]] = []
    complete = True
    # One that is optional was dropped where the source model itself fails.
    cases = [case for case in options["cases"] if f"{case['name']}/{options['outputs'][0]}" in reference]
    for case in cases:
        feed = samples.make(options["inputs"], case, options["seed"], root)
        went_in.append({name: vacuous.values(array) for name, array in feed.items()})
        try:
            results = call(feed)
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no class; the other cases go on
            # Not every error comes from the graph: memory can run out.
            complete = False
            said = f"{_runs(options)} failed: {onnxruntime.first_line(error)}"
            rows += [measuring.row_of(case, output, error=said) for output in options["outputs"]]
            continue
        del feed
        wanted = _outputs(reference, options, case["name"])
        for output in options["outputs"]:
            rows.append(measuring.compared(case, output, results[output], wanted, asked))
            del results[output]
    once_more = _once_more(options, root, call, reference, rows) if len(options["cases"]) > 1 else []
    varied = vacuous.vary(went_in)
    for output in options["outputs"]:
        made = [vacuous.values(reference[f"{case['name']}/{output}"]) for case in cases]
        why = vacuous.of_all(made, varied=varied)
        own = (row for row in rows if row["output"] == output)
        for row, found in zip(own, made, strict=True):
            if row["error"] is None:
                row["vacuous"] = vacuous.of_one(found) or why or None
    return [*rows, *once_more], complete


def _runs(options: Json) -> str:
    """What runs the graph, or a target's files, by name."""
    return TARGETS[options["target"]["name"]].RUNTIME if "target" in options else "onnxruntime"


def _once_more(
    options: Json,
    root: Path,
    call: Callable[[Arrays], Arrays],
    reference: Mapping[str, np.ndarray[Any, Any]],
    rows: list[dict[str, Json]],
) -> list[dict[str, Json]]:
    """Rows of the first case, run again after the others in the same session, where it now comes out otherwise.

    A runtime may keep something of a shape that it has seen.
    """
    from onnxbuild.parity import samples
    from onnxbuild.runtimes import onnxruntime

    case = options["cases"][0]
    before = {row["output"]: row for row in rows if row["case"] == case["name"]}
    if any(row["error"] is not None for row in before.values()):
        return []
    again = {"case": f"{case['name']} once more", "again": True}
    feed = samples.make(options["inputs"], case, options["seed"], root)
    try:
        results = call(feed)
    except Exception as error:  # noqa: BLE001  # see above
        said = f"{_runs(options)} failed: {onnxruntime.first_line(error)}"
        return [{**measuring.row_of(case, output, error=said), **again} for output in options["outputs"]]
    wanted, asked = _outputs(reference, options, case["name"]), options.get("comparators", {})
    new = [measuring.compared(case, name, results[name], wanted, asked) for name in options["outputs"]]
    same = ("error", "max_abs", "mismatches", "measured")
    return [{**row, **again} for row in new if any(row.get(key) != before[row["output"]].get(key) for key in same)]


def _outputs(reference: Mapping[str, np.ndarray[Any, Any]], options: Json, case: str) -> Arrays:
    """The source model's outputs at a case, by name; those that there are."""
    found = {name: reference.get(f"{case}/{name}") for name in options["outputs"]}
    return {name: array for name, array in found.items() if array is not None}
