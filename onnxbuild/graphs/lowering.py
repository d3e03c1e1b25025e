"""A graph in an older opset, where ONNX's converter has no step down for an operator that needs none.

It lacks one for nearly everything that an opset only gave more element types, such as Relu and Add before 14. Such a node
means the same in both, and is kept from the converter on the way; whether its types fit is for the checker to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from onnxbuild.graphs import tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Attributes that came later, and the value by which a node does what it did before; None where none does.
ADDED: dict[str, dict[str, object]] = {
    "Reshape": {"allowzero": 0},
    "Shape": {"start": 0, "end": None},
    "BatchNormalization": {"training_mode": 0},
    "Constant": dict.fromkeys(
        ("value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings", "sparse_value")
    ),
}
_ASIDE = "onnxbuild.aside"


def set_aside(model: ModelProto, changed: Collection[str], wider: Collection[str]) -> list[NodeProto]:
    """Give nodes of the operators that only got `wider`, and those with later attributes as they were before, a domain that
    the converter does not know, in place, and return the other ones of a `changed` operator.

    A node with subgraphs stays where any other is in them, since the converter would not look into it.
    """

    def is_changed(node: NodeProto) -> bool:
        return tensors.is_standard(node.domain) and node.op_type in changed

    def is_same(node: NodeProto) -> bool:
        return not is_changed(node) or node.op_type in wider or _is_as_before(node)

    every = [node for graph in tensors.graphs(model) for node in graph.node if is_changed(node)]
    aside = [is_same(node) and all(map(is_same, _inside(node))) for node in every]
    for node, same in zip(every, aside, strict=True):
        if same:
            node.domain = _ASIDE
    model.opset_import.add(domain=_ASIDE, version=1)
    return [node for node, same in zip(every, aside, strict=True) if not same]


def bring_back(model: ModelProto) -> None:
    """Undo that, in place."""
    for graph in tensors.graphs(model):
        for node in graph.node:
            if node.domain == _ASIDE:
                node.domain = ""
    kept = [entry for entry in model.opset_import if entry.domain != _ASIDE]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _inside(node: NodeProto) -> Iterator[NodeProto]:
    """The nodes of a node's subgraphs, and of those within them."""
    for attribute in node.attribute:
        for graph in tensors.graphs_of(attribute):
            for inner in graph.node:
                yield inner
                yield from _inside(inner)


def _is_as_before(node: NodeProto) -> bool:
    """Whether a node has none of the attributes that came later, or has them at their default; then it loses them."""
    import onnx

    added = ADDED.get(node.op_type)
    if added is None:
        return False
    own = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if any(name in own and own[name] != value for name, value in added.items()):
        return False
    left = [one for one in node.attribute if one.name not in added]
    del node.attribute[:]
    node.attribute.extend(left)
    return True
