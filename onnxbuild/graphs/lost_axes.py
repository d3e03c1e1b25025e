"""Which node of a graph a dynamic dimension ends at: its inputs have the axis, and what it makes has a fixed size there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def ends_at(model: ModelProto, output: str, dim: str) -> str:
    """The name of the node nearest to an output that takes a value with this dimension, none of which comes out of it.

    By ONNX's shape inference; "" where that does not tell, where the output has the dimension, and where the node has no
    name.
    """
    import onnx

    bare = type(model)()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except Exception:  # noqa: BLE001  # what is wrong with the graph, the checker tells
        return ""
    having = {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if any(dim == one.dim_param for one in value.type.tensor_type.shape.dim)
    }
    maker = {name: node for node in graph.node for name in node.output if name}
    return "" if output in having else _nearest(maker, output, having)


def _nearest(maker: dict[str, NodeProto], output: str, having: set[str]) -> str:
    left, seen = deque([output]), {output}
    while left:
        node = maker.get(left.popleft())
        if node is None:
            continue
        if having.intersection(node.input):
            return str(node.name)
        left += [name for name in node.input if name not in seen]
        seen.update(node.input)
    return ""
