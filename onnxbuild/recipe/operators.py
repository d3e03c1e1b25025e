"""The shape of a recipe's `symbolics`: what custom operators become."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.recipe.forms import Identifier, Positive
from onnxbuild.sources.installed import Importable


class Attribute(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["float", "int", "string", "floats", "ints", "strings"]
    argument: Annotated[
        str, Meta(description="The torch operator's argument that holds it; its own name if left out.")
    ] = ""


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """A node in a custom domain, with its schema."""

    domain: Annotated[str, Meta(min_length=1)]
    op_type: Identifier
    inputs: Annotated[list[Identifier], Meta(min_length=1, description="Names of the tensor arguments, in order.")]
    outputs: Annotated[list[Identifier], Meta(min_length=1)]
    version: Positive = 1
    attributes: dict[Identifier, Attribute] = {}


class Symbolic(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a custom torch operator becomes; exactly one key."""

    decompose: (
        Annotated[
            Importable, Meta(description="module:function that builds it from standard operators: f(op, *arguments).")
        ]
        | UnsetType
    ) = UNSET
    node: Node | UnsetType = UNSET
