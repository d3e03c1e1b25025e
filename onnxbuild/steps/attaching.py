"""Steps as nodes of a model: before its inputs and after its outputs, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnxbuild.contracts import Json
from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, renaming
from onnxbuild.steps import building, chains
from onnxbuild.steps.interface import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto


def attach(model: ModelProto, prepend: Mapping[str, Json], append: Mapping[str, Json]) -> None:
    """Add the steps, and make their ends the model's inputs and outputs; see `surrounding` for what both are.

    Weights are not looked at. A value of the model that has the name of a new input or output gets another one. Raises
    StageError where a function of the recipe's does not fit the graph.
    """
    opset = interface.opset(model)
    if opset is None:
        fact = "the graph has no operators of ONNX's own, and so no opset that steps could be of"
        raise StageError(fact, "leave prepend and append out")
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    new = [one["name"] for one in prepend.values()] + [name for one in append.values() for name in one["outputs"]]
    moved = renaming.make_room(model, new)
    graph = building.Builder(model, opset, new)
    for name, one in prepend.items():
        _before(graph, name, one, moved.get(name, name))
        model.graph.input[inputs.index(name)].CopyFrom(_value(one["name"], Tensor(one["dtype"], one["axes"])))
    first = graph.taken_out()
    made = _after(graph, append, {name: moved.get(name, name) for name in outputs})
    values = []
    for name, value in zip(outputs, model.graph.output, strict=True):
        values += [value] if name not in append or append[name]["keep"] else []
        values += made.get(name, [])
    _replace(model.graph.output, values)
    _replace(model.graph.node, [*first, *model.graph.node, *graph.taken_out()])
    model.graph.initializer.extend(graph.constants)


def _before(graph: building.Builder, name: str, one: Json, inner: str) -> None:
    """The steps that feed one input, whose value is called `inner` in the model."""
    graph.stem = name
    made = chains.nodes(graph, (one["name"], Tensor(one["dtype"], one["axes"])), chains.read(one["steps"]), {})
    graph.rename(made[0], inner)


def _after(
    graph: building.Builder, append: Mapping[str, Json], inner: Mapping[str, str]
) -> dict[str, list[ValueInfoProto]]:
    """The steps that take outputs, and what they give, by output; `inner` are the names of those in the model."""
    known = {name: (inner[name], Tensor(one["dtype"], one["axes"])) for name, one in append.items()}
    steps = {name: chains.read(one["steps"]) for name, one in append.items()}
    made = {}
    for name in chains.in_order(steps, inner):
        graph.stem = name
        first, outputs = known[name] if inner[name] == name else (inner[name], known[name][1]), append[name]["outputs"]
        tensors = chains.gives(first[1], steps[name], {other: tensor for other, (_, tensor) in known.items()}, {})
        for old, new in zip(chains.nodes(graph, first, steps[name], known), outputs, strict=True):
            graph.rename(old, new)
        results = list(zip(outputs, tensors, strict=True))
        known |= {new: (new, tensor) for new, tensor in results}
        made[name] = [_value(new, tensor) for new, tensor in results]
    return made


def _replace(field: Sequence[NodeProto | ValueInfoProto], values: Sequence[NodeProto | ValueInfoProto]) -> None:
    """What a repeated field holds; its own messages are copied before they go."""
    kept = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]


def _value(name: str, tensor: Tensor) -> ValueInfoProto:
    from onnx.helper import make_tensor_value_info, np_dtype_to_tensor_dtype

    from onnxbuild.parity.samples import dtype_of

    return make_tensor_value_info(name, np_dtype_to_tensor_dtype(dtype_of(tensor.dtype)), tensor.shape)
