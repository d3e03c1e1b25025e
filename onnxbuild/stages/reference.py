"""The `reference` stage: the source framework's own outputs for every parity case, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.contracts import Arrays, Json, Outcome, SourceModule, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.system.capture import listening
from onnxbuild.text.wording import some

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

VERSION = 4
PRELOAD = "torch"
DISTRIBUTIONS: tuple[str, ...] = ("numpy",)
TRAITS: frozenset[Trait] = frozenset()
FIELDS: dict[str, tuple[str, ...]] = {
    "source": ("model",),
    "arguments": ("export", "arguments"),
    "inputs": ("export", "inputs"),
    "outputs": ("export", "outputs"),
    "axes": ("export", "dynamic_axes"),
    "related": ("export", "dims"),
    "cases": ("export", "dims"),
    "seed": ("parity", "seed"),
    "allow_not_run": ("parity", "allow_not_run"),
}


def run(task: Task) -> Outcome:
    """Run the source's model on every case and keep its outputs as `{case}/{output}`.

    Raises StageError where the model itself fails at some case, saying at which sizes it works, and where its outputs'
    axes are not what the recipe declares. Where the source can't be run here, and the recipe allows it, there are no
    outputs, and the fact `not_run` says why.
    """
    from onnxbuild.parity import arrays
    from onnxbuild.sources import SOURCES
    from onnxbuild.store import objects

    root = Path(task.root)
    (name,) = task.options["source"]
    with listening(root, SOURCES[name].NOISE) as warnings:
        results, facts = _all_cases(task, SOURCES[name], root)
    path = Path(task.scratch) / "reference.safetensors"
    arrays.save(path, results)
    ref = objects.add_file(Path(task.objects), path)
    return Outcome({"reference": ref}, [ref], facts, list(warnings))


def _all_cases(task: Task, source: SourceModule, root: Path) -> tuple[Arrays, dict[str, Json]]:
    from onnxbuild.parity import arrays, samples, vacuous
    from onnxbuild.runtimes import unsupported

    inputs, outputs = task.options["inputs"], task.options["outputs"]
    try:
        compute = source.reference(task)
    except unsupported.NotRunError as error:
        return {}, {"cases": [], "vacuous": {}, "not_run": str(error)}
    results: Arrays = {}
    cases: list[dict[str, Json]] = []
    failed: dict[str, Exception] = {}
    went_in: list[dict[str, vacuous.Values]] = []
    came_out: dict[str, list[vacuous.Values]] = {name: [] for name in outputs}
    for case in task.options["cases"]:
        given = samples.make(inputs, case, task.options["seed"], root)
        fed = {name: {"shape": list(array.shape), "sha256": _sha256(array)} for name, array in given.items()}
        went_in.append({name: vacuous.values(array) for name, array in given.items()})
        try:
            made = compute(given)
        except Exception as error:  # noqa: BLE001  # a model's code may raise anything; all cases are tried first
            failed[case["name"]] = error
            continue
        results |= {f"{case['name']}/{name}": made[name] for name in outputs}
        for name in outputs:
            came_out[name].append(vacuous.values(made[name]))
        gives = {name: {"dtype": arrays.dtype_name(made[name]), "shape": list(made[name].shape)} for name in outputs}
        cases.append({"name": case["name"], "dims": case["dims"], "inputs": fed, "outputs": gives})
    if failed:
        works = {case["name"]: case["dims"] for case in cases}
        fails = [case["dims"] for case in task.options["cases"] if case["name"] in failed]
        raise _failure(source, failed, works, fails, root)
    notes = _require_axes(task.options, cases, source.output_shapes(task))
    varied = vacuous.vary(went_in)
    hollow = {name: why for name, found in came_out.items() if (why := vacuous.of_all(found, varied=varied))}
    return results, {"cases": cases, "vacuous": hollow, "notes": notes}


def _require_axes(
    options: Mapping[str, Json], cases: list[dict[str, Json]], shapes: Mapping[str, Sequence[int | str | None] | None]
) -> list[str]:
    """Notes on axes that the source leaves open by itself, and the recipe does not declare: the graph says so too.

    `shapes` is what the source says of its outputs. Raises StageError where an output's axis is not, in some case, what
    the recipe declares.
    """
    from onnxbuild.graphs import axes

    if "axes" not in options:
        return []
    dims = {dim for case in cases for dim in case["dims"]}
    wrong, notes = [], []
    for one in axes.problems(options["axes"], options.get("related", {}), cases):
        output, axis = one.undeclared or ("", 0)
        shape = shapes.get(output, ())
        size = None if shape is None else shape[axis] if axis < len(shape) else 0
        if one.undeclared is None or isinstance(size, int) or size in dims:
            wrong.append(one)
        else:
            notes.append(one.fact)
    if wrong:
        raise StageError("\n".join(one.fact for one in wrong), wrong[0].hint)
    return notes


def _failure(
    source: SourceModule,
    failed: Mapping[str, Exception],
    works: Mapping[str, Mapping[str, int]],
    fails: list[Mapping[str, int]],
    root: Path,
) -> StageError:
    """Why the model can't be run at some cases; `works` and `fails` have the sizes of those where it can and can't."""
    from onnxbuild.graphs import axes

    first = next(iter(failed.values()))
    if isinstance(first, StageError) and not works:
        return first  # ours, of what the recipe says of the model, as it stops the export too
    explained = source.explain(first, root)
    where = f"the model itself fails at {some(list(failed), between='; ')}"
    fact = f"{where}: {explained.fact.removeprefix(': ').strip()}"
    if works:
        related = axes.relation(list(works.values()), fails)
        remedy = f"relate them, export.dims: {{{related}}}" if related else "narrow export.dims"
        fine = some(list(works), between="; ")
        return StageError(fact, f"it works at {fine}; {remedy}, or take the axis out of dynamic_axes")
    return StageError(fact, explained.hint or "it fails at every case: look at the inputs' dtypes, shapes and data")


def _sha256(array: Array) -> str:
    from onnxbuild.parity import arrays

    return hashlib.sha256(arrays.content(array)).hexdigest()
