"""The `reference` stage: the source framework's own outputs for every parity case, computed once and kept."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from onnxbuild.contracts import Arrays, Json, Outcome, SourceModule, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.system.capture import listening
from onnxbuild.text.wording import some

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.parity.vacuous import Values

    Array: TypeAlias = np.ndarray[Any, Any]

VERSION = 4
PRELOAD = "torch"
DISTRIBUTIONS: tuple[str, ...] = ("numpy",)
TRAITS = frozenset({Trait.REFERENCE})
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
    """The outputs of every case, and of what is tried besides; the facts. Raises StageError."""
    from onnxbuild.parity import samples
    from onnxbuild.runtimes import unsupported
    from onnxbuild.stages import probing, source_model
    from onnxbuild.steps import surrounding

    inputs, outputs = task.options["inputs"], task.options["outputs"]
    try:
        model = source_model.reference(task)
    except unsupported.NotRunError as error:
        return {}, {"cases": [], "vacuous": {}, "not_run": str(error)}
    ran: list[_Ran] = []
    failed: dict[str, Exception] = {}
    dropped: dict[str, str] = {}
    for case in task.options["cases"]:
        given = samples.make(inputs, case, task.options["seed"], root)
        try:
            made = model.call(given)
        except Exception as error:  # noqa: BLE001  # a model's code may raise anything; all cases are tried first
            if case.get("optional"):
                dropped[case["name"]] = f"the model itself fails there: {source.explain(error, root).fact}"
            else:
                failed[case["name"]] = error
            continue
        if case.get("optional") and not _is_finite(made):
            dropped[case["name"]] = "the model itself gives NaN or infinities there"
        else:
            ran.append(_ran(case, given, {name: made[name] for name in outputs}))
    if failed:
        if ran and ran[0].case["name"] == task.options["cases"][0]["name"]:
            given = samples.make(inputs, ran[0].case, task.options["seed"], root)
            probing.require_steady(model, given, ran[0].made)
        own = functools.partial(surrounding.sizes_as_exported, task.options)
        works = {one.case["name"]: own(one.case["dims"]) for one in ran}
        fails = [own(case["dims"]) for case in task.options["cases"] if case["name"] in failed]
        raise _failure(source, failed, works, fails, root)
    results = probing.probed(task, model, root, ran[0].made)
    results |= {f"{one.case['name']}/{name}": array for one in ran for name, array in one.made.items()}
    facts = _facts(ran, outputs)
    notes = [f"case {name} is dropped: {why.removeprefix(': ')}" for name, why in dropped.items()]
    notes += _require_axes(task.options, facts["cases"], source_model.output_shapes(task))
    return results, {**facts, "dropped": dropped, "notes": notes}


class _Ran(NamedTuple):
    """A case that the model ran: what went in, by digest and by what its elements have in common, and what came out."""

    case: Json
    fed: dict[str, Json]
    went_in: dict[str, Values]
    made: Arrays


def _ran(case: Json, given: Arrays, made: Arrays) -> _Ran:
    from onnxbuild.parity import vacuous

    fed = {name: {"shape": list(array.shape), "sha256": _sha256(array)} for name, array in given.items()}
    return _Ran(case, fed, {name: vacuous.values(array) for name, array in given.items()}, made)


def _facts(ran: Sequence[_Ran], outputs: Sequence[str]) -> dict[str, Json]:
    """What went in and what came out, by case; the outputs that prove nothing, and where one is all NaN."""
    from onnxbuild.parity import arrays, vacuous

    cases = []
    for case, fed, _, made in ran:
        gives = {name: {"dtype": arrays.dtype_name(made[name]), "shape": list(made[name].shape)} for name in outputs}
        cases.append({"name": case["name"], "dims": case["dims"], "inputs": fed, "outputs": gives})
    varied = vacuous.vary(one.went_in for one in ran)
    came_out = {name: [vacuous.values(one.made[name]) for one in ran] for name in outputs}
    hollow = {name: why for name, found in came_out.items() if (why := vacuous.of_all(found, varied=varied))}
    all_nan = {
        name: [one.case["name"] for one, values in zip(ran, found, strict=True) if values.kind == "nan"]
        for name, found in came_out.items()
    }
    return {"cases": cases, "vacuous": hollow, "all_nan": {name: where for name, where in all_nan.items() if where}}


def _is_finite(made: Arrays) -> bool:
    import numpy as np

    from onnxbuild.parity.samples import is_float

    return all(bool(np.isfinite(array).all()) for array in made.values() if is_float(array.dtype))


def _require_axes(
    options: Mapping[str, Json], cases: list[dict[str, Json]], shapes: Mapping[str, Sequence[int | str | None] | None]
) -> list[str]:
    """Notes on axes that the source leaves open by itself, and the recipe does not declare: the graph says so too.

    `shapes` is what the source says of its outputs. Raises StageError where an output's axis is not, in some case, what
    the recipe declares.
    """
    from onnxbuild.graphs import axes
    from onnxbuild.steps import surrounding

    if "axes" not in options:
        return []
    said, related, cases = surrounding.as_exported(options, cases)
    dims = {dim for case in cases for dim in case["dims"]}
    wrong, notes = [], []
    for one in axes.problems(said, related, cases):
        output, axis = one.undeclared or ("", 0)
        shape = shapes.get(surrounding.output_called(options, output), ())
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
    fails: Sequence[Mapping[str, int]],
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
