"""Where in a model a node is: the module that it comes from, as far as its notes, its name or its weights tell."""

from __future__ import annotations

import ast
from collections import deque
from typing import TYPE_CHECKING

from onnxbuild.graphs.comparison import bodies
from onnxbuild.graphs.comparison.bodies import Body
from onnxbuild.report.changes import Node

if TYPE_CHECKING:
    from onnx import NodeProto

SCOPES = "pkg.torch.onnx.name_scopes"  # the dynamo exporter's note: a list of names, the node's own last


def node(body: Body, index: int) -> Node:
    """A node with its place."""
    one = body.nodes[index]
    scope = _scope(body, one)
    return Node(bodies.op(one), called(one), scope, "" if scope else _near(body, index), body.place)


def source(body: Body, name: str) -> str:
    """A value by what it comes from."""
    if name in body.maker:
        index, slot = body.maker[name]
        one = body.nodes[index]
        return f"{bodies.op(one)} '{called(one)}'" + (f", output {slot}" if slot else "")
    return f"{'tensor' if name in body.weights else 'value'} '{name}'"


def called(one: NodeProto) -> str:
    """A node's name, or what it goes by where it has none: the first value that it gives."""
    return str(one.name or next(filter(None, one.output), ""))


def _scope(body: Body, one: NodeProto) -> str:
    """The dotted or slashed name of the module that a node comes from, "" where nothing tells."""
    for entry in one.metadata_props:
        if entry.key == SCOPES and (scope := _noted(entry.value)):
            return scope
    if "/" in one.name.strip("/"):
        return str(one.name.strip("/").rpartition("/")[0])
    dotted = (name.rpartition(".")[0] for name in one.input if name in body.weights and "::" not in name)
    return next(filter(None, dotted), "")


def _noted(value: str) -> str:
    try:
        names = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    inner = [name for name in names[:-1] if isinstance(name, str) and name] if isinstance(names, list) else []
    return inner[-1] if inner else ""


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
