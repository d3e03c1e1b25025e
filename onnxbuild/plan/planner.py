"""From a recipe to its stages, branch by branch: the source, the passes, what proves each graph, the benchmark, the package.

A branch is a function that takes what the recipe says and the stages so far, and gives the stages that it adds; a new kind
of branch is one function and its place in `BRANCHES`. Touches no file, no store, no clock; a source that takes weights
from an installed package asks where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct

from onnxbuild.contracts import Json, SourceModule, Trait
from onnxbuild.passes import PASSES
from onnxbuild.plan import cases, order
from onnxbuild.plan.dag import Path, Plan, Stage
from onnxbuild.recipe.types import Recipe, chosen
from onnxbuild.sources import SOURCES
from onnxbuild.stages import STAGES

_ON_NVIDIA = {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}


class Resolved(Struct, frozen=True):
    """What the branches take from a recipe, worked out once.

    `export` is that section as JSON; `samples` what makes the inputs of every case (inputs, cases, seed), and `data` the
    files that those are read from, by role.
    """

    recipe: Recipe
    source: SourceModule
    options: Any  # of the source
    model: dict[str, Json]
    export: dict[str, Json]
    samples: dict[str, Json]
    data: dict[str, str]


Branch: TypeAlias = Callable[[Resolved, Sequence[Stage]], list[Stage]]


def plan(recipe: Recipe) -> Plan:
    """Resolve a recipe into its stages."""
    taken, left_out = cases.derive(recipe.export, recipe.parity)
    name, options = chosen(recipe.model)
    source, export = SOURCES[name], _json(recipe.export)
    model = {name: _without_files(_json(options), source.HASHED)}
    samples = {"inputs": export["inputs"], "cases": taken, "seed": recipe.parity.seed}
    resolved = Resolved(recipe, source, options, model, export, samples, _data_files(export["inputs"], taken))
    stages: list[Stage] = []
    for branch in BRANCHES:
        stages += branch(resolved, stages)
    return Plan(stages, stages[0].name, left_out, cases.remarks(recipe.export, recipe.parity, taken, left_out))


def _source(resolved: Resolved, _: Sequence[Stage]) -> list[Stage]:
    """The exported graph and what proves it, and the outputs that every graph is held against."""
    recipe, export, samples = resolved.recipe, resolved.export, resolved.samples
    ordered = _ordered(resolved)
    exported = _of_source(
        "export",
        {"source": resolved.model, "export": export, "symbolics": _json(recipe.symbolics), "order": ordered},
        resolved,
        _data_files(export["inputs"], []),
    )
    reference = _of_source(
        "reference",
        {
            "source": resolved.model,
            "outputs": export["outputs"],
            "arguments": export.get("arguments"),
            "order": ordered,
            **samples,
        },
        resolved,
        resolved.data,
    )
    return [exported, reference, *_proofs(resolved, exported.name)]


def _passes(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """Each pass over the graph before it, and what proves its own graph."""
    stages: list[Stage] = []
    for number, one_of in enumerate(resolved.recipe.optimize, 1):
        name, options = chosen(one_of)
        module = PASSES[name]
        place: Path = ("optimize", number - 1)
        graph = _last_graph([*before, *stages])
        made = _stage(
            f"optimize/{number}-{name}",
            "optimize",
            {"pass": name, "options": _json(options)},
            version=module.VERSION,
            tools=module.DISTRIBUTIONS,
            needs={"graph": (graph, "graph")},
            after=_proofs_of(graph),
            facets=("cpu_flags",) if module.notes(options) else (),
            fields={"pass": place, "options": (*place, name)},
            notes=list(module.notes(options)),
        )
        stages += [made, *_proofs(resolved, made.name)]
    return stages


def _benchmark(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    recipe, samples = resolved.recipe, resolved.samples
    if recipe.benchmark is UNSET:
        return []
    graph = _last_graph(before)
    stage = _stage(
        "benchmark",
        "benchmark",
        {
            "inputs": samples["inputs"],
            "seed": samples["seed"],
            "case": cases.case_at(recipe.export, recipe.benchmark.dims),
            "runtime": _json(recipe.runtime),
            "warmup": recipe.benchmark.warmup,
            "runs": recipe.benchmark.runs,
        },
        needs={"graph": (graph, "graph")},
        files=_data_files(samples["inputs"], []),
        after=_gates(before),
        facets=("cpu", "cpu_flags", "cores", *_gpu(recipe)),
        proof=f"parity/{_short(graph)}",
    )
    return [stage]


def _package(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    graph = {"graph": (_last_graph(before), "graph")}
    return [_stage("package", "package", _json(resolved.recipe.package), needs=graph, after=_gates(before))]


BRANCHES: tuple[Branch, ...] = (_source, _passes, _benchmark, _package)


def _proofs(resolved: Resolved, graph: str) -> list[Stage]:
    """The check and the parity of one graph."""
    recipe, export = resolved.recipe, resolved.export
    shapes = {name: {"dtype": spec["dtype"], "shape": spec["shape"]} for name, spec in export["inputs"].items()}
    contract = {name: export[name] for name in ("outputs", "dynamic_axes", "opset")}
    check = _stage(
        f"check/{_short(graph)}",
        "check",
        {"inputs": shapes, "order": _order_of_inputs(export) or None, **contract},
        needs={"graph": (graph, "graph")},
    )
    parity = _stage(
        f"parity/{_short(graph)}",
        "parity",
        {
            "outputs": export["outputs"],
            "runtime": _json(recipe.runtime),
            "allow_not_run": recipe.parity.allow_not_run,
            **resolved.samples,
        },
        needs={"graph": (graph, "graph"), "reference": ("reference", "reference")},
        files=resolved.data,
        facets=("cpu_flags", *_gpu(recipe)),
    )
    return [check, parity]


def _proofs_of(graph: str) -> list[str]:
    return [f"check/{_short(graph)}", f"parity/{_short(graph)}"]


def _gates(stages: Iterable[Stage]) -> list[str]:
    """What must have succeeded before anything is done with the final graph: every proof, and every measurement."""
    gates = (Trait.DESCRIBES, Trait.PROVES, Trait.TIMES)
    return [stage.name for stage in stages if stage.traits.intersection(gates)]


def _last_graph(stages: Iterable[Stage]) -> str:
    """The stage that made the graph which the next branch takes."""
    return [stage.name for stage in stages if stage.is_a(Trait.MAKES)][-1]


def _of_source(kind: str, options: dict[str, Json], resolved: Resolved, data: dict[str, str]) -> Stage:
    """A stage that runs the model's source."""
    source = resolved.source
    return _stage(
        kind,
        kind,
        options,
        version=source.VERSION,
        tools=(*source.DISTRIBUTIONS, *source.distributions(kind, resolved.export["exporter"])),
        files=dict(source.files(resolved.options)) | data,
        preload=source.PRELOAD,
        facets=("python",),
    )


def _stage(
    name: str,
    kind: str,
    options: dict[str, Json],
    *,
    version: int | None = None,  # of the plug-in that it runs
    tools: Sequence[str] = (),  # those of the plug-in
    fields: Mapping[str, Path] | None = None,
    **place: Any,
) -> Stage:
    """A stage of a kind: what its module declares, and `place`, the fields of Stage that say where it stands."""
    module = STAGES[kind]
    present = {key: value for key, value in options.items() if value is not None}
    return Stage(
        name,
        kind,
        module.__name__,
        f"{module.VERSION}" if version is None else f"{module.VERSION}.{version}",
        present,
        tools=tuple(dict.fromkeys((*module.DISTRIBUTIONS, *tools))),
        traits=module.TRAITS,
        fields={**module.FIELDS, **(fields or {})},
        **{"preload": module.PRELOAD, **place},
    )


def _gpu(recipe: Recipe) -> tuple[str, ...]:
    return ("gpu",) if _ON_NVIDIA.intersection(recipe.runtime.providers) else ()


def _short(graph: str) -> str:
    """The name of a graph among checks and parities: "export", "1-onnxsim"."""
    return graph.removeprefix("optimize/")


def _json(value: Any) -> Json:
    return msgspec.to_builtins(value)


def _ordered(resolved: Resolved) -> dict[str, list[str]] | None:
    """The orders that reach a model's code: of the inputs, and within what its factory and `forward` are called with."""
    (source,) = resolved.model
    found = _order_of_inputs(resolved.export)
    for name, value in resolved.export.get("arguments", {}).items():
        found |= order.orders(("export", "arguments", name), value)
    for name in resolved.options.__struct_fields__:
        if isinstance(value := getattr(resolved.options, name), dict | list):
            found |= order.orders(("model", source, name), value)
    return found or None


def _order_of_inputs(export: Json) -> dict[str, list[str]]:
    return order.orders(("export", "inputs"), dict.fromkeys(export["inputs"]))


def _without_files(source: Mapping[str, Json], hashed: Mapping[str, Sequence[str]]) -> dict[str, Json]:
    """A source's options less where its declared files lie: those enter the key by their content."""
    kept = {name: value for name, value in source.items() if name not in hashed.get("", ())}
    return {
        name: {key: inner for key, inner in value.items() if key not in hashed[name]} if name in hashed else value
        for name, value in kept.items()
    }


def _data_files(inputs: Mapping[str, Json], taken: Iterable[Mapping[str, Json]]) -> dict[str, str]:
    """The .npz files that inputs and cases name, by a role of their own."""
    kinds = [spec["data"] for spec in inputs.values() if "data" in spec]
    kinds += [kind for case in taken for kind in case.get("data", {}).values()]
    paths = sorted({kind["npz"]["path"] for kind in kinds if "npz" in kind})
    return {f"data:{path}": path for path in paths}
