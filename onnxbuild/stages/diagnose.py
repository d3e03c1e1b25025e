"""The `diagnose` stage: what there is to find out about a graph that fails its parity. It runs after such a failure only.

Is it onnxruntime's own rewriting? The failing cases are run at weaker optimization levels. Is it the size, or the values?
The data are drawn anew, for the graph and the source model alike. Is it an order that is free to choose? Do two runs
agree? And the failing cases are kept as files. Words are made of it by `parity.diagnosis` and `parity.hints`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from onnxbuild.contracts import Arrays, Json, Outcome, Task, Trait
from onnxbuild.parity import gates, measuring, tolerance, traits
from onnxbuild.parity.evidence import Evidence, Run
from onnxbuild.runtimes import reproduction
from onnxbuild.system.files import sha256_file

if TYPE_CHECKING:
    from onnxbuild.parity.tolerance import Tolerances

    Call: TypeAlias = Callable[[Arrays], Arrays]

VERSION = 2
PRELOAD = "torch"
DISTRIBUTIONS: tuple[str, ...] = ("ml-dtypes", "numpy", "onnx", "onnxruntime")
TRAITS = frozenset({Trait.PUBLISHES, Trait.LOOKS_INTO})
FIELDS: dict[str, tuple[str, ...]] = {"source": ("model",), "runtime": ("runtime",), "tolerances": ("parity",)}

LEVELS = ("disable_all", "basic", "extended", "layout", "all")
LOOKED_AT = 4  # failing cases, and as many that hold
DRAWS = 3  # of new data for each
CANDIDATES = 32  # among which those are taken that have least in common with what failed
SMALL = 1 << 16  # elements of a case of which so many are worth drawing
STRIDE = 1_000_003  # between the seeds of two draws


class Graph(NamedTuple):
    """The graph under test: how it is called, and by what it is judged."""

    call: Call
    outputs: list[str]
    tolerances: Tolerances

    def wrong(self, case: Json, given: Arrays, wanted: Arrays, call: Call | None = None) -> set[str]:
        """The outputs that are out of tolerance of `wanted` at these inputs: all of them where the graph can't be run."""
        try:
            made = (call or self.call)(given)
        except Exception:  # noqa: BLE001  # onnxruntime's errors share no class
            return set(self.outputs)
        return self.off(case, made, wanted)

    def off(self, case: Json, made: Arrays, wanted: Arrays) -> set[str]:
        """Those of a result that are out of tolerance of `wanted`."""
        asked = tolerance.asked(self.tolerances)
        rows = [measuring.compared(case, name, made[name], wanted, asked) for name in self.outputs]
        return {row["output"] for row in rows if not tolerance.verdict(row, None, self.tolerances).passed}


class Failing(NamedTuple):
    """A case at which these outputs failed, what went in, and what the source model makes of it."""

    case: Json
    outputs: list[str]
    given: Arrays
    reference: Arrays


def run(task: Task) -> Outcome:
    """Facts: the fields of `Evidence`, `notes`, and `artifacts` as a package has them."""
    from onnxbuild.parity import arrays, samples
    from onnxbuild.runtimes import onnxruntime
    from onnxbuild.stages import source_model

    options = task.options
    failed: dict[str, list[str]] = options["failed"]
    session, _, _ = onnxruntime.open_session(task.inputs["graph"], options["runtime"], Path(task.scratch))
    tolerances = msgspec.convert(options["tolerances"], tolerance.Tolerances)
    graph = Graph(source_model.caller(session, options), options["outputs"], tolerances)
    stored = arrays.read(Path(task.inputs["reference"]))
    # An optional case was dropped where the source model itself fails.
    options = {
        **options,
        "cases": [case for case in options["cases"] if f"{case['name']}/{graph.outputs[0]}" in stored],
    }
    task = msgspec.structs.replace(task, options=options)
    by_name = {case["name"]: case for case in options["cases"]}
    failing = []
    for name, outputs in list(failed.items())[:LOOKED_AT]:
        given = samples.make(options["inputs"], by_name[name], options["seed"], Path(task.root))
        reference = {output: stored[f"{name}/{output}"] for output in graph.outputs}
        failing.append(Failing(by_name[name], outputs, given, reference))
    results = [_result(graph, one) for one in failing]
    kept, notes = _keep(task, graph, failing, results)
    evidence = Evidence(
        right_at=_right_at(task, graph, failing),
        runs=[*_own_runs(task), *_redrawn(task, graph, failing)],
        reordered=_reordered(graph, failing, results),
        unsteady=_unsteady(graph, failing),
        kept=[made["path"] for made in kept],
    )
    # A case that can't be run may owe that to the machine, such as memory that ran out.
    return Outcome(facts=msgspec.to_builtins(evidence) | {"artifacts": kept, "notes": notes}, cacheable=all(results))


def _right_at(task: Task, graph: Graph, failing: list[Failing]) -> dict[str, list[str]]:
    """By output: the optimization levels below the recipe's at which it is right wherever it failed."""
    from onnxbuild.runtimes import onnxruntime
    from onnxbuild.stages import source_model

    runtime = task.options["runtime"]
    own = runtime["session"]["graph_optimization_level"]
    right: dict[str, list[str]] = {}
    for level in LEVELS[: LEVELS.index(own)]:
        weaker = {**runtime, "session": {**runtime["session"], "graph_optimization_level": level}}
        try:
            session, _, _ = onnxruntime.open_session(task.inputs["graph"], weaker, Path(task.scratch))
        except Exception:  # noqa: BLE001, S112  # a level at which the graph can't be opened tells nothing of the others
            continue
        call = source_model.caller(session, task.options)
        wrong = [graph.wrong(one.case, one.given, one.reference, call) for one in failing]
        for output in graph.outputs:
            still = [output in found for one, found in zip(failing, wrong, strict=True) if output in one.outputs]
            if still and not any(still):
                right.setdefault(output, []).append(level)
    return right


def _own_runs(task: Task) -> list[Run]:
    """The runs that the parity has judged already, with the traits of what went in."""
    from onnxbuild.parity import samples

    options, runs = task.options, []
    for case in options["cases"]:
        name = case["name"]
        own = traits.of_inputs(samples.make(options["inputs"], case, options["seed"], Path(task.root)))
        failed = options["failed"].get(name, ())
        runs += [Run(name, output, output not in failed, own) for output in options["outputs"]]
    return runs


def _redrawn(task: Task, graph: Graph, failing: list[Failing]) -> list[Run]:
    """The failing cases, and some that hold, with other data of the same description."""
    from onnxbuild.stages import source_model

    source = source_model.reference(task).call
    held = [case for case in task.options["cases"] if case["name"] not in task.options["failed"]][:LOOKED_AT]
    runs = []
    for case in (*(one.case for one in failing), *held):
        for given, own in _draws(task, case):
            try:
                wanted = source(given)
            except Exception:  # noqa: BLE001, S112  # the model's own code may refuse some values
                continue
            wrong = graph.wrong(case, given, wanted)
            runs += [Run(case["name"], output, output not in wrong, own, drawn=True) for output in graph.outputs]
    return runs


def _draws(task: Task, case: Json) -> Iterator[tuple[Arrays, list[str]]]:
    """Other data for a case, those first that share least with its own; none where the data are fixed."""
    from onnxbuild.parity import samples

    options, root = task.options, Path(task.root)

    def drawn(number: int) -> Arrays:
        return samples.make(options["inputs"], case, options["seed"] + number * STRIDE, root)

    own = drawn(0)
    if all(bool((own[name] == array).all()) for name, array in drawn(1).items()):
        return
    before = set(traits.of_inputs(own))
    small = sum(array.size for array in own.values()) <= SMALL
    numbers = range(1, (CANDIDATES if small else DRAWS) + 1)
    alike = {number: len(before & set(traits.of_inputs(drawn(number)))) for number in numbers}
    for number in sorted(numbers, key=lambda number: (alike[number], number))[:DRAWS]:
        given = drawn(number)
        yield given, traits.of_inputs(given)


def _reordered(graph: Graph, failing: list[Failing], results: list[Arrays]) -> dict[str, int]:
    """By output: the axis along which it holds the reference's values in another order wherever it fails."""
    found: dict[str, set[int]] = {}
    for one, made in zip(failing, results, strict=True):
        for output in one.outputs if made else ():
            rtol, atol = _limits(graph, output)
            axes = same_in_another_order(made[output], one.reference[output], rtol, atol)
            found[output] = found.get(output, axes) & axes
    return {output: min(axes) for output, axes in found.items() if axes}


def _limits(graph: Graph, output: str) -> tuple[float, float]:
    """By how much values may differ that are the same ones: no more than an output is allowed, and no more than the default,
    since under a wide tolerance sorted values of any two results are alike.
    """
    elements = tolerance.limit(graph.tolerances, output).elements
    found = elements or graph.tolerances
    return min(found.rtol, tolerance.RTOL), min(found.atol, tolerance.ATOL)


def _shown(graph: Graph, output: str) -> reproduction.Limit:
    """What the script of a failing case holds an output to."""
    held = tolerance.limit(graph.tolerances, output)
    elements = (held.elements.rtol, held.elements.atol) if held.elements else None
    return reproduction.Limit(
        elements, {f"{name}_figure": gates.script(name, own) for name, own in held.comparators.items()}
    )


def same_in_another_order(got: Any, reference: Any, rtol: float, atol: float) -> set[int]:
    """The axes along which two arrays hold the same values, in another order."""
    import numpy as np

    if got.shape != reference.shape or got.dtype != reference.dtype or got.dtype.kind not in "fiu":
        return set()
    if got.dtype.kind in "iu":
        rtol = atol = 0.0
    if np.allclose(got, reference, rtol, atol, equal_nan=True):  # in the same order
        return set()
    return {
        axis
        for axis in range(got.ndim)
        if np.allclose(np.sort(got, axis), np.sort(reference, axis), rtol, atol, equal_nan=True)
    }


def _unsteady(graph: Graph, failing: list[Failing]) -> bool:
    """Whether the graph gives two results, out of tolerance of each other, for one input. What is the same twice is steady,
    though a comparator may not even accept it beside itself.
    """
    from onnxbuild.parity import probes

    for one in failing[:1]:
        with contextlib.suppress(Exception):  # where it can't be run, that has been said
            first, again = graph.call(one.given), graph.call(one.given)
            return any(not probes.same(first[name], again[name]) for name in graph.off(one.case, again, first))
    return False


def _result(graph: Graph, one: Failing) -> Arrays:
    """What the graph gives at a case; {} where it can't be run."""
    with contextlib.suppress(Exception):
        return graph.call(one.given)
    return {}


def _as_graph_calls(
    options: Json, failing: list[Failing], results: list[Arrays], graph: Graph
) -> tuple[list[Failing], list[Arrays], Graph]:
    """The same by the names that the graph itself has, where it is renamed later on."""
    names = options.get("renames", {}) if options.get("bare") else {}
    own = {group: {new: old for old, new in found.items()} for group, found in names.items()}
    if not own:
        return failing, results, graph

    def outputs(arrays: Arrays) -> Arrays:
        return {own["outputs"].get(name, name): array for name, array in arrays.items()}

    called = [
        Failing(
            one.case,
            [own["outputs"].get(name, name) for name in one.outputs],
            {own["inputs"].get(name, name): array for name, array in one.given.items()},
            outputs(one.reference),
        )
        for one in failing
    ]
    limits = {own["outputs"].get(name, name): limit for name, limit in graph.tolerances.outputs.items()}
    return (
        called,
        [outputs(made) for made in results],
        Graph(
            graph.call,
            [own["outputs"].get(name, name) for name in graph.outputs],
            msgspec.structs.replace(graph.tolerances, outputs=limits),
        ),
    )


def _keep(task: Task, graph: Graph, failing: list[Failing], results: list[Arrays]) -> tuple[list[Json], list[str]]:
    """Publish the failing cases as files: the artifacts, and what of it is too large to be kept."""
    from onnxbuild.graphs import modelfile

    options, scratch, source = task.options, Path(task.scratch), Path(task.inputs["graph"])
    if options.get("bare") and (options["prepend"] or options["append"]):
        return [], [f"the cases of {options['of']} are not kept: the steps around that graph are computed apart"]
    failing, results, graph = _as_graph_calls(options, failing, results, graph)
    name = f"{reproduction.FOLDER}/{options['of']}"
    folder = Path(task.dest) / name
    small = modelfile.total_bytes(modelfile.structure(source)) <= reproduction.MOST
    # A copy of large weights is not worth it: the store has them.
    where = reproduction.GRAPH if small else Path(os.path.relpath(source, folder)).as_posix()
    made = modelfile.write(source, scratch / reproduction.GRAPH) if small else []
    notes = [] if small else [f"the graph of {options['of']} is too large to be copied: its script reads the store's"]
    for one, got in zip(failing, results, strict=True):
        if reproduction.size_of(one.given, got, one.reference) > reproduction.MOST:
            most = reproduction.MOST >> 20
            notes.append(f"{one.case['name']} of {options['of']} is not kept: its arrays take more than {most} MiB")
            continue
        outputs = [*one.outputs, *(output for output in graph.outputs if output not in one.outputs)]
        limits = {output: _shown(graph, output) for output in outputs}
        title = f"{options['of']} at {one.case['name']}: {', '.join(one.outputs)} of the graph is wrong"
        made += reproduction.write_case(scratch, one.case["name"], (one.given, got, one.reference))
        bfloat16 = any(array.dtype.name == "bfloat16" for array in (*one.given.values(), *one.reference.values()))
        script = reproduction.write_script(made[-1], title, where, options["runtime"], limits, bfloat16=bfloat16)
        made += [script]
    artifacts = [
        {"path": f"{name}/{path.name}", "sha256": sha256_file(path), "bytes": path.stat().st_size} for path in made
    ]
    reproduction.publish(made, folder)
    return artifacts, notes
