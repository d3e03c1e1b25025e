"""What must hold between the custom operators of a recipe. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import UNSET

from onnxbuild.recipe.findings import Finding, Path
from onnxbuild.recipe.types import Node, Symbolic

_STANDARD_DOMAINS = ("ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training")


def check(symbolics: Mapping[str, Symbolic]) -> Iterator[Finding]:
    """Domains and their versions, and operators that are described twice."""
    versions: dict[str, tuple[str, int]] = {}
    kinds: dict[tuple[str, str], tuple[str, Node]] = {}
    for name, symbolic in symbolics.items():
        node = symbolic.node
        if node is UNSET:
            continue
        path = ("symbolics", name, "node")
        yield from _node(path, node)
        other, version = versions.setdefault(node.domain, (name, node.version))
        if version != node.version:
            fact = f"the domain '{node.domain}' has version {node.version} here and {version} in '{other}'"
            yield Finding((*path, "version"), fact, "a graph uses one version of a domain")
        other, first = kinds.setdefault((node.domain, node.op_type), (name, node))
        if first != node and version == node.version:
            fact = f"{node.domain}::{node.op_type} is described otherwise in '{other}'"
            yield Finding((*path, "op_type"), fact, "give the two operators names of their own")


def _node(path: Path, node: Node) -> Iterator[Finding]:
    if node.domain in _STANDARD_DOMAINS:
        hint = "choose a domain of your own, or use 'decompose' for standard operators"
        yield Finding((*path, "domain"), f"'{node.domain}' is ONNX's own domain", hint)
    for role, names in (("inputs", node.inputs), ("outputs", node.outputs)):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Finding((*path, role, index), f"'{name}' is named twice", "give each one a name of its own")
    for name, attribute in node.attributes.items():
        if (attribute.argument or name) in node.inputs:
            fact = f"the argument '{attribute.argument or name}' is an input, too"
            yield Finding((*path, "attributes", name), fact, "an argument is a tensor or an attribute", key=True)
