"""The stages of a recipe's metric: of the source model, of each graph, of each target that is run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Companion, Json, Trait
from onnxbuild.parity import datasets
from onnxbuild.parity.metric import Metric
from onnxbuild.plan import making, steps
from onnxbuild.plan.dag import Stage
from onnxbuild.plan.resolved import Resolved, as_json, ordered
from onnxbuild.runtimes import RUNTIMES
from onnxbuild.targets import TARGETS

REFERENCE = "metric/reference"


def reference(resolved: Resolved) -> list[Stage]:
    """The metric of the source model; none where the recipe has no metric."""
    asked = resolved.recipe.metric
    if asked is UNSET:
        return []
    example = resolved.samples["cases"][0]
    model = making.of_source(
        "reference",
        {
            "source": resolved.model,
            "arguments": resolved.export.get("arguments"),
            "order": ordered(resolved),
            "cases": [{**{key: example[key] for key in ("name", "dims", "shapes", "dynamic")}, "data": {}}],
            **_asked(resolved, asked),
        },
        resolved,
        datasets.file(asked.data),
    )

    def companions(files: Mapping[str, FilePath]) -> Mapping[str, Companion]:
        own = resolved.source.companions({role: path for role, path in files.items() if role in model.files})
        return {**own, **datasets.companions(asked.data, resolved.root)}

    made = making.stage(
        REFERENCE,
        "metric",
        model.options,
        version=resolved.source.VERSION,
        tools=(*model.tools, *datasets.distributions(asked.data)),
        files=model.files,
        folder=_folder(asked),
        companions=companions,
        after=["reference"],
        preload=model.preload,
        facets=model.facets,
        proof="reference",
    )
    return [steps.around(resolved, made)]


def of_graph(resolved: Resolved, graph: str) -> list[Stage]:
    """The metric of the graph that a stage makes, once it is proved; none where the recipe has no metric."""
    asked = resolved.recipe.metric
    if asked is UNSET:
        return []
    short = making.short(graph)
    return [_of(resolved, asked, f"metric/{short}", f"parity/{short}", {"graph": (graph, "graph")})]


def of_target(resolved: Resolved, before: Sequence[Stage], proof: Stage, name: str, options: Any) -> list[Stage]:
    """The metric of a target, which `proof` holds against the source model.

    None where the recipe has no metric, where the files are bound to sizes, which the data may not be of, and where
    something stands in for the target's runtime.
    """
    asked, runtime = resolved.recipe.metric, RUNTIMES[TARGETS[name].RUNTIME]
    if asked is UNSET or runtime.BOUNDS or TARGETS[name].fixed(options) is not None:
        return []
    needs = {role: of for role, of in proof.needs.items() if role != "reference"}
    made = _of(resolved, asked, f"metric/{name}", proof.name, needs)
    graphs = [stage.name for stage in before if stage.is_a(Trait.SCORES)]
    return [
        msgspec.structs.replace(
            made,
            after=[*made.after, graphs[-1]],  # where that fails there is no more to say
            options={**made.options, "target": proof.options["target"]},
            tools=tuple(dict.fromkeys((*made.tools, *runtime.DISTRIBUTIONS))),
            facets=tuple(dict.fromkeys((*made.facets, *runtime.FACETS))),
            fields={**made.fields, "target": ("targets", name)},
        )
    ]


def untold(resolved: Resolved, name: str, options: Any) -> list[str]:
    """Why a target that is run has no metric, where the recipe asks for one."""
    if resolved.recipe.metric is UNSET:
        return []
    if RUNTIMES[TARGETS[name].RUNTIME].BOUNDS:
        return ["the metric is not measured: what runs it here only stands in for its runtime"]
    return (
        ["the metric is not measured: its files are bound to sizes"] if TARGETS[name].fixed(options) is not None else []
    )


def _of(resolved: Resolved, asked: Metric, name: str, proof: str, needs: dict[str, tuple[str, str]]) -> Stage:
    recipe = resolved.recipe
    return making.stage(
        name,
        "metric",
        {"runtime": as_json(recipe.runtime), **_asked(resolved, asked)},
        tools=("ml-dtypes", "onnxruntime", *datasets.distributions(asked.data)),
        needs=needs,
        files=datasets.file(asked.data),
        folder=_folder(asked),
        companions=lambda _: datasets.companions(asked.data, resolved.root),
        after=[REFERENCE, proof],
        facets=("cpu_flags", "python", *making.gpu(recipe)),
        proof=proof,
    )


def _folder(asked: Metric) -> str:
    """The folder that is looked through for data, "" where none is."""
    return (datasets.folder_of(asked.data) or ("",))[0]


def _asked(resolved: Resolved, asked: Metric) -> dict[str, Json]:
    """What every metric has in its document: what is run, on what, and what makes a figure of it."""
    inputs = {
        name: {key: spec[key] for key in ("dtype", "shape")} for name, spec in resolved.interface["inputs"].items()
    }
    return {
        "function": asked.function,
        "data": as_json(asked.data),
        "inputs": inputs,
        "outputs": resolved.interface["outputs"],
    }
