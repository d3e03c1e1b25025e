"""A model's interface: names, dtypes and shapes of its inputs and outputs, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


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
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
