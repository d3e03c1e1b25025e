"""From a recipe to its stages, branch by branch: the source, the passes, the benchmark, the targets, the package.

A branch is a function that takes what the recipe says and the stages so far, and gives the stages that it adds; a new kind
of branch is one function and its place in `BRANCHES`. Touches no file, no store, no clock; a source that takes weights
from an installed package asks where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity import datasets
from onnxbuild.passes import EXCLUDING, OF_DATA, PASSES
from onnxbuild.plan import cases, making, metrics, more_cases, steps, targets
from onnxbuild.plan.dag import Path, Plan, Stage
from onnxbuild.plan.resolved import (
    Resolved,
    as_json,
    data_files,
    ordered,
    resolve,
)
from onnxbuild.recipe import interface
from onnxbuild.recipe.types import Recipe, chosen
from onnxbuild.stages import benchmark
from onnxbuild.targets import TARGETS

Branch: TypeAlias = Callable[[Resolved, Sequence[Stage]], list[Stage]]


def plan(recipe: Recipe, root: FilePath) -> Plan:
    """Resolve a recipe into its stages; `root` is the project's."""
    published = interface.published(recipe)
    taken, left_out = cases.derive(published, recipe.parity)
    remarks = cases.remarks(published, recipe.parity, taken, left_out)
    taken += targets.more_cases(recipe, published, taken)
    taken += more_cases.derive(published, recipe.parity, taken)
    remarks += more_cases.remarks(published, taken)
    resolved = resolve(recipe, root, taken)
    stages: list[Stage] = []
    for branch in BRANCHES:
        stages += branch(resolved, stages)
    if named := interface.named(recipe):
        stages = [msgspec.structs.replace(stage, published=named) for stage in stages]
    return Plan(stages, "export", left_out, remarks, targets.left_out(recipe, root))


def _source(resolved: Resolved, _: Sequence[Stage]) -> list[Stage]:
    """The exported graph and what proves it, and the outputs that every graph is held against."""
    recipe, export, shown, samples = resolved.recipe, resolved.export, resolved.interface, resolved.samples
    in_order = ordered(resolved)
    exported = making.of_source(
        "export",
        {"source": resolved.model, "export": export, "symbolics": as_json(recipe.symbolics), "order": in_order},
        resolved,
        data_files(export["inputs"], []),
        after=["reference"],  # what is declared of the outputs is held against real sizes first
        early=True,  # an exporter takes long: it may run beside the reference, whose failure stops it
    )
    reference = making.of_source(
        "reference",
        {
            "source": resolved.model,
            "outputs": shown["outputs"],
            "arguments": export.get("arguments"),
            "order": in_order,
            "axes": {name: shown["dynamic_axes"][name] for name in shown["outputs"] if name in shown["dynamic_axes"]},
            "related": resolved.published.related or None,
            "allow_not_run": _may_lack(resolved),
            **samples,
        },
        resolved,
        resolved.data,
    )
    proved = [exported, *steps.proofs_of_export(resolved, exported.name)]
    proved += steps.attached(resolved, exported.name) if resolved.steps else []
    # A graph by other names than the published ones is scored once it is renamed.
    scored = [] if resolved.renames else metrics.of_graph(resolved, making.last_graph(proved))
    return [steps.around(resolved, reference), *metrics.reference(resolved), *proved, *scored]


def _may_lack(resolved: Resolved) -> list[str] | None:
    """The operators that may keep the reference from running, where it is onnxruntime that runs it."""
    runs = "onnxruntime" in resolved.source.distributions("reference", resolved.export["exporter"])
    return resolved.recipe.parity.allow_not_run or None if runs else None


def _passes(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """Each pass over the graph before it, and what proves its own graph."""
    stages: list[Stage] = []
    opset, allowed = resolved.export["opset"], making.allowed(resolved.recipe)
    passes: list[Any] = resolved.recipe.optimize
    for number, one_of in enumerate(passes, 1):
        name, options = chosen(one_of)
        module = PASSES[name]
        samples, data = _data_for(resolved, name, options)
        place: Path = ("optimize", number - 1)
        graph = making.last_graph([*before, *stages])
        made = making.stage(
            f"optimize/{number}-{name}",
            "optimize",
            {"pass": name, "options": as_json(options), **samples},
            version=module.VERSION,
            tools=(*module.DISTRIBUTIONS, *data.pop("tools", ())),
            needs={"graph": (graph, "graph")},
            after=making.proofs_of(graph),
            facets=(*(("cpu_flags",) if module.notes(options) else ()), *data.pop("facets", ())),
            fields={"pass": place, "options": (*place, name)},
            entry=(*place, name),
            notes=list(module.notes(options)),
            **data,
        )
        opset = module.opset(options, opset)
        if (own := one_of.parity) is not UNSET:  # from here on
            allowed = making.Allowed(own, (*place, "parity"))
        stages += [made, *making.proofs(resolved, made.name, opset, allowed), *metrics.of_graph(resolved, made.name)]
    return stages


def _data_for(resolved: Resolved, name: str, options: Any) -> tuple[dict[str, Json], dict[str, Any]]:
    """What a pass that looks at data has in its document besides, and where the data lies, as a stage has it."""
    if name not in OF_DATA:
        return {}, {}
    data = OF_DATA[name].data(options)
    if data is None:
        return resolved.samples, {"files": resolved.data}
    inputs = {
        name: {key: spec[key] for key in ("dtype", "shape")} for name, spec in resolved.interface["inputs"].items()
    }
    return {"inputs": inputs}, {
        "files": datasets.file(data),
        "folder": (datasets.folder_of(data) or ("",))[0],
        "companions": lambda _: datasets.companions(data, resolved.root),
        "tools": datasets.distributions(data),
        "facets": ("python",) if data.generator is not UNSET else (),
    }


def _benchmark(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """What times the final graph, beside the one before the first pass that loses precision on purpose."""
    recipe, samples = resolved.recipe, resolved.samples
    if recipe.benchmark is UNSET:
        return []
    graph = making.last_graph(before)
    needs = {"graph": (graph, "graph")}
    if lossy := [stage for stage in before if stage.is_a(Trait.GRAPH) and stage.options.get("pass") in EXCLUDING]:
        needs[benchmark.BEFORE] = lossy[0].needs["graph"]
    stage = making.stage(
        "benchmark",
        "benchmark",
        {
            "inputs": samples["inputs"],
            "seed": samples["seed"],
            "case": cases.case_at(resolved.published, recipe.benchmark.dims),
            "runtime": as_json(recipe.runtime),
            "warmup": recipe.benchmark.warmup,
            "runs": recipe.benchmark.runs,
        },
        needs=needs,
        files=data_files(samples["inputs"], []),
        after=making.gates(before),
        facets=("cpu", "cpu_flags", "cores", *making.gpu(recipe)),
        proof=f"parity/{making.short(graph)}",
    )
    return [stage]


def _package(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """The final graph and every target's files; a file's role is the name that it is published under."""
    needs = {"graph": (making.last_graph(before), "graph")}
    for name, options in targets.wanted(resolved):
        needs |= {f"{name}/{file}": (f"target/{name}", file) for file in TARGETS[name].files(options)}
    recipe, package = resolved.recipe, resolved.recipe.package
    options = {"external_data": package.external_data, "recipe": as_json(recipe), "variants": None}
    if package.layout == "ort_model_package":
        made = {name: (TARGETS[name].RUNTIME, TARGETS[name].files(own)) for name, own in targets.wanted(resolved)}
        loaded = {name: {"runtime": runtime, "file": files[0]} for name, (runtime, files) in made.items() if files}
        options["variants"] = {"providers": list(recipe.runtime.providers), "targets": loaded}
    return [making.stage("package", "package", options, needs=needs, after=making.gates(before))]


BRANCHES: tuple[Branch, ...] = (_source, _passes, _benchmark, targets.branch, _package)
