"""From a recipe to its stages, branch by branch: the source, the passes, the benchmark, the targets, the package.

A branch is a function that takes what the recipe says and the stages so far, and gives the stages that it adds; a new kind
of branch is one function and its place in `BRANCHES`. Touches no file, no store, no clock; a source that takes weights
from an installed package asks where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import UNSET

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity.tolerance import Tolerances
from onnxbuild.passes import PASSES
from onnxbuild.plan import cases, more_cases
from onnxbuild.plan.dag import Path, Plan, Stage
from onnxbuild.plan.resolved import (
    Resolved,
    as_json,
    data_files,
    of_source,
    order_of,
    order_of_inputs,
    ordered,
    resolve,
)
from onnxbuild.recipe.types import Recipe, chosen, given
from onnxbuild.sources import SOURCES
from onnxbuild.stages import STAGES
from onnxbuild.targets import TARGETS

_ON_NVIDIA = {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}


Branch: TypeAlias = Callable[[Resolved, Sequence[Stage]], list[Stage]]


def plan(recipe: Recipe) -> Plan:
    """Resolve a recipe into its stages."""
    taken, left_out = cases.derive(recipe.export, recipe.parity)
    remarks = cases.remarks(recipe.export, recipe.parity, taken, left_out)
    taken += more_cases.derive(recipe.export, recipe.parity, taken)
    remarks += more_cases.remarks(recipe.export, taken)
    resolved = resolve(recipe, taken)
    stages: list[Stage] = []
    for branch in BRANCHES:
        stages += branch(resolved, stages)
    return Plan(stages, "export", left_out, remarks)


def describing(kind: str, options: Any) -> Stage:
    """The stage that asks a source what its model takes and gives; it is run before there is anything to plan."""
    return _asking("describe", kind, options, {})


def inspecting(kind: str, options: Any, given: Mapping[str, Json], example: str) -> Stage:
    """The stage that finds out what a recipe should say; `given` are inputs by name, `example` is a function of them."""
    return _asking("inspect", kind, options, {"given": given, "example": example})


def _asking(stage: str, kind: str, options: Any, more: Mapping[str, Json]) -> Stage:
    source = SOURCES[kind]
    return _stage(
        stage,
        stage,
        {"source": of_source(kind, options), "order": order_of(kind, options) or None, **more},
        version=source.VERSION,
        tools=(*source.DISTRIBUTIONS, *source.distributions(stage, "")),
        files=dict(source.files(options)),
        companions=source.companions,
        preload=source.preload(options),
        facets=("python",),
    )


def _source(resolved: Resolved, _: Sequence[Stage]) -> list[Stage]:
    """The exported graph and what proves it, and the outputs that every graph is held against."""
    recipe, export, samples = resolved.recipe, resolved.export, resolved.samples
    in_order = ordered(resolved)
    exported = _of_source(
        "export",
        {"source": resolved.model, "export": export, "symbolics": as_json(recipe.symbolics), "order": in_order},
        resolved,
        data_files(export["inputs"], []),
        after=["reference"],  # what is declared of the outputs is held against real sizes first
        early=True,  # an exporter takes long: it may run beside the reference, whose failure stops it
    )
    reference = _of_source(
        "reference",
        {
            "source": resolved.model,
            "outputs": export["outputs"],
            "arguments": export.get("arguments"),
            "order": in_order,
            "axes": {
                name: export["dynamic_axes"][name] for name in export["outputs"] if name in export["dynamic_axes"]
            },
            "related": recipe.export.related or None,
            "allow_not_run": _may_lack(resolved),
            **samples,
        },
        resolved,
        resolved.data,
    )
    return [reference, exported, *_proofs(resolved, exported.name, export["opset"])]


def _may_lack(resolved: Resolved) -> list[str] | None:
    """The operators that may keep the reference from running, where it is onnxruntime that runs it."""
    runs = "onnxruntime" in resolved.source.distributions("reference", resolved.export["exporter"])
    return resolved.recipe.parity.allow_not_run or None if runs else None


def _passes(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """Each pass over the graph before it, and what proves its own graph."""
    stages: list[Stage] = []
    opset = resolved.export["opset"]
    for number, one_of in enumerate(resolved.recipe.optimize, 1):
        name, options = chosen(one_of)
        module = PASSES[name]
        place: Path = ("optimize", number - 1)
        graph = _last_graph([*before, *stages])
        made = _stage(
            f"optimize/{number}-{name}",
            "optimize",
            {"pass": name, "options": as_json(options)},
            version=module.VERSION,
            tools=module.DISTRIBUTIONS,
            needs={"graph": (graph, "graph")},
            after=_proofs_of(graph),
            facets=("cpu_flags",) if module.notes(options) else (),
            fields={"pass": place, "options": (*place, name)},
            entry=(*place, name),
            notes=list(module.notes(options)),
        )
        opset = module.opset(options, opset)
        stages += [made, *_proofs(resolved, made.name, opset)]
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
            "runtime": as_json(recipe.runtime),
            "warmup": recipe.benchmark.warmup,
            "runs": recipe.benchmark.runs,
        },
        needs={"graph": (graph, "graph")},
        files=data_files(samples["inputs"], []),
        after=_gates(before),
        facets=("cpu", "cpu_flags", "cores", *_gpu(recipe)),
        proof=f"parity/{_short(graph)}",
    )
    return [stage]


def _targets(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """What other runtimes load, made from the final graph, and the parity of each that can be run."""
    stages: list[Stage] = []
    graph = _last_graph(before)
    for name, options in given(resolved.recipe.targets):
        module = TARGETS[name]
        made = _stage(
            f"target/{name}",
            "target",
            {"target": name, "options": as_json(options)},
            version=module.VERSION,
            tools=module.DISTRIBUTIONS,
            needs={"graph": (graph, "graph")},
            after=_proofs_of(graph),
            facets=tuple(module.facets(options)),
            fields={"target": ("targets", name), "options": ("targets", name)},
            entry=("targets", name),
            proof=f"parity/{_short(graph)}",
            notes=list(module.notes(options)),
        )
        stages += (
            [made, _parity(resolved, f"parity/{name}", (made.name, module.FILES[0]))] if module.RUNTIME else [made]
        )
    return stages


def _package(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """The final graph and every target's files; a file's role is the name that it is published under."""
    needs = {"graph": (_last_graph(before), "graph")}
    for name, _ in given(resolved.recipe.targets):
        needs |= {f"{name}/{file}": (f"target/{name}", file) for file in TARGETS[name].FILES}
    return [_stage("package", "package", as_json(resolved.recipe.package), needs=needs, after=_gates(before))]


BRANCHES: tuple[Branch, ...] = (_source, _passes, _benchmark, _targets, _package)


def _proofs(resolved: Resolved, graph: str, opset: int) -> list[Stage]:
    """The check and the parity of one graph, which is to be of that opset."""
    export = resolved.export
    shapes = {name: {"dtype": spec["dtype"], "shape": spec["shape"]} for name, spec in export["inputs"].items()}
    contract = {"outputs": export["outputs"], "dynamic_axes": export["dynamic_axes"], "opset": opset}
    check = _stage(
        f"check/{_short(graph)}",
        "check",
        {
            "inputs": shapes,
            "order": order_of_inputs(export) or None,
            "related": resolved.recipe.export.related or None,
            **contract,
        },
        needs={"graph": (graph, "graph")},
    )
    return [check, _parity(resolved, f"parity/{_short(graph)}", (graph, "graph"))]


def _parity(resolved: Resolved, name: str, graph: tuple[str, str]) -> Stage:
    """What holds one graph, or one target, against the source model; `graph` is the stage and output that it takes."""
    recipe = resolved.recipe
    return _stage(
        name,
        "parity",
        {
            "outputs": resolved.export["outputs"],
            "runtime": as_json(recipe.runtime),
            "allow_not_run": recipe.parity.allow_not_run,
            **resolved.samples,
        },
        needs={"graph": graph, "reference": ("reference", "reference")},
        files=resolved.data,
        facets=("cpu_flags", *_gpu(recipe)),
        tolerances=Tolerances(recipe.parity.rtol, recipe.parity.atol, recipe.parity.outputs),
    )


def _proofs_of(graph: str) -> list[str]:
    return [f"check/{_short(graph)}", f"parity/{_short(graph)}"]


def _gates(stages: Iterable[Stage]) -> list[str]:
    """What must have succeeded before anything is done with the final graph: every proof, and every measurement."""
    gates = (Trait.DESCRIBES, Trait.PROVES, Trait.TIMES)
    return [stage.name for stage in stages if stage.traits.intersection(gates)]


def _last_graph(stages: Iterable[Stage]) -> str:
    """The stage that made the graph which the next branch takes."""
    return [stage.name for stage in stages if stage.is_a(Trait.GRAPH)][-1]


def _of_source(
    kind: str,
    options: dict[str, Json],
    resolved: Resolved,
    data: dict[str, str],
    after: Sequence[str] = (),
    *,
    early: bool = False,
) -> Stage:
    """A stage that runs the model's source."""
    source = resolved.source
    return _stage(
        kind,
        kind,
        options,
        version=source.VERSION,
        tools=(*source.DISTRIBUTIONS, *source.distributions(kind, resolved.export["exporter"])),
        files=dict(source.files(resolved.options)) | data,
        companions=source.companions,
        after=list(after),
        early=early,
        preload=source.preload(resolved.options),
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
