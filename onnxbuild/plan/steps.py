"""The branch of the steps before and after a model: the graph that has them, and the reference that has them too. Pure."""

from __future__ import annotations

import msgspec

from onnxbuild.plan import making
from onnxbuild.plan.dag import Path, Stage
from onnxbuild.plan.resolved import Resolved
from onnxbuild.steps import STEPS

_FIELDS: dict[str, Path] = {"inputs": ("prepend",), "outputs": ("append",), "axes": ("append",), "model": ("export",)}


def attached(resolved: Resolved, graph: str, check: str) -> list[Stage]:
    """The exported graph with the steps, and what proves it: it is the first that can be held against the reference."""
    made = making.stage(
        "attach",
        "attach",
        resolved.steps,
        version=_version(resolved),
        needs={"graph": (graph, "graph")},
        after=["reference", check],
        entry=("prepend" if resolved.steps["prepend"] else "append",),
    )
    return [made, *making.proofs(resolved, made.name, resolved.export["opset"])]


def around(resolved: Resolved, reference: Stage) -> Stage:
    """The reference that runs the source's model between the definitions of the steps."""
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
        reference,
        version=f"{reference.version}.{_version(resolved)}",
        options={**reference.options, **resolved.steps, "model": own},
        tools=tuple(dict.fromkeys((*reference.tools, *packages))),
        fields={**reference.fields, **_FIELDS, "prepend": ("prepend",), "append": ("append",)},
    )


def _version(resolved: Resolved) -> int:
    """A number that rises with the version of any step that the recipe has."""
    sections = resolved.steps.values()
    return sum(
        STEPS[name].VERSION for own in sections for one in own.values() for step in one["steps"] for name in step
    )
