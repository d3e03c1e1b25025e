"""The attributes of two nodes of one operator that are not the same, in words. Subgraphs are compared elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import tensors
from onnxbuild.graphs.comparison import bodies, weights
from onnxbuild.graphs.comparison.weights import Held
from onnxbuild.report import changes_view
from onnxbuild.report.changes import Fact
from onnxbuild.text import units

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto

SHOWN = 72  # characters of one value


def facts(one: NodeProto, other: NodeProto, folders: tuple[Path, Path]) -> Iterator[Fact]:
    """A fact for each attribute that was added, removed or changed."""
    sides = [{str(attribute.name): attribute for attribute in node.attribute} for node in (one, other)]
    for name in sorted({*sides[0], *sides[1]}):
        old, new = (side.get(name) for side in sides)
        if old is None or new is None:
            yield Fact(name, None if old is None else _say(old), None if new is None else _say(new))
        elif old.type == new.type == old.TENSOR:
            yield from _tensor(name, (Held(old.t, folders[0]), Held(new.t, folders[1])))
        elif bool(tensors.graphs_of(old)) == bool(tensors.graphs_of(new)):
            if not tensors.graphs_of(old) and _bytes(old) != _bytes(new):
                yield Fact(name, _say(old), _say(new))
        else:
            yield Fact(name, _say(old), _say(new))


def _tensor(name: str, both: tuple[Held, Held]) -> Iterator[Fact]:
    if weights.is_same(*both):
        return
    change = weights.changed(name, *both)
    if max(tensors.elements(held.tensor) for held in both) <= weights.SHOWN or change.changed is None:
        yield Fact(name, change.before, change.after)
    else:
        yield Fact(name, weights.kind(both[0].tensor), f"{weights.kind(both[1].tensor)}, {changes_view.size(change)}")


def _bytes(one: AttributeProto) -> object:
    return bodies.label(_alone(one), exact=True)


def _alone(one: AttributeProto) -> NodeProto:
    """A node that has this attribute only."""
    from onnx import NodeProto

    return NodeProto(attribute=[one])


def _say(one: AttributeProto) -> str:
    """An attribute's value on one line."""
    from onnx import helper

    if one.ref_attr_name:
        return f"@{one.ref_attr_name}"
    if one.type == one.TENSOR:
        return weights.kind(one.t)
    if graphs := tensors.graphs_of(one):
        return f"a graph of {units.plural(len(graphs[0].node), 'node')}"
    value: Any = helper.get_attribute_value(one)
    if isinstance(value, (bytes, float, int)):
        return _scalar(value)
    if one.type in (one.FLOATS, one.INTS, one.STRINGS):
        return units.clip(f"[{', '.join(map(_scalar, value))}]", SHOWN)
    return units.clip(units.line(str(value)), SHOWN)


def _scalar(value: bytes | float) -> str:
    if isinstance(value, bytes):
        return f'"{value.decode(errors="backslashreplace")}"'
    return f"{value:.9g}" if isinstance(value, float) else str(value)
