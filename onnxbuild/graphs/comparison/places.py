"""Where in a model a node is: the module and the line it comes from, as far as a line map, its notes, its name or its
weights tell.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from onnxbuild.graphs import lines
from onnxbuild.graphs.comparison.bodies import Body
from onnxbuild.report.changes import Node

if TYPE_CHECKING:
    from onnx import NodeProto

    from onnxbuild.graphs.lines import Lines


def node(body: Body, index: int, traced: Lines | None = None) -> Node:
    """A node with its place; `traced` tells where it was exported from."""
    one = body.nodes[index]
    known = traced.best(one) if traced else None
    scope = (known.scope if known else "") or _scope(body, one)
    near = "" if scope or known else _near(body, index)
    return Node(lines.op(one), called(one), scope, near, body.place, known.place if known else "")


def source(body: Body, name: str) -> str:
    """A value by what it comes from."""
    if name in body.maker:
        index, slot = body.maker[name]
        one = body.nodes[index]
        return f"{lines.op(one)} '{called(one)}'" + (f", output {slot}" if slot else "")
    return f"{'tensor' if name in body.weights else 'value'} '{name}'"


def called(one: NodeProto) -> str:
    """A node's name, or what it goes by where it has none: the first value that it gives."""
    return str(one.name or next(filter(None, one.output), ""))


def _scope(body: Body, one: NodeProto) -> str:
    """The dotted or slashed name of the module that a node comes from, "" where nothing tells."""
    if scope := lines.scope(one):
        return scope
    dotted = (name.rpartition(".")[0] for name in one.input if name in body.weights and "::" not in name)
    return next(filter(None, dotted), "")


def _near(body: Body, index: int) -> str:
    """The scope of the nearest node before this one that has one."""
    seen, left = {index}, deque([index])
    while left:
        for name in body.nodes[left.popleft()].input:
            made = body.maker.get(name)
            if made is None or made[0] in seen:
                continue
            seen.add(made[0])
            if scope := _scope(body, body.nodes[made[0]]):
                return scope
            left.append(made[0])
    return ""
