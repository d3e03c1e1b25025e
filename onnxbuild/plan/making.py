"""How a stage of a plan is made: its document from the recipe, what it needs, and where it stands. Pure.

What is the same for every branch; which stages there are, the branches say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from onnxbuild.contracts import Json, Trait
from onnxbuild.parity.tolerance import Tolerances, asked
from onnxbuild.plan.dag import Path, Stage
from onnxbuild.plan.resolved import Resolved, as_json, order_of_inputs
from onnxbuild.recipe.types import Recipe
from onnxbuild.stages import STAGES

# Where a recipe says what a graph with steps takes and gives, if it has those.
_STEPPED: dict[str, Path] = {"outputs": ("append",), "inputs": ("prepend",), "dynamic_axes": ("prepend",)}
_ON_NVIDIA = {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}


class Allowed(NamedTuple):
    """How far off graphs may be, and where the recipe says so."""

    tolerances: Tolerances
    place: Path


def proofs(resolved: Resolved, graph: str, opset: int, allowed: Allowed) -> list[Stage]:
    """The check and the parity of one graph, which is to be of that opset, and as near as is allowed."""
    checked = check(graph, opset, resolved.interface, resolved.published.related)
    if resolved.steps:
        checked = msgspec.structs.replace(checked, fields={**checked.fields, **stepped(resolved.steps)})
    return [checked, parity(resolved, f"parity/{short(graph)}", (graph, "graph"), allowed)]


def stepped(steps: Mapping[str, Json], fields: Mapping[str, Path] = _STEPPED) -> dict[str, Path]:
    """Those of the fields that a recipe with these steps has."""
    return {name: place for name, place in fields.items() if steps.get(str(place[0]), True)}


def check(graph: str, opset: int, export: Json, related: Mapping[str, str]) -> Stage:
    """What holds one graph against an interface, a recipe's `export` as JSON."""
    shapes = {name: {"dtype": spec["dtype"], "shape": spec["shape"]} for name, spec in export["inputs"].items()}
    contract = {"outputs": export["outputs"], "dynamic_axes": export["dynamic_axes"], "opset": opset}
    return stage(
        f"check/{short(graph)}",
        "check",
        {
            "inputs": shapes,
            "order": order_of_inputs(export) or None,
            "related": dict(related) or None,
            **contract,
        },
        needs={"graph": (graph, "graph")},
    )


def allowed(recipe: Recipe) -> Allowed:
    """What the recipe allows of every graph, but for those from a pass on that says otherwise."""
    own = recipe.parity
    return Allowed(Tolerances(own.rtol, own.atol, own.outputs, own.reason), ("parity",))


def parity(resolved: Resolved, name: str, graph: tuple[str, str], allowed: Allowed) -> Stage:
    """What holds one graph, or one target, against the source model; `graph` is the stage and output that it takes."""
    recipe = resolved.recipe
    return stage(
        name,
        "parity",
        {
            "outputs": resolved.interface["outputs"],
            "runtime": as_json(recipe.runtime),
            "allow_not_run": recipe.parity.allow_not_run,
            "comparators": asked(allowed.tolerances) or None,
            **resolved.samples,
        },
        needs={"graph": graph, "reference": ("reference", "reference")},
        files=resolved.data,
        facets=("cpu_flags", *gpu(recipe)),
        fields={"comparators": (*allowed.place, "outputs")},
        tolerances=allowed.tolerances,
        allowed_at=allowed.place,
    )


def proofs_of(graph: str) -> list[str]:
    """The names of what proves a graph."""
    return [f"check/{short(graph)}", f"parity/{short(graph)}"]


def gates(stages: Iterable[Stage]) -> list[str]:
    """What must have succeeded before anything is done with the final graph: every proof, and every measurement."""
    gates = (Trait.DESCRIBES, Trait.PROVES, Trait.SCORES, Trait.TIMES)
    return [stage.name for stage in stages if stage.traits.intersection(gates)]


def last_graph(stages: Iterable[Stage]) -> str:
    """The stage that made the graph which the next branch takes."""
    return [stage.name for stage in stages if stage.is_a(Trait.GRAPH)][-1]


def of_source(
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
    return stage(
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


def stage(
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


def gpu(recipe: Recipe) -> tuple[str, ...]:
    """The facet of the GPU, where a provider that the recipe names runs on one of NVIDIA's."""
    return ("gpu",) if _ON_NVIDIA.intersection(recipe.runtime.providers) else ()


def short(graph: str) -> str:
    """The name of a graph among checks and parities: "export", "1-onnxsim"."""
    return graph.removeprefix("optimize/")
