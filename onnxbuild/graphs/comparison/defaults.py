"""Attributes that a node leaves out, filled in with what its operator says that they are then.

So that a node that spells out a default is no other node, and one whose default is another in a later opset is.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from onnxbuild.graphs import tensors

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto


def fill(model: ModelProto) -> None:
    """Give every node of a model, in place, the attributes that it has by default. Unknown operators stay as they are."""
    main = {entry.domain: entry.version for entry in model.opset_import}
    for body in tensors.bodies(model):
        versions = main | {entry.domain: entry.version for entry in getattr(body, "opset_import", ())}
        for node in body.node:
            domain = "" if tensors.is_standard(node.domain) else node.domain
            version = versions.get(domain, versions.get("ai.onnx", 0) if not domain else 0)
            if defaults := _defaults(node.op_type, version, domain):
                given = {attribute.name for attribute in node.attribute}
                node.attribute.extend(value for name, value in defaults if name not in given)


@cache
def _defaults(op: str, version: int, domain: str) -> list[tuple[str, AttributeProto]]:
    from onnx import defs

    try:
        schema = defs.get_schema(op, version, domain)
    except (defs.SchemaError, TypeError, OverflowError):  # of no domain that onnx knows, or of no version that there is
        return []
    values = {name: attribute.default_value for name, attribute in sorted(schema.attributes.items())}
    for name, value in values.items():
        value.name = name
    return [(name, value) for name, value in values.items() if value.type != value.UNDEFINED]
