"""A graph or a function as the comparison sees it: who makes and who takes each value, and what tells its nodes apart.

Hashes are small numbers that one `Ids` hands out for both sides: equal numbers for equal things, and no collisions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import tensors
from onnxbuild.graphs.lines import op
from onnxbuild.graphs.tensors import graphs_of

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto

SMALL = 1024  # bytes; of smaller tensors the content is looked at wherever it is
FEW = 64  # elements; a tensor of few integers is a shape, axes or pads: a part of the structure
INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})  # TensorProto's types of integers, and bool
UNUSED = -1


class Ids:
    """A number for each thing, the same for equal things."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def __call__(self, thing: Hashable) -> int:
        """The number of a thing."""
        return self._known.setdefault(thing, len(self._known))


class Body:
    """A graph or function with its values by name. `place` says which, "" for the main graph."""

    def __init__(self, body: GraphProto | FunctionProto, place: str = "") -> None:
        self.place = place
        self.nodes: list[NodeProto] = list(body.node)
        self.weights: dict[str, Any] = {tensor.name: tensor for tensor in getattr(body, "initializer", ())}
        self.weights |= {sparse.values.name: sparse for sparse in getattr(body, "sparse_initializer", ())}
        self.ops = [op(node) for node in self.nodes]
        self.weights_of = [tuple(name for name in node.input if name in self.weights) for node in self.nodes]
        self.inputs = [name for name in map(_name, body.input) if name not in self.weights]
        self.outputs = list(map(_name, body.output))
        self.maker: dict[str, tuple[int, int]] = {}
        self.takers: dict[str, list[tuple[int, str]]] = {}
        self.takes: list[dict[str, str]] = [dict(taken(node)) for node in self.nodes]  # the value in each slot
        for index, node in enumerate(self.nodes):
            self.maker.update({name: (index, slot) for slot, name in enumerate(node.output) if name})
            for slot, name in self.takes[index].items():
                self.takers.setdefault(name, []).append((index, slot))


def taken(node: NodeProto) -> Iterator[tuple[str, str]]:
    """The values that a node takes, each with its slot: "0", or "then_branch.1" for what a subgraph takes from around it."""
    yield from ((str(slot), name) for slot, name in enumerate(node.input) if name)
    for attribute in sorted(node.attribute, key=lambda one: str(one.name)):
        captured = dict.fromkeys(name for graph in graphs_of(attribute) for name in _captured(graph))
        yield from ((f"{attribute.name}.{number}", name) for number, name in enumerate(captured))


def label(node: NodeProto, *, exact: bool) -> Hashable:
    """What a node does but for its inputs and subgraphs; not `exact`: without the content of its larger tensors."""
    found = (_attribute(one, exact=exact) for one in node.attribute if not graphs_of(one))
    return (op(node), str(node.overload), tuple(sorted(found)))


def weight(tensor: Any, *, exact: bool) -> Hashable:
    """What a weight is; not `exact`: its type and shape, and the content of few integers."""
    if not hasattr(tensor, "data_type"):  # sparse
        return ("sparse", tuple(tensor.dims), weight(tensor.values, exact=exact), weight(tensor.indices, exact=exact))
    kind = (int(tensor.data_type), tuple(tensor.dims))
    if not exact and (tensor.data_type not in INTEGERS or tensors.elements(tensor) > FEW):
        return kind
    return (*kind, content(tensor))


def content(tensor: TensorProto) -> Hashable:
    """The content of a tensor whose data is in the message; of an external one where it says that it is."""
    if tensors.is_string(tensor):
        return tuple(tensor.string_data)
    if tensors.is_external(tensor):
        return tuple((entry.key, entry.value) for entry in tensor.external_data)
    return tensors.inline_bytes(tensor)


def forward(body: Body, names: Mapping[str, int], weights: Mapping[str, int], ids: Ids, *, exact: bool) -> list[int]:
    """For each node a number that tells what it computes, down to the inputs; `names` has those of the values around."""
    known = {**names, **weights}
    found = []
    for node in body.nodes:
        inputs = tuple(known.get(name, -1) if name else None for name in node.input)
        inner = tuple(
            (attribute.name, tuple(_subgraph(graph, known, ids, exact=exact) for graph in graphs_of(attribute)))
            for attribute in sorted(node.attribute, key=lambda one: str(one.name))
            if graphs_of(attribute)
        )
        number = ids((label(node, exact=exact), inputs, inner))
        found.append(number)
        known.update({name: ids((number, slot)) for slot, name in enumerate(node.output) if name})
    return found


def backward(
    body: Body, outputs: Mapping[str, Hashable], weights: Mapping[str, int], ids: Ids, *, exact: bool
) -> list[int]:
    """For each node a number that tells what becomes of its results, up to the outputs, and its own weights; UNUSED where
    no output depends on it.
    """
    found = [UNUSED] * len(body.nodes)
    for index in range(len(body.nodes) - 1, -1, -1):
        node = body.nodes[index]
        uses = []
        for name in node.output:
            takers = sorted((found[taker], slot) for taker, slot in body.takers.get(name, ()) if found[taker] != UNUSED)
            uses.append((outputs.get(name), tuple(takers)))
        if any(output is not None or takers for output, takers in uses):
            own = tuple(weights.get(name) if name else None for name in node.input)
            found[index] = ids((label(node, exact=exact), own, tuple(uses)))
    return found


def _subgraph(graph: GraphProto, around: Mapping[str, int], ids: Ids, *, exact: bool) -> int:
    body = Body(graph)
    weights = {name: ids(weight(tensor, exact=exact)) for name, tensor in body.weights.items()}
    known = {**around, **{name: ids(("given", number)) for number, name in enumerate(body.inputs)}}
    nodes = forward(body, known, weights, ids, exact=exact)
    known |= weights
    outputs = tuple(
        ids((nodes[body.maker[name][0]], body.maker[name][1])) if name in body.maker else known.get(name, -1)
        for name in body.outputs
    )
    return ids(("graph", outputs, tuple(sorted(nodes))))


def _attribute(one: AttributeProto, *, exact: bool) -> tuple[str, Hashable]:
    if one.type == one.TENSOR:
        return (str(one.name), repr(weight(one.t, exact=exact or tensors.elements(one.t) <= FEW)))
    if one.doc_string:
        one, written = type(one)(), one
        one.CopyFrom(written)
        one.ClearField("doc_string")
    return (str(one.name), repr(one.SerializeToString(deterministic=True)))


def _name(value: Any) -> str:
    return value if isinstance(value, str) else str(value.name)  # a function's are names


def _captured(graph: GraphProto) -> Iterator[str]:
    """The values that a graph takes from around it, in the order in which its nodes do."""
    body = Body(graph)
    own = {*body.inputs, *body.weights, *body.maker}
    for node in body.nodes:
        yield from (name for _, name in taken(node) if name not in own)
    yield from (name for name in body.outputs if name not in own)
