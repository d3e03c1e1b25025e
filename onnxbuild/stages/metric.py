"""Runs the source model, a graph or a target's files on a data set, and has the recipe's function make a figure of it.

Measures only: how much worse than the source model a graph may be is not known here. The whole data set is one call of the
function, since few figures of a part can be made into one of the whole.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Arrays, Json, Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.system.capture import listening
from onnxbuild.text.wording import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = 2
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("numpy",)
TRAITS = frozenset({Trait.SCORES})
FIELDS: dict[str, tuple[str, ...]] = {
    "function": ("metric", "function"),
    "data": ("metric", "data"),
    "inputs": ("export", "inputs"),
    "outputs": ("export", "outputs"),
    "runtime": ("runtime",),
    "source": ("model",),
    "arguments": ("export", "arguments"),
    "cases": ("export", "dims"),
    "allow_not_run": ("parity", "allow_not_run"),
}
CALLED = "it is called with (outputs, data), both arrays by name"


def run(task: Task) -> Outcome:
    """Facts: `function`, its `value`, the `rows` of the data; of the source model also `blind`, the value where every row's
    outputs are those of the first, None where that can't be told; of others the `providers` that ran.

    Raises StageError where the model can't be run on the data, and where the function gives no number.
    """
    from onnxbuild.sources import SOURCES, factories

    root, named = Path(task.root), task.options["function"]
    noise = SOURCES[next(iter(task.options["source"]))].NOISE if "source" in task.options else ""
    with listening(root, noise) as warnings:
        function = factories.import_callable(named, root)
        _require_arguments(named, function)
        call, facts = _of_source(task) if "source" in task.options else _of_graph(task)
        outputs, data = _whole(task, call)
        rows = _rows(data, task.options["inputs"])
        value = _value(named, function, outputs, data, root)
        blind = _blind(function, outputs, data, rows) if "source" in task.options else None
    facts |= {"function": named, "value": value, "rows": rows}
    facts |= {"blind": blind} if "source" in task.options else {}
    return Outcome(facts=facts, warnings=list(warnings))


def _require_arguments(named: str, function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of native code: it says so itself when it is called
        return
    try:
        signature.bind({}, {})
    except TypeError as error:
        raise StageError(f"the metric {named}{signature} can't be called so: {error}", CALLED) from None


def _of_source(task: Task) -> tuple[Callable[[Arrays], Arrays], dict[str, Json]]:
    """What computes the source model's outputs."""
    from onnxbuild.sources import SOURCES
    from onnxbuild.stages import source_model

    (kind,), root = task.options["source"], Path(task.root)
    model = source_model.reference(task)

    def call(feed: Arrays) -> Arrays:
        try:
            made = model.call(feed)
        except Exception as error:
            explained = SOURCES[kind].explain(error, root)
            fact = f"the model itself fails on the data: {explained.fact.removeprefix(': ').strip()}"
            raise StageError(fact, explained.hint) from error
        return {name: made[name] for name in task.options["outputs"]}

    return call, {}


def _of_graph(task: Task) -> tuple[Callable[[Arrays], Arrays], dict[str, Json]]:
    """What computes a graph's outputs, or those of a target's files."""
    from onnxbuild.runtimes import onnxruntime
    from onnxbuild.stages import opening

    options = task.options
    if "target" in options:
        opened = opening.opened(task)
        run, providers, notes = opened.call, opened.providers, opened.notes
    else:
        session, providers, notes = onnxruntime.open_session(
            task.inputs["graph"], options["runtime"], Path(task.scratch)
        )
        run = onnxruntime.caller(session, options["outputs"])

    def call(feed: Arrays) -> Arrays:
        try:
            return run(feed)
        except Exception as error:
            shapes = ", ".join(f"'{name}' of shape {list(array.shape)}" for name, array in feed.items())
            fact = f"the graph can't be run on the data, {shapes}: {onnxruntime.first_line(error)}"
            raise StageError(fact, "the data has to be of sizes that the recipe's dims allow") from error

    return call, {"providers": providers, "notes": list(notes)}


def _whole(task: Task, call: Callable[[Arrays], Arrays]) -> tuple[Arrays, Arrays]:
    """The outputs for the whole data set, and the data, by name."""
    from onnxbuild.parity import datasets
    from onnxbuild.sources import factories

    options, root = task.options, Path(task.root)
    made: dict[str, list[Any]] = {name: [] for name in options["outputs"]}
    given: dict[str, list[Any]] = {}
    inputs = options["inputs"]
    every = datasets.feeds(
        options["data"], inputs, task.inputs, lambda named: factories.samples(named, root), others=True
    )
    runs = 0
    for feed in every:
        runs += 1
        results = call({name: feed[name] for name in inputs})
        for name, parts in made.items():
            parts.append(results[name])
        for name, array in feed.items():
            given.setdefault(name, []).append(array)
    if uneven := [name for name, parts in given.items() if len(parts) != runs]:
        raise StageError(
            f"the data has '{uneven[0]}' in some of its samples alone", "give every sample the same arrays"
        )
    return _joined("output", made), _joined("the data's", given)


def _joined(what: str, parts: Mapping[str, Sequence[Any]]) -> Arrays:
    """The arrays of all runs one after the other along axis 0, those without axes side by side."""
    import numpy as np

    found = {}
    for name, arrays in parts.items():
        whole = [np.atleast_1d(array) for array in arrays]
        shapes = dict.fromkeys(array.shape[1:] for array in whole)
        if len(shapes) > 1:
            told = some([str(list(shape)) for shape in shapes])
            fact = f"{what} '{name}' has other sizes from run to run ({told} beside axis 0)"
            raise StageError(f"{fact}, and can't be handed over as one array", "pad the data to one size")
        found[name] = np.concatenate(whole)
    return found


def _rows(data: Arrays, inputs: Mapping[str, Json]) -> int:
    return max((len(data[name]) for name in inputs), default=0)


def _value(named: str, function: Callable[..., Any], outputs: Arrays, data: Arrays, root: Path) -> float:
    """What the function gives, as a float. Raises StageError where that is none."""
    from onnxbuild.sources import factories, failures

    try:
        value = function(dict(outputs), dict(data))
    except (Exception, SystemExit) as error:
        failed = failures.explain(error, f"the metric {named} failed", root)
        held = f"outputs has {some(list(outputs))}; data has {some(list(data))}"
        raise StageError(failed.fact, f"{failed.hint}; {held}" if failed.hint else held) from error
    number = _number(value)
    if number is None or not math.isfinite(number):
        what = str(number) if number is not None else factories.article(type(value).__name__)
        raise StageError(f"the metric {named} gives {what}, not a finite number", "return a float")
    return number


def _number(value: Any) -> float | None:
    """A number of Python's, numpy's or a framework's own with one element; None of anything else, truth values included."""
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (TypeError, ValueError, RuntimeError):  # of several elements
            return None
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:  # an integer beyond what a float holds
        return math.inf


def _blind(function: Callable[..., Any], outputs: Arrays, data: Arrays, rows: int) -> float | None:
    """The figure of a model that answers every row as the first: one that can't be told from it proves nothing."""
    import numpy as np

    if rows < 2 or any(len(array) != rows for array in outputs.values()):
        return None
    same = {name: np.repeat(array[:1], rows, axis=0) for name, array in outputs.items()}
    try:
        value = _number(function(same, dict(data)))
    except Exception:  # noqa: BLE001  # it was asked what no model may give
        return None
    return value if value is not None and math.isfinite(value) else None
