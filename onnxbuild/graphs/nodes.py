"""Nodes by the names that a recipe gives them, and their order.

A node is named by its own name or by a value that it makes: exporters name values after the model's code, and many files
have nodes without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from onnxbuild.errors import RefusalError
from onnxbuild.graphs import tensors
from onnxbuild.text.wording import nearest, some

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

UNKNOWN = "a node is named by its name or by a value that it makes; onnxbuild view shows them"


def ensure_names(model: ModelProto) -> set[str]:
    """Give every node a name that no other has, in place, and return the names that are new.

    A node without a name gets that of the first value that it makes; one of several of the same name too.
    """
    given: set[str] = set()
    every = [node for graph in tensors.graphs(model) for node in graph.node]
    known = {node.name for node in every}
    seen: set[str] = set()
    for node in every:
        if not node.name or node.name in seen:
            wanted = next((name for name in node.output if name), node.op_type)
            name, number = wanted, 0
            while name in seen or (name in known and name != node.name):
                number += 1
                name = f"{wanted}_{number}"
            node.name = name
            given.add(name)
        seen.add(node.name)
    return given


def forget_names(model: ModelProto, given: set[str]) -> None:
    """Take those names away again, in place."""
    for graph in tensors.graphs(model):
        for node in graph.node:
            if node.name in given:
                node.ClearField("name")


def require(model: ModelProto, lists: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The names of the nodes that a pass's options list, by option; every node has a name, see `ensure_names`.

    Raises RefusalError where the graph has no such node.
    """
    every = [node for graph in tensors.graphs(model) for node in graph.node]
    by_name = {name: node.name for node in every for name in node.output if name}
    by_name |= {node.name: node.name for node in every}
    for option, names in lists.items():
        missing = [name for name in names if name not in by_name]
        if missing:
            quoted = some([f"'{name}'" for name in missing])
            raise RefusalError(f"{option}: the graph has no node {quoted}", nearest(missing[0], by_name) or UNKNOWN)
    return {option: list(dict.fromkeys(by_name[name] for name in names)) for option, names in lists.items()}


def absent(model: ModelProto, option: str, operators: Iterable[str]) -> list[str]:
    """A note on operators that an option lists and the graph has none of; nothing where it has all."""
    there = {node.op_type for body in tensors.bodies(model) for node in body.node}
    missing = [name for name in operators if name not in there]
    return [f"{option}: the graph has no {some(missing)}"] if missing else []


def sort(graph: GraphProto) -> None:
    """Put nodes after those whose values they take, in place, in subgraphs too; they stay in order otherwise."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in tensors.graphs_of(attribute):
                sort(inner)
    maker = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = [sorted({maker[name] for name in taken(node) if name in maker}) for node in graph.node]
    order: dict[int, None] = {}
    for first in range(len(needs)):
        stack, waiting = [first], {first}
        while stack:
            before = next((one for one in needs[stack[-1]] if one not in order and one not in waiting), None)
            if before is None:
                waiting.discard(stack[-1])
                order.setdefault(stack.pop())
            else:
                stack.append(before)
                waiting.add(before)
    if [*order] != [*range(len(needs))]:
        place = {tuple(graph.node[number].output): at for at, number in enumerate(order)}
        graph.node.sort(key=lambda node: place[tuple(node.output)])


def taken(node: NodeProto) -> Iterator[str]:
    """The values that a node needs, those that its subgraphs take from around them included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in tensors.graphs_of(attribute):
            own = {value.name for value in (*inner.input, *inner.initializer)}
            own |= {name for other in inner.node for name in other.output}
            yield from (name for other in inner.node for name in taken(other) if name not in own)
            yield from (value.name for value in inner.output if value.name not in own)


def prune_imports(model: ModelProto, before: Iterable[str]) -> None:
    """Take out the operator sets that a library added, in place: no node uses them, and they were not there `before`."""
    used = {*before} | {node.domain for body in tensors.bodies(model) for node in body.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    model.ClearField("opset_import")
    model.opset_import.extend(kept)
