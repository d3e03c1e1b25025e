"""The names that a model is published by: of its inputs, its outputs and its dimensions, in place.

Changes nothing that a runtime computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import dimensions, renaming, tensors

if TYPE_CHECKING:
    from onnx import ModelProto


def rename(
    model: ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str], dims: Mapping[str, str]
) -> list[str]:
    """Give a model's inputs, outputs and dimensions other names, each by the old one; gives those that it does not have.

    Inner values, and dimensions that only they have, make room where they are called so. An output that is an input as it
    is, and is to have another name, becomes an Identity of it. No weight is looked at. Dimensions that the graph does not
    name are no matter: what counts of them is in the recipe.
    """
    own = {value.name for value in model.graph.input}, {value.name for value in model.graph.output}
    if missing := [name for name in inputs if name not in own[0]] + [name for name in outputs if name not in own[1]]:
        return missing
    passed = {name: outputs.get(name, name) for name in own[0] & own[1]}
    new = {**outputs, **{name: name for name in passed}, **inputs}
    new = {old: name for old, name in new.items() if old != name}
    renaming.make_room(model, {*inputs.values(), *outputs.values()} - new.keys() - (own[0] & own[1]))
    renaming.rename(model, new)
    _apart(model, {inputs.get(name, name): output for name, output in passed.items()})
    _rename_dims(model, dims)
    return []


def _apart(model: ModelProto, passed: Mapping[str, str]) -> None:
    """Give outputs that are inputs names of their own; `passed` are those outputs' names by the inputs'."""
    from onnx.helper import make_node

    for value in model.graph.output:
        if (name := passed.get(value.name, value.name)) != value.name:
            model.graph.node.append(make_node("Identity", [value.name], [name]))
            value.name = name


def _rename_dims(model: ModelProto, dims: Mapping[str, str]) -> None:
    every = [dim for dim in _dims(model) if dim.dim_param] if dims else []
    known = {name for dim in every for name in dimensions.words(dim.dim_param)}
    new = dict(dims)
    taken = known | set(dims.values())
    for name in sorted(known & set(dims.values()) - dims.keys()):  # else two dimensions would be one
        new[name] = renaming.fresh(f"{name}_inner", taken)
    for dim in every:
        if (text := dimensions.renamed(dim.dim_param, new)) != dim.dim_param:
            dim.dim_param = text


def _dims(model: ModelProto) -> Iterator[Any]:
    """Every axis of a value's type, in subgraphs too."""
    for graph in tensors.graphs(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from _dims_of(value.type)


def _dims_of(kind: Any) -> Iterator[Any]:
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield from getattr(kind, which).shape.dim
    elif which in ("sequence_type", "optional_type"):
        yield from _dims_of(getattr(kind, which).elem_type)
    elif which == "map_type":
        yield from _dims_of(kind.map_type.value_type)
