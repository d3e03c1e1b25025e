"""The branch of the steps before and after a model: the graph that has them, and the reference that has them too. Pure."""

from __future__ import annotations

import msgspec

from onnxbuild.plan import making
from onnxbuild.plan.dag import Path, Stage
from onnxbuild.plan.resolved import Resolved
from onnxbuild.steps import STEPS

ATTACH = "attach"
_FIELDS: dict[str, Path] = {"inputs": ("prepend",), "outputs": ("append",), "axes": ("append",), "model": ("export",)}


def attached(resolved: Resolved, graph: str) -> list[Stage]:
    """What proves the exported graph between the definitions of the steps, the graph that has them as nodes, and what proves
    that one.
    """
    export = resolved.export
    allowed = making.allowed(resolved.recipe)
    checked = making.check(graph, export["opset"], export, resolved.recipe.export.related)
    made = making.stage(
        ATTACH,
        "attach",
        resolved.steps,
        version=_version(resolved),
        needs={"graph": (graph, "graph")},
        after=making.proofs_of(graph),
        entry=("prepend" if resolved.steps["prepend"] else "append",),
    )
    measured = around(resolved, making.parity(resolved, f"parity/{making.short(graph)}", (graph, "graph"), allowed))
    measured = msgspec.structs.replace(measured, options={**measured.options, "bare": True})
    return [checked, measured, made, *making.proofs(resolved, made.name, export["opset"], allowed)]


def around(resolved: Resolved, stage: Stage) -> Stage:
    """The stage with what it needs to run a model, or a graph, that has no steps between their definitions."""
    own = {"inputs": resolved.export["inputs"], "outputs": resolved.export["outputs"]}
    names = [
        name
        for section in resolved.steps.values()
        for one in section.values()
        for step in one["steps"]
        for name in step
    ]
    packages = (package for name in names for package in STEPS[name].DISTRIBUTIONS)
    return msgspec.structs.replace(
        stage,
        version=f"{stage.version}.{_version(resolved)}",
        options={**stage.options, **resolved.steps, "model": own},
        tools=tuple(dict.fromkeys((*stage.tools, *packages))),
        fields={**stage.fields, **_FIELDS, "prepend": ("prepend",), "append": ("append",)},
    )


def _version(resolved: Resolved) -> int:
    """A number that rises with the version of any step that the recipe has."""
    sections = resolved.steps.values()
    return sum(
        STEPS[name].VERSION for own in sections for one in own.values() for step in one["steps"] for name in step
    )
