"""The nodes of a graph with where each of them comes from, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.graphs import lines, tensors
from onnxbuild.text import table as columns
from onnxbuild.text import units

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from onnxbuild.graphs.lines import Lines

NOWHERE = "-"


def table(title: str, model: ModelProto, known: Lines, width: int) -> Iterator[str]:
    """A line or more for each node: its operator, its lines of Python, the values that it makes, its scope."""
    nodes = [*_nodes(model)]
    by = f", exported by {known.exporter}" if known.exporter not in ("", "none") else ""
    yield from units.wrapped("", units.line(f"{title}: {units.plural(len(nodes), 'node')}{by}"))
    yield from columns.rows([_row(node, known) for node in nodes], width)
    lost = sum(not _places(node, known) for node in nodes)
    if lost == len(nodes):
        yield from units.wrapped("", f"No line is known of any node: {_why(known)}.")
    elif lost:
        yield from units.wrapped("", f"No line is known of {lost:,} of {units.plural(len(nodes), 'node')}.")


def as_json(title: str, model: ModelProto, known: Lines) -> str:
    """The same as an object."""
    nodes = []
    for node in _nodes(model):
        best, every = known.best(node), known.of(node)
        nodes.append(
            {
                "op": lines.op(node),
                "name": node.name,
                "outputs": [name for name in node.output if name],
                "scope": best.scope if best else "",
                "line": best.place if best else "",
                "merged": [_plain(one) for one in every] if every[1:] else [],
            }
        )
    return json.dumps({"version": 1, "graph": title, "exporter": known.exporter, "nodes": nodes}, indent=2)


def _plain(one: lines.Noted) -> dict[str, object]:
    return {name: getattr(one, name) for name in msgspec.structs.asdict(one)}


def _row(node: NodeProto, known: Lines) -> tuple[str, str, str]:
    best = known.best(node)
    made = ", ".join(name for name in node.output if name)
    scope = f" in {best.scope}" if best and best.scope else ""
    more = [f"also {place}" for place in _places(node, known)[1:]]
    said = "\n".join([f"{made}{scope}", *more])
    return units.line(lines.op(node)), units.line(next(iter(_places(node, known)), NOWHERE)), units.plain(said)


def _places(node: NodeProto, known: Lines) -> list[str]:
    """The lines that a node comes from, that of the one that does what it does first."""
    best = known.best(node)
    every = [*([best] if best else []), *known.of(node)]
    return list(dict.fromkeys(one.place for one in every if one.place))


def _why(known: Lines) -> str:
    if known.exporter in ("dynamo", "torchscript"):
        return "none was exported from a line of the project or of an installed package's model"
    return f"{known.exporter} tells none" if known.exporter not in ("", "none") else "the file tells none"


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for body in tensors.bodies(model):
        yield from body.node
