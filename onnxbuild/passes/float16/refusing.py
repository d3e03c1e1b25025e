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
    """The formal parameters of the inputs and outputs that a node has; the last one stands for all further ones."""
    inputs = [name if number not in aside else "" for number, name in enumerate(node.input)]
    for names, formal in ((inputs, schema.inputs), (node.output, schema.outputs)):
        yield from (formal[min(number, len(formal) - 1)] for number, name in enumerate(names) if name and formal)


def _is_float32(formal: Any) -> bool:
    return "tensor(float)" in formal.types and "tensor(float16)" not in formal.types
