"""The architectures of `architectures.yaml` as data: what each is, the sizes that it is tried at, and its recipe.

Imports neither torch nor onnxbuild.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
NOT_FAMILIES = ("sizes", "related", "shared")


@dataclass(frozen=True)
class Architecture:
    """A model of transformers with a tiny configuration; shapes hold sizes and the names of dynamic dimensions."""

    name: str
    family: str
    model: str
    config: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, list[str]]
    sizes: dict[str, dict[str, int]]
    related: dict[str, str]
    factory: str = "transformer"
    attention: str = ""
    part: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)

    def kwargs(self) -> dict[str, Any]:
        """What the factory is called with."""
        more = {"attention": self.attention, "part": self.part}
        return {"model": self.model, "config": self.config, **{key: value for key, value in more.items() if value}}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The named axes of inputs and outputs."""
        shapes = {name: spec["shape"] for name, spec in self.inputs.items()} | self.outputs
        found = {
            name: {axis: dim for axis, dim in enumerate(shape) if isinstance(dim, str) and dim != "_"}
            for name, shape in shapes.items()
        }
        return {name: axes for name, axes in found.items() if axes}

    def free(self) -> list[str]:
        """The dimensions of the inputs that may be chosen, in the order in which the inputs show them."""
        named = [dim for name in self.inputs for dim in self.dynamic_axes().get(name, {}).values()]
        of_others = [dim for text in self.related.values() for dim in re.findall(r"[a-z_]+", text)]
        return [dim for dim in dict.fromkeys([*named, *of_others]) if dim in self.sizes]

    def shapes(self, which: str) -> dict[str, list[int]]:
        """The inputs' shapes at the dimensions' `example`, `min` or `max`."""
        sizes = {dim: limits[which] for dim, limits in self.sizes.items()}
        for name, text in self.related.items():
            if set(re.findall(r"[a-z_]+", text)) <= set(sizes):
                sizes[name] = int(eval(text, {"__builtins__": {}}, dict(sizes)))
        return {name: [sizes.get(dim, dim) for dim in spec["shape"]] for name, spec in self.inputs.items()}


def load() -> dict[str, Architecture]:
    """All of them by name."""
    read = yaml.safe_load((HERE / "architectures.yaml").read_text(encoding="utf-8"))
    return {
        name: Architecture(
            name=name,
            family=family,
            sizes=read["sizes"] | entry.get("sizes", {}),
            related=read["related"] | entry.get("related", {}),
            **{key: value for key, value in entry.items() if key not in ("sizes", "related")},
        )
        for family, entries in read.items()
        if family not in NOT_FAMILIES
        for name, entry in entries.items()
    }


def recipe(one: Architecture) -> dict[str, Any]:
    """The recipe that builds it, in a project whose `models.py` is a copy of `tiny_models.py`."""
    axes = one.dynamic_axes()
    used = {dim for of in axes.values() for dim in of.values()}
    shown = {dim for name in one.inputs for dim in axes.get(name, {}).values()}
    limits = {dim: {key: value for key, value in one.sizes[dim].items() if key != "example"} for dim in one.free()}
    shapes = one.shapes("example")
    export = {
        "inputs": {name: {**spec, "shape": shapes[name]} for name, spec in one.inputs.items()},
        "outputs": list(one.outputs),
        "dynamic_axes": {name: {str(axis): dim for axis, dim in of.items()} for name, of in axes.items()},
        "dims": {dim: of for dim, of in limits.items() if dim in used | _parts(one, used)}
        | {dim: text for dim, text in one.related.items() if dim in used | shown},
    }
    return {
        "version": 1,
        "name": one.name,
        "model": {"pytorch": {"factory": f"models:{one.factory}", "kwargs": one.kwargs()}},
        "export": export | ({"arguments": one.arguments} if one.arguments else {}),
    } | ({"parity": one.parity} if one.parity else {})


def _parts(one: Architecture, used: set[str]) -> set[str]:
    """What the used dimensions are made of."""
    return {part for dim in used for part in re.findall(r"[a-z_]+", one.related.get(dim, ""))}


def as_json(one: Architecture) -> Mapping[str, Any]:
    """What the plain export has to know of it."""
    return {
        "name": one.name,
        "factory": one.factory,
        "kwargs": one.kwargs(),
        "inputs": one.inputs,
        "arguments": one.arguments.get("kwargs") or {name: name for name in one.inputs},
        "axes": one.dynamic_axes(),
        "shapes": {which: one.shapes(which) for which in ("example", "min", "max")},
    }
