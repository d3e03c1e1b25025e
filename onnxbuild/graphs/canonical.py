"""One form for graphs that are equal but for what a converter calls their parts and in which order it lists them.

Some converters pick the survivor of two equal weights or nodes by where it lies in memory, and number what they insert.
Here the order of nodes follows from the graph's structure, and every name from that order; nothing follows from a name
that a converter gave. What is computed stays as it was. Knows no converter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs.tensors import graphs, graphs_of, is_standard

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def canonicalise(model: ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Bring a model, in place, into the form that does not depend on how its converter came by it.

    `inputs` and `outputs` are the names that the graph's inputs and outputs get, in order. Nodes are put in the order in
    which the outputs need them and called after their operator ("Conv", "Conv_1"). Those that no output needs are
    dropped, those that only copy are there where an output needs one, and notes on values go. A weight is called after
    the first node that takes it and its place there ("Conv_1.1"), a node's output after the node ("Conv_1:0"), a subgraph
    after its node and attribute ("If.else_branch").
    """
    _copy_where_needed(model.graph, {})
    _order(model.graph)
    graph = model.graph
    own = dict(zip((value.name for value in graph.input), inputs, strict=True))
    given = dict(zip((value.name for value in graph.output), outputs, strict=True))
    _rename(graph, _Scope(own), _Names({*inputs, *outputs}), given)


def forget_dimensions(model: ModelProto, pattern: str) -> None:
    """Leave axes without a name, in place, wherever a converter numbered them: names that match `pattern` in full."""
    for graph in graphs(model):
        for value in (*graph.input, *graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if re.fullmatch(pattern, dim.dim_param):
                    dim.Clear()


class _Names:
    """Names that nothing else has: one space for values, another for nodes."""

    def __init__(self, taken: set[str]) -> None:
        self._values = taken
        self._nodes: Counter[str] = Counter()

    def node(self, kind: str) -> str:
        """A name for a node of an operator."""
        number = self._nodes[kind]
        self._nodes[kind] += 1
        return f"{kind}_{number}" if number else kind

    def value(self, name: str) -> str:
        """A name for a value; inputs and outputs may have the wanted one already."""
        found, number = name, 0
        while found in self._values:
            number += 1
            found = f"{name}_{number}"
        self._values.add(found)
        return found


class _Scope:
    """What values of a graph, and of those around it, are called now; a weight has no name before a node takes it."""

    def __init__(self, names: dict[str, str], outer: _Scope | None = None) -> None:
        self.names = names
        self.weights: set[str] = set()
        self._outer = outer

    def find(self, name: str) -> _Scope | None:
        """The scope that holds a value, the innermost first."""
        scope: _Scope | None = self
        while scope is not None and name not in scope.names and name not in scope.weights:
            scope = scope._outer  # noqa: SLF001  # its own class
        return scope


def _rename(graph: GraphProto, scope: _Scope, names: _Names, outputs: Mapping[str, str]) -> None:
    """Give everything in a graph, which is in order, its name. `scope` has its inputs', `outputs` names that are settled."""
    scope.weights = {_tensor(one).name for one in (*graph.initializer, *graph.sparse_initializer)}
    for node in graph.node:
        node.name = names.node(node.op_type)
        node.input[:] = [_called(name, f"{node.name}.{i}", names, scope) for i, name in enumerate(node.input)]
        for attribute in sorted(node.attribute, key=lambda one: one.name):
            for inner in graphs_of(attribute):
                inner.name = f"{node.name}.{attribute.name}"
                own = {value.name: names.value(f"{inner.name}.{i}") for i, value in enumerate(inner.input)}
                _rename(inner, _Scope(own, scope), names, {})
        for number, name in enumerate(node.output):
            if name:
                scope.names[name] = outputs.get(name) or names.value(f"{node.name}:{number}")
        node.output[:] = [scope.names.get(name, "") for name in node.output]
    for number, value in enumerate(graph.output):
        value.name = _called(value.name, f"{graph.name}.out.{number}", names, scope)
    for value in graph.input:
        value.name = scope.names[value.name]
    for field in (graph.initializer, graph.sparse_initializer):
        _name_weights(field, scope)
    graph.ClearField("value_info")
    graph.ClearField("quantization_annotation")


def _called(name: str, wanted: str, names: _Names, scope: _Scope) -> str:
    """What a value is called now; `wanted` if it is a weight that nothing took before."""
    holder = scope.find(name)
    if not name or holder is None:
        return name
    if name not in holder.names:
        holder.names[name] = names.value(wanted)
    return holder.names[name]


def _name_weights(field: Any, scope: _Scope) -> None:
    """Give a graph's weights the names that its nodes know them by, in order; those that no node takes go."""
    for number in reversed(range(len(field))):
        tensor = _tensor(field[number])
        if tensor.name in scope.names:
            tensor.name = scope.names[tensor.name]
        else:
            del field[number]
    field.sort(key=_name)


def _tensor(weight: Any) -> Any:
    """The message that has a weight's name: a sparse one is called after its values."""
    return weight.values if hasattr(weight, "values") else weight


def _name(weight: Any) -> str:
    return str(_tensor(weight).name)


def _copy_where_needed(graph: GraphProto, outer: Mapping[str, str]) -> None:
    """Take out nodes that only copy, in subgraphs too, but where an output needs one: each must be a node's, and once.

    `outer` says for copies around the graph what they are of.
    """
    copies = {node.output[0]: node.input[0] for node in graph.node if _is_copy(node)} | dict(outer)
    for node in graph.node:
        node.input[:] = [_original(name, copies) for name in node.input]
        for attribute in node.attribute:
            for inner in graphs_of(attribute):
                _copy_where_needed(inner, copies)
    made = {name for node in graph.node if not _is_copy(node) for name in node.output}
    for number, value in enumerate(graph.output):
        value.name = _original(value.name, copies)
        if value.name not in made:
            own = f"{value.name} for output {number}"
            graph.node.add(op_type="Identity", input=[value.name], output=[own])
            value.name = own
        made.discard(value.name)


def _is_copy(node: NodeProto) -> bool:
    return bool(node.op_type == "Identity" and is_standard(node.domain))


def _original(name: str, copies: Mapping[str, str]) -> str:
    while name in copies:
        name = copies[name]
    return name


def _order(graph: GraphProto) -> None:
    """Sort a graph's nodes, and those of its subgraphs, by how its outputs need them; drop the others."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in graphs_of(attribute):
                _order(inner)
    maker = {name: node for node in graph.node for name in node.output if name}
    place: dict[str, int] = {}  # by the first output: a node has no other identity
    stack = [iter([value.name for value in graph.output])]
    opened: dict[str, None] = {}
    while stack:
        name = next(stack[-1], None)
        if name is None:
            stack.pop()
            if opened and len(opened) == len(stack):
                place[opened.popitem()[0]] = len(place)
            continue
        node = maker.get(name)
        if node is not None and (key := _key(node)) not in place and key not in opened:
            opened[key] = None
            stack.append(iter([*_taken(node)]))
    graph.node.sort(key=lambda node: place.get(_key(node), len(place)))
    del graph.node[len(place) :]


def _key(node: NodeProto) -> str:
    return next((name for name in node.output if name), "")


def _taken(node: NodeProto) -> Iterator[str]:
    """The values that a node needs, those that its subgraphs take from around them included."""
    yield from node.input
    for attribute in sorted(node.attribute, key=lambda one: one.name):
        for inner in graphs_of(attribute):
            yield from _captured(inner)


def _captured(graph: GraphProto) -> Iterator[str]:
    """The values that a graph takes from around it, in the order in which its nodes do."""
    own = {value.name for value in (*graph.input, *map(_tensor, (*graph.initializer, *graph.sparse_initializer)))}
    own |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        yield from (name for name in _taken(node) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)
