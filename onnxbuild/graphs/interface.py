"""A model's interface: names, dtypes and shapes of its inputs and outputs, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto


def signature(model: ModelProto) -> dict[str, list[dict[str, Any]]]:
    """The model's interface: {"inputs": [{"name", "dtype", "shape"}], "outputs": [...]}.

    `dtype` is numpy's name (float32, bfloat16, ..., "string"), or ONNX's where the value is no tensor ("sequence"). A
    shape's entries are an int, the name of a dynamic dimension, or None; the shape is None where even the rank is open.
    Initializers that are listed as inputs too, as IR versions below 4 require, are not inputs.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return {
        "inputs": [describe(value) for value in model.graph.input if value.name not in constants],
        "outputs": [describe(value) for value in model.graph.output],
    }


def opset(model: ModelProto) -> int | None:
    """The version of the default operator set, however its domain is spelled; None where the graph has none."""
    return next((entry.version for entry in model.opset_import if tensors.is_standard(entry.domain)), None)


SHAPES = ("Shape", "Size")  # operators that read how large their input is, and not its values


def values_read(model: ModelProto) -> set[str]:
    """The names of all values whose elements an output of the model may depend on; inputs among them are read.

    Only the main graph is followed: of a node's subgraphs everything counts that a node of theirs takes, and a call of a
    function reads all that it is given.
    """
    live = {value.name for value in model.graph.output}
    before = 0
    while len(live) > before:  # once more where the nodes don't lie in order
        before = len(live)
        for node in reversed(model.graph.node):
            if live.intersection(node.output):
                live |= _taken(node)
    return live


def _taken(node: NodeProto) -> set[str]:
    """The values whose elements a node takes, in its subgraphs too."""
    taken = set() if node.op_type in SHAPES and node.domain in ("", "ai.onnx") else {*node.input}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            taken |= {value.name for value in graph.output}
            for inner in graph.node:
                taken |= _taken(inner)
    return taken - {""}


def describe(value: ValueInfoProto) -> dict[str, Any]:
    """One input or output, as `signature` lists it."""
    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return {"name": value.name, "dtype": (kind or "unknown").removesuffix("_type"), "shape": None}
    tensor = getattr(value.type, kind)
    return {"name": value.name, "dtype": dtype_name(tensor.elem_type), "shape": _shape(tensor)}


def dtype_name(element: int) -> str:
    """What numpy calls an ONNX element type; one that this onnx does not know goes by its number."""
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    if element == TensorProto.UNDEFINED:
        return "unknown"
    try:
        return "string" if element == TensorProto.STRING else tensor_dtype_to_np_dtype(element).name
    except KeyError:
        return f"type {element}"  # of a later ONNX, or of none


def _shape(tensor: Any) -> list[int | str | None] | None:
    if not tensor.HasField("shape"):
        return None
    return [_size(dim) for dim in tensor.shape.dim]


def _size(dim: Any) -> int | str | None:
    """A static size, the name of a dynamic one, or None. One below 0 is what some converters write for a dynamic axis."""
    if not dim.HasField("dim_value"):
        return dim.dim_param or None
    return dim.dim_value if dim.dim_value >= 0 else None
