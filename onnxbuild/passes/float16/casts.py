"""The Casts that onnxruntime's converter adds, brought into order.

It puts one Cast for each node that wants it under one and the same name, all of them in the main graph and at its end, and
casts to float16 and back between two float32 nodes. Here those are one each, where their input is made, in order, and none
between two float32 nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import nodes, renaming, tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def half() -> int:
    """ONNX's number of float16."""
    from onnx import TensorProto

    return int(TensorProto.FLOAT16)


def mend(model: ModelProto, known: set[str], halves: set[str]) -> None:
    """Bring the Casts that the converter added, the nodes that are not `known`, into order, in place. `halves` are the
    values of the main graph that are float16 in it.
    """
    _one_each(model.graph, known)
    _where_made(model)
    for graph in tensors.graphs(model):
        _cancel(graph, known)
    _drop_unused(model, known)
    _drop_needless(model.graph, halves)
    nodes.sort(model.graph)
    model.graph.ClearField("value_info")


def _is_cast(node: NodeProto, known: set[str], to: int) -> bool:
    return node.op_type == "Cast" and node.name not in known and node.attribute[0].i == to


def _one_each(graph: GraphProto, known: set[str]) -> None:
    """Drop the second and further Casts of the same name."""
    seen: set[str] = set()
    for number, node in [*enumerate(graph.node)]:
        if node.name not in known and node.output[0] in seen:
            graph.node[number].op_type = ""
        seen.update(node.output)
    _keep(graph, lambda node: bool(node.op_type))


def _keep(graph: GraphProto, wanted: Any) -> None:
    for number in reversed(range(len(graph.node))):
        if not wanted(graph.node[number]):
            del graph.node[number]


def _where_made(model: ModelProto) -> None:
    """Move Casts of what a subgraph makes or holds into that subgraph, and then the Casts of what those give."""
    inside: dict[str, list[GraphProto]] = {}
    for graph in [*tensors.graphs(model)][1:]:
        for name in _made(graph):
            inside.setdefault(name, []).append(graph)
    moved = True
    while moved:
        main, moved = _made(model.graph), False
        for number in reversed(range(len(model.graph.node))):
            node = model.graph.node[number]
            homes = inside.get(node.input[0], []) if node.op_type == "Cast" else []
            if homes and node.input[0] not in main:
                for home in homes:
                    home.node.add().CopyFrom(node)
                    inside.setdefault(node.output[0], []).append(home)
                del model.graph.node[number]
                moved = True


def _made(graph: GraphProto) -> set[str]:
    own = {value.name for value in (*graph.input, *graph.initializer)}
    return own | {name for node in graph.node for name in node.output}


def _cancel(graph: GraphProto, known: set[str]) -> None:
    """Take float32 values as they are where they were cast to float16 and back."""
    down = {node.output[0]: node.input[0] for node in graph.node if _is_cast(node, known, half())}
    made = {name for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for node in [*graph.node]:
        whole = down.get(node.input[0]) if _is_cast(node, known, 1) else None
        if whole is None:
            continue
        if node.output[0] not in outputs:
            renaming.rename_made(graph, node.output[0], whole)
            node.output[0] = f"{whole}, unused"
        elif whole in made and whole not in outputs:
            name = node.output[0]
            node.output[0] = f"{whole}, unused"
            renaming.rename_made(graph, whole, name)
            down = {half: name if of == whole else of for half, of in down.items()}


def _drop_needless(graph: GraphProto, halves: set[str]) -> None:
    """Take float16 values as they are where the model's own Cast made float32 ones of float16, or the other way round."""
    ends = {value.name for value in (*graph.input, *graph.output)}
    halves = {*halves}
    for node in [*graph.node]:
        if node.op_type != "Cast" or node.attribute[0].i != half() or node.input[0] not in halves:
            continue
        of, made = node.input[0], node.output[0]
        if made in ends and of in ends:  # one value can't have two names
            continue
        halves.add(made)
        old, new = (of, made) if made in ends else (made, of)
        renaming.rename_made(graph, old, new)
        node.op_type = ""
    _keep(graph, lambda node: bool(node.op_type))


def _drop_unused(model: ModelProto, known: set[str]) -> None:
    """Drop Casts that the converter added and whose result nothing takes any more."""
    while True:
        used = {value.name for graph in tensors.graphs(model) for value in graph.output}
        used |= {name for graph in tensors.graphs(model) for node in graph.node for name in node.input}
        unused = [
            (graph, number)
            for graph in tensors.graphs(model)
            for number, node in enumerate(graph.node)
            if node.op_type == "Cast" and node.name not in known and node.output[0] not in used
        ]
        if not unused:
            return
        for graph, number in reversed(unused):
            del graph.node[number]
