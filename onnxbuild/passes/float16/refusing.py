"""Nodes that float16 can't go into: their operator's definition takes or gives float32 there, and no float16.

The converter's own list of operators leaves out those that quantizers put into a graph, and some of ONNX's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_OWN = "com.microsoft"  # onnxruntime's operators, whose definitions onnx does not have


def float32_only(model: ModelProto) -> list[str]:
    """The names of the nodes that would be invalid in float16, in order; an operator that nobody defines is none."""
    from onnxruntime.transformers import float16

    versions = {"" if tensors.is_standard(one.domain) else one.domain: one.version for one in model.opset_import}
    own = _onnxruntimes() if _OWN in versions else {}
    found = []
    for node in (node for graph in tensors.graphs(model) for node in graph.node):
        schema = _schema(node, versions, own)
        # The converter itself keeps these in float32.
        aside = float16.ALWAYS_FLOAT_INPUTS.get(node.op_type, []) if tensors.is_standard(node.domain) else []
        if schema is not None and any(_is_float32(one) for one in _present(node, schema, aside)):
            found.append(node.name)
    return found


def inferred(model: ModelProto) -> ModelProto:
    """The model with the types of its values, as far as ONNX infers them, and of what onnxruntime's own operators make.

    The converter puts a Cast only where it knows a value's type.
    """
    import onnx

    found = onnx.shape_inference.infer_shapes(model)
    own = _onnxruntimes() if any(one.domain == _OWN for one in model.opset_import) else {}
    while own and _typed(found, own):
        found = onnx.shape_inference.infer_shapes(found)
    return found


def _typed(model: ModelProto, own: Mapping[str, Any]) -> bool:
    """Add types that follow from those of an operator's inputs, in place; False where there are none to add."""
    types = {
        value.name: value.type.tensor_type.elem_type
        for graph in tensors.graphs(model)
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    types |= {tensor.name: tensor.data_type for graph in tensors.graphs(model) for tensor in graph.initializer}
    before = len(types)
    for graph in tensors.graphs(model):
        for node in graph.node:
            schema = own.get(node.op_type) if node.domain == _OWN else None
            if schema is None:
                continue
            taken = zip(node.input, _formals(schema.inputs, len(node.input)), strict=False)
            bound = {formal.typeStr: types[name] for name, formal in taken if name in types}
            for name, formal in zip(node.output, _formals(schema.outputs, len(node.output)), strict=False):
                if name and name not in types and formal.typeStr in bound:
                    types[name] = bound[formal.typeStr]
                    graph.value_info.add(name=name).type.tensor_type.elem_type = types[name]
    return len(types) > before


def _formals(formals: Any, number: int) -> list[Any]:
    """The formal parameters of so many inputs or outputs; the last one stands for all further ones."""
    return [formals[min(at, len(formals) - 1)] for at in range(number)] if formals else []


def _schema(node: NodeProto, versions: Mapping[str, int], own: Mapping[str, Any]) -> Any:
    import onnx

    if node.domain == _OWN:
        return own.get(node.op_type)
    domain = "" if tensors.is_standard(node.domain) else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, versions.get(domain, 0), domain)
    except onnx.defs.SchemaError:
        return None


def _onnxruntimes() -> dict[str, Any]:
    """The definitions of onnxruntime's own operators, by name; none where this build of it does not tell them."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    told: list[Any] = getattr(state, "get_all_operator_schema", list)()
    return {one.name: one for one in told if one.domain == _OWN}


def _present(node: NodeProto, schema: Any, aside: list[int]) -> Iterator[Any]:
    """The formal parameters of the inputs and outputs that a node has."""
    inputs = [name if number not in aside else "" for number, name in enumerate(node.input)]
    for names, formals in ((inputs, schema.inputs), (node.output, schema.outputs)):
        yield from (formal for name, formal in zip(names, _formals(formals, len(names)), strict=False) if name)


def _is_float32(formal: Any) -> bool:
    return "tensor(float)" in formal.types and "tensor(float16)" not in formal.types
