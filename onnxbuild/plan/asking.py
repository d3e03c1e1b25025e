"""The stages that ask a source of its model; they are run before there is anything to plan, and stand in no plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxbuild.contracts import Json
from onnxbuild.plan import making
from onnxbuild.plan.dag import Stage
from onnxbuild.plan.resolved import of_source, order_of
from onnxbuild.sources import SOURCES


def describing(kind: str, options: Any) -> Stage:
    """The stage that asks a source what its model takes and gives; it is run before there is anything to plan."""
    return _asking("describe", kind, options, {})


def inspecting(kind: str, options: Any, given: Mapping[str, Json], example: str) -> Stage:
    """The stage that finds out what a recipe should say; `given` are inputs by name, `example` is a function of them."""
    return _asking("inspect", kind, options, {"given": given, "example": example})


def _asking(stage: str, kind: str, options: Any, more: Mapping[str, Json]) -> Stage:
    source = SOURCES[kind]
    return making.stage(
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
