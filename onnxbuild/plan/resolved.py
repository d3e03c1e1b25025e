"""What the branches of a plan take from a recipe, worked out once: its parts as JSON, and the files that they name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from onnxbuild.contracts import Json, SourceModule
from onnxbuild.plan import order
from onnxbuild.recipe import interface
from onnxbuild.recipe.types import Export, Recipe, chosen
from onnxbuild.sources import SOURCES


class Resolved(Struct, frozen=True):
    """What the branches take from a recipe, worked out once.

    `export` is that section as JSON, what the source's own model takes and gives; `published` is what the published model
    does, and `interface` the same as JSON; `steps` and then `renames` make one of the other, {} where they change nothing.
    `samples` is what makes the inputs of every case (inputs, cases, seed), and `data` the files that those are read from, by
    role.
    """

    recipe: Recipe
    root: Path  # of the project
    source: SourceModule
    options: Any  # of the source
    model: dict[str, Json]
    export: dict[str, Json]
    published: Export
    interface: dict[str, Json]
    steps: dict[str, Json]
    renames: dict[str, Json]
    samples: dict[str, Json]
    data: dict[str, str]


def resolve(recipe: Recipe, root: Path, taken: list[dict[str, Json]]) -> Resolved:
    """A recipe's parts; `root` is the project's, `taken` are the cases that it is tried at."""
    name, options = chosen(recipe.model)
    published = interface.published(recipe)
    own, shown = as_json(recipe.export), as_json(published)
    samples = {"inputs": shown["inputs"], "cases": taken, "seed": recipe.parity.seed}
    return Resolved(
        recipe=recipe,
        root=root,
        source=SOURCES[name],
        options=options,
        model=of_source(name, options),
        export=own,
        published=published,
        interface=shown,
        steps=interface.sections(recipe),
        renames=interface.renames(recipe),
        samples=samples,
        data=data_files(shown["inputs"], taken),
    )


def of_source(kind: str, options: Any) -> dict[str, Json]:
    """The `model` section as stages are handed it."""
    return {kind: _without_files(as_json(options), SOURCES[kind].HASHED)}


def as_json(value: Any) -> Json:
    """A part of a recipe as JSON."""
    return msgspec.to_builtins(value)


def ordered(resolved: Resolved) -> dict[str, list[str]] | None:
    """The orders that reach a model's code: of the inputs, and within what its factory and `forward` are called with."""
    (source,) = resolved.model
    found = order_of_inputs(resolved.export)
    for name, value in resolved.export.get("arguments", {}).items():
        found |= order.orders(("export", "arguments", name), value)
    return found | order_of(source, resolved.options) or None


def order_of(kind: str, options: Any) -> dict[str, list[str]]:
    """The orders within a source's own options."""
    found: dict[str, list[str]] = {}
    for name in options.__struct_fields__:
        if isinstance(value := getattr(options, name), dict | list):
            found |= order.orders(("model", kind, name), value)
    return found


def order_of_inputs(export: Json) -> dict[str, list[str]]:
    """The order of the inputs, which reaches the model's code."""
    return order.orders(("export", "inputs"), dict.fromkeys(export["inputs"]))


def _without_files(source: Mapping[str, Json], hashed: Mapping[str, Sequence[str]]) -> dict[str, Json]:
    """A source's options less where its declared files lie: those enter the key by their content."""
    kept = {name: value for name, value in source.items() if name not in hashed.get("", ())}
    return {
        name: {key: inner for key, inner in value.items() if key not in hashed[name]} if name in hashed else value
        for name, value in kept.items()
    }


def data_files(inputs: Mapping[str, Json], taken: Iterable[Mapping[str, Json]]) -> dict[str, str]:
    """The .npz files that inputs and cases name, by a role of their own."""
    kinds = [spec["data"] for spec in inputs.values() if "data" in spec]
    kinds += [kind for case in taken for kind in case.get("data", {}).values()]
    paths = sorted({kind["npz"]["path"] for kind in kinds if "npz" in kind})
    return {f"data:{path}": path for path in paths}
