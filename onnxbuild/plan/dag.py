"""From a recipe to its stages: names, options, order, and what needs what.

Touches no file, no store, no clock; a source that takes weights from an installed package asks where that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from onnxbuild.contracts import Json
from onnxbuild.passes import PASSES
from onnxbuild.plan import cases, order
from onnxbuild.recipe.types import Recipe, chosen
from onnxbuild.sources import SOURCES
from onnxbuild.stages import STAGES

_ON_NVIDIA = {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}


class Stage(Struct, frozen=True):
    """One node of the DAG.

    `needs` maps a role to the stage and output role it takes; `files` a role to the path of a declared input file;
    `after` names stages that must have succeeded first though nothing of theirs is taken.
    """

    name: str
    kind: str
    version: str
    options: dict[str, Json]
    needs: dict[str, tuple[str, str]] = {}
    files: dict[str, str] = {}
    after: list[str] = []
    preload: str = "onnx"
    tools: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()
    alone: bool = False
    notes: list[str] = []

    @property
    def upstream(self) -> list[str]:
        """Every stage that must be done before this one: those that it takes from first, in the order of `needs`."""
        return list(dict.fromkeys([stage for stage, _ in self.needs.values()] + self.after))


class Plan(Struct, frozen=True):
    """The stages of a recipe in an order in which they can run, the cases that were left out and why, and what a reader
    has to know of the sizes.
    """

    stages: list[Stage]
    cases_left_out: list[dict[str, Json]]
    remarks: list[str] = []


def plan(recipe: Recipe) -> Plan:
    """Resolve a recipe into its stages."""
    taken, left_out = cases.derive(recipe.export, recipe.parity)
    source_name, source_options = chosen(recipe.model)
    source = SOURCES[source_name]
    model = {source_name: _without_files(_json(source_options))}
    export = _json(recipe.export)
    feed = {"inputs": export["inputs"], "cases": taken, "seed": recipe.parity.seed}
    data = _data_files(export["inputs"], taken)
    ordered = _ordered(source_name, source_options, export)
    source_tools = {
        stage: (*source.DISTRIBUTIONS, *source.distributions(stage, export["exporter"]))
        for stage in ("export", "reference")
    }
    version = f"{source.VERSION}"

    stages = [
        _stage(
            "export",
            "export",
            {"source": model, "export": export, "symbolics": _json(recipe.symbolics), "order": ordered},
            files=dict(source.files(source_options)) | _data_files(export["inputs"], []),
            preload=source.PRELOAD,
            tools=source_tools["export"],
            facets=("python",),
            version=version,
        ),
        _stage(
            "reference",
            "reference",
            {
                "source": model,
                "outputs": export["outputs"],
                "arguments": export.get("arguments"),
                "order": ordered,
                **feed,
            },
            files=dict(source.files(source_options)) | data,
            preload=source.PRELOAD,
            tools=source_tools["reference"],
            facets=("python",),
            version=version,
        ),
    ]
    graph = _graph_stages(stages, "export", recipe, export, feed, data)
    graph = _pass_stages(stages, graph, recipe, export, feed, data)
    _last_stages(stages, graph, recipe, feed)
    return Plan(stages, left_out, cases.remarks(recipe.export, recipe.parity, taken, left_out))


def _pass_stages(
    stages: list[Stage], graph: str, recipe: Recipe, export: Json, feed: Json, data: Mapping[str, str]
) -> str:
    """Add the passes and what proves each one's graph; returns the stage of the last graph."""
    for number, one_of in enumerate(recipe.optimize, 1):
        name, options = chosen(one_of)
        module = PASSES[name]
        stages.append(
            _stage(
                f"optimize/{number}-{name}",
                "optimize",
                {"pass": name, "options": _json(options)},
                needs={"graph": (graph, "graph")},
                after=[f"check/{_short(graph)}", f"parity/{_short(graph)}"],
                tools=module.DISTRIBUTIONS,
                facets=("cpu_flags",) if module.notes(options) else (),
                version=f"{module.VERSION}",
                notes=list(module.notes(options)),
            )
        )
        graph = _graph_stages(stages, stages[-1].name, recipe, export, feed, data)
    return graph


def _graph_stages(
    stages: list[Stage], graph: str, recipe: Recipe, export: Json, feed: Json, data: Mapping[str, str]
) -> str:
    """Add the check and the parity of one graph; returns the graph's own stage name."""
    contract = {name: export[name] for name in ("outputs", "dynamic_axes", "opset")}
    shapes = {name: {"dtype": spec["dtype"], "shape": spec["shape"]} for name, spec in export["inputs"].items()}
    stages.append(
        _stage(
            f"check/{_short(graph)}",
            "check",
            {"inputs": shapes, "order": _order_of_inputs(export) or None, **contract},
            needs={"graph": (graph, "graph")},
        )
    )
    stages.append(
        _stage(
            f"parity/{_short(graph)}",
            "parity",
            {
                "outputs": export["outputs"],
                "runtime": _json(recipe.runtime),
                "allow_not_run": recipe.parity.allow_not_run,
                **feed,
            },
            needs={"graph": (graph, "graph"), "reference": ("reference", "reference")},
            files=dict(data),
            facets=("cpu_flags", *_gpu(recipe)),
        )
    )
    return graph


def _last_stages(stages: list[Stage], graph: str, recipe: Recipe, feed: Json) -> None:
    proven = [stage.name for stage in stages if stage.kind in ("check", "parity")]
    if recipe.benchmark is not UNSET:
        case = cases.case_at(recipe.export, recipe.benchmark.dims)
        stages.append(
            _stage(
                "benchmark",
                "benchmark",
                {
                    "inputs": feed["inputs"],
                    "seed": feed["seed"],
                    "case": case,
                    "runtime": _json(recipe.runtime),
                    "warmup": recipe.benchmark.warmup,
                    "runs": recipe.benchmark.runs,
                },
                needs={"graph": (graph, "graph")},
                files=_data_files(feed["inputs"], []),
                after=proven,
                facets=("cpu", "cpu_flags", "cores", *_gpu(recipe)),
                alone=True,
            )
        )
        proven = [*proven, "benchmark"]
    stages.append(_stage("package", "package", _json(recipe.package), needs={"graph": (graph, "graph")}, after=proven))


def _gpu(recipe: Recipe) -> tuple[str, ...]:
    return ("gpu",) if _ON_NVIDIA.intersection(recipe.runtime.providers) else ()


def _stage(name: str, kind: str, options: dict[str, Json], **fields: Any) -> Stage:
    module = STAGES[kind]
    extra = fields.pop("version", "")
    tools = tuple(dict.fromkeys((*module.DISTRIBUTIONS, *fields.pop("tools", ()))))
    fields.setdefault("preload", module.PRELOAD)
    version = f"{module.VERSION}.{extra}" if extra else f"{module.VERSION}"
    present = {key: value for key, value in options.items() if value is not None}
    return Stage(name, kind, version, present, tools=tools, **fields)


def _short(graph: str) -> str:
    """The name of a graph among checks and parities: "export", "1-onnxsim"."""
    return graph.removeprefix("optimize/")


def _json(value: Any) -> Json:
    return msgspec.to_builtins(value)


def _ordered(source: str, options: Any, export: Json) -> dict[str, list[str]] | None:
    """The orders that reach a model's code: of the inputs, and within what its factory and `forward` are called with."""
    found = _order_of_inputs(export)
    for name, value in export.get("arguments", {}).items():
        found |= order.orders(("export", "arguments", name), value)
    for name in options.__struct_fields__:
        if isinstance(value := getattr(options, name), dict | list):
            found |= order.orders(("model", source, name), value)
    return found or None


def _order_of_inputs(export: Json) -> dict[str, list[str]]:
    return order.orders(("export", "inputs"), dict.fromkeys(export["inputs"]))


def _without_files(source: Mapping[str, Json]) -> dict[str, Json]:
    """A source's options less where its declared file lies: that enters the key by its content."""
    kept = {name: value for name, value in source.items() if name not in ("path", "package", "sha256")}
    return kept | ({"checkpoint": _without_files(kept["checkpoint"])} if "checkpoint" in kept else {})


def _data_files(inputs: Mapping[str, Json], taken: Iterable[Mapping[str, Json]]) -> dict[str, str]:
    """The .npz files that inputs and cases name, by a role of their own."""
    kinds = [spec["data"] for spec in inputs.values() if "data" in spec]
    kinds += [kind for case in taken for kind in case.get("data", {}).values()]
    paths = sorted({kind["npz"]["path"] for kind in kinds if "npz" in kind})
    return {f"data:{path}": path for path in paths}
