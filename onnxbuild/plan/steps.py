"""The branch of the steps before and after a model: the graph that has them, and the reference that has them too. So it is
with the names that `rename` gives. Pure.
"""

from __future__ import annotations

import msgspec

from onnxbuild.contracts import Json
from onnxbuild.plan import making
from onnxbuild.plan.dag import Path, Stage
from onnxbuild.plan.resolved import Resolved, as_json
from onnxbuild.recipe import interface, naming
from onnxbuild.recipe.types import Export
from onnxbuild.steps import STEPS

ATTACH = "attach"
_FIELDS: dict[str, Path] = {"inputs": ("prepend",), "outputs": ("append",), "axes": ("append",), "model": ("export",)}
_STEPS: dict[str, Path] = {"prepend": ("prepend",), "append": ("append",)}


def proofs_of_export(resolved: Resolved, graph: str) -> list[Stage]:
    """What proves the exported graph: between the definitions of the steps, and by the published names."""
    if not resolved.steps and not resolved.renames:
        return making.proofs(resolved, graph, resolved.export["opset"], making.allowed(resolved.recipe))
    return _bare(resolved, graph, resolved.recipe.export, resolved.steps)


def attached(resolved: Resolved, graph: str) -> list[Stage]:
    """The graph that has the steps as nodes, and what proves it."""
    made = making.stage(
        ATTACH,
        "attach",
        resolved.steps,
        version=_version(resolved.steps),
        needs={"graph": (graph, "graph")},
        after=making.proofs_of(graph),
        entry=("prepend" if resolved.steps["prepend"] else "append",),
    )
    if not resolved.renames:
        return [made, *making.proofs(resolved, made.name, resolved.export["opset"], making.allowed(resolved.recipe))]
    return [made, *_bare(resolved, made.name, interface.stepped(resolved.recipe), {})]


def _bare(resolved: Resolved, graph: str, own: Export, steps: dict[str, Json]) -> list[Stage]:
    """The check and the parity of a graph that takes and gives something else than what is published."""
    checked = making.check(graph, own.opset, as_json(own), own.related)
    if own is not resolved.recipe.export:
        checked = msgspec.structs.replace(checked, fields={**checked.fields, **making.stepped(resolved.steps)})
    parity = making.parity(resolved, f"parity/{making.short(graph)}", (graph, "graph"), making.allowed(resolved.recipe))
    measured = _between(resolved, parity, own, steps)
    return [checked, msgspec.structs.replace(measured, options={**measured.options, "bare": True})]


def around(resolved: Resolved, stage: Stage) -> Stage:
    """The stage with what it needs to run the source's own model by what is published; as it is where that is the same."""
    if not resolved.steps and not resolved.renames:
        return stage
    return _between(resolved, stage, resolved.recipe.export, resolved.steps)


def _between(resolved: Resolved, stage: Stage, own: Export, steps: dict[str, Json]) -> Stage:
    """The stage with the definitions of steps, and the names, that are between what is published and what it runs."""
    fields: dict[str, Path] = {**making.stepped(steps, _FIELDS), **_STEPS} if steps else {}
    if resolved.renames:
        fields |= {"renames": naming.PLACE, "model": ("export",)}
    taken = (name for section in steps.values() for one in section.values() for step in one["steps"] for name in step)
    packages = (package for name in taken for package in STEPS[name].DISTRIBUTIONS)
    model = {"inputs": as_json(own.inputs), "outputs": list(own.outputs)}
    options = {**stage.options, **(steps or {"prepend": {}, "append": {}}), "model": model}
    return msgspec.structs.replace(
        stage,
        version=f"{stage.version}.{_version(steps)}" if steps else stage.version,
        options=options | ({"renames": resolved.renames} if resolved.renames else {}),
        tools=tuple(dict.fromkeys((*stage.tools, *packages))),
        fields={**stage.fields, **fields},
    )


def _version(steps: dict[str, Json]) -> int:
    """A number that rises with the version of any step that the recipe has."""
    return sum(
        STEPS[name].VERSION for own in steps.values() for one in own.values() for step in one["steps"] for name in step
    )
