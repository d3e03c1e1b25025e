"""The `reference` stage: the source framework's own outputs for every parity case, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.contracts import Arrays, Json, Outcome, SourceModule, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.system.capture import listening

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

VERSION = 3
PRELOAD = "torch"
DISTRIBUTIONS: tuple[str, ...] = ("numpy",)
TRAITS: frozenset[Trait] = frozenset()
FIELDS: dict[str, tuple[str, ...]] = {
    "source": ("model",),
    "arguments": ("export", "arguments"),
    "inputs": ("export", "inputs"),
    "outputs": ("export", "outputs"),
    "cases": ("export", "dims"),
    "seed": ("parity", "seed"),
}
SHOWN = 4  # cases named before "and 3 more"


def run(task: Task) -> Outcome:
    """Run the source's model on every case and keep its outputs as `{case}/{output}`.

    Raises StageError where the model itself fails at some case, saying at which sizes it works.
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
    from onnxbuild.parity import samples, vacuous

    inputs, outputs = task.options["inputs"], task.options["outputs"]
    compute = source.reference(task)
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
        gives = {name: {"dtype": made[name].dtype.name, "shape": list(made[name].shape)} for name in outputs}
        cases.append({"name": case["name"], "dims": case["dims"], "inputs": fed, "outputs": gives})
    if failed:
        raise _failure(source, failed, [case["name"] for case in cases], root)
    varied = vacuous.vary(went_in)
    hollow = {name: why for name, found in came_out.items() if (why := vacuous.of_all(found, varied=varied))}
    return results, {"cases": cases, "vacuous": hollow}


def _failure(source: SourceModule, failed: Mapping[str, Exception], works: list[str], root: Path) -> StageError:
    first = next(iter(failed.values()))
    if isinstance(first, StageError) and not works:
        return first  # ours, of what the recipe says of the model, as it stops the export too
    explained = source.explain(first, root)
    where = f"the model itself fails at {_some(list(failed))}"
    fact = f"{where}: {explained.fact.removeprefix(': ').strip()}"
    if works:
        hint = f"it works at {_some(works)}; narrow export.dims, or take the axis out of dynamic_axes"
        return StageError(fact, hint)
    return StageError(fact, explained.hint or "it fails at every case: look at the inputs' dtypes, shapes and data")


def _sha256(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more
