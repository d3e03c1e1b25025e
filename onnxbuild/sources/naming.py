"""Undoes an exporter's own naming in a model: weights get their names in the state dict, axes those of the recipe.

Works on the message alone, in place; loads no external data. Never makes an axis symbolic that is static in the graph:
that is a fault of the export, which `check` reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import dimensions, tensors
from onnxbuild.graphs.modelfile import INLINE_BELOW
from onnxbuild.graphs.tensors import graphs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

PREFIX = "model."  # what wrapping a module as an attribute `model` puts before every name of its state dict


def strip_prefix(model: ModelProto, prefix: str = PREFIX) -> None:
    """Take `prefix` off the initializers' names, where no other value has the name that remains."""
    taken = {name for graph in graphs(model) for name in _names(graph)}
    renamed: dict[str, str] = {}
    for initializer in model.graph.initializer:
        short = initializer.name.removeprefix(prefix)
        if short != initializer.name and short and short not in taken:
            renamed[initializer.name] = short
            taken.add(short)
    for graph in graphs(model):
        for tensor in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
            tensor.name = renamed.get(tensor.name, tensor.name)
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]


def name_axes(
    model: ModelProto, dynamic_axes: Mapping[str, Mapping[str, str]], related: Mapping[str, str] | None = None
) -> list[str]:
    """Give symbolic axes their declared names, and outputs' axes what onnx's shape inference proves of them.

    `related` are the dimensions that are expressions of others. A name that the exporter gave, and that says another
    thing than the declared one, stays: `check` refuses it.

    Proved are: the size of an undeclared symbolic axis; that a declared axis is an input's dimension though the
    exporter noted one size (torch does so after an LSTM). Returns notes on what the exporter saw otherwise.
    """
    notes: list[str] = []
    own_names: dict[str, str] = {}
    for value in model.graph.input:
        for axis, name in dynamic_axes.get(value.name, {}).items():
            dim = _dim(value, int(axis))
            if dim is not None and not dim.HasField("dim_value"):
                own_names[dim.dim_param] = name
                dim.dim_param = name
    for value in model.graph.output:
        _name_output(value, dynamic_axes.get(value.name, {}), own_names, related or {}, notes)
    _settle(model, dynamic_axes, set(own_names.values()), notes)
    return notes


def _name_output(
    value: ValueInfoProto,
    declared: Mapping[str, str],
    own_names: Mapping[str, str],
    related: Mapping[str, str],
    notes: list[str],
) -> None:
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value"):
            continue
        known = own_names.get(dim.dim_param, "")
        own = known or dim.dim_param
        name = declared.get(str(axis)) or own
        if own and dimensions.contradicts(own, name, related, own_names.values()):
            notes.append(f"{value.name}: axis {axis} is declared '{name}'; in the exported graph it is '{own}'")
            name = own
        if name:
            dim.dim_param = name


def _settle(model: ModelProto, dynamic_axes: Mapping[str, Mapping[str, str]], dims: set[str], notes: list[str]) -> None:
    """Let inference decide about output axes that the exporter left open without need, or closed against the recipe."""
    doubtful = [
        (value, axis, dynamic_axes.get(value.name, {}).get(str(axis)))
        for value in model.graph.output
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if dim.HasField("dim_value") == (str(axis) in dynamic_axes.get(value.name, {}))
    ]
    inferred = _inferred_outputs(model, {(value.name, axis) for value, axis, _ in doubtful}) if doubtful else {}
    for value, axis, declared in doubtful:
        shape = inferred.get(value.name, ())
        found, own = (shape[axis] if axis < len(shape) else None), _dim(value, axis)
        if found is None or own is None:
            continue
        if declared is None and found.HasField("dim_value"):
            own.dim_value = found.dim_value
        elif declared is not None and found.dim_param == declared and declared in dims:
            noted = own.dim_value
            notes.append(f"{value.name}: the exporter noted the size {noted} for axis {axis}, which is '{declared}'")
            own.dim_param = declared


def _dim(value: ValueInfoProto, axis: int) -> Any:
    dims = value.type.tensor_type.shape.dim
    return dims[axis] if axis < len(dims) else None


def _inferred_outputs(model: ModelProto, doubtful: set[tuple[str, int]]) -> dict[str, Any]:
    """The outputs' dimensions by onnx's shape inference, from shapes and small constants, without the doubtful axes."""
    import onnx

    bare = _without_weights(model)
    for output in bare.graph.output:
        for axis, dim in enumerate(output.type.tensor_type.shape.dim):
            if (output.name, axis) in doubtful:
                dim.Clear()
    for graph in graphs(bare):
        # The exporter's own notes would be believed: kept only behind operators of which inference knows nothing.
        opaque = {name for node in graph.node if not tensors.is_standard(node.domain) for name in node.output}
        kept = [value for value in graph.value_info if value.name in opaque]
        graph.ClearField("value_info")
        graph.value_info.extend(kept)
    try:
        result = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except onnx.shape_inference.InferenceError:  # `check` says what is wrong with the graph
        return {}
    return {value.name: value.type.tensor_type.shape.dim for value in result.graph.output}


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy in which large initializers have a name, a type and a shape alone; they are never copied."""
    bare = type(model)(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = model.graph
    bare.graph.name = graph.name
    for name in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(bare.graph, name).extend(getattr(graph, name))
    bare.graph.initializer.extend(map(_light, graph.initializer))
    return bare


def _light(tensor: Any) -> Any:
    """The tensor, or one of its name, type and shape alone where its data is large."""
    if len(tensor.raw_data) < INLINE_BELOW and not tensor.external_data:
        return tensor
    return type(tensor)(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _names(graph: GraphProto) -> Iterator[str]:
    for item in (*graph.input, *graph.output, *graph.initializer):
        yield item.name
    for node in graph.node:
        yield from node.output
        yield from node.input
