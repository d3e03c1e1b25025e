"""The orders of names that reach a model's code: canonical JSON sorts mappings, so a key has to hold them apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from onnxbuild.contracts import Json

Path: TypeAlias = "tuple[str | int, ...]"


def orders(path: Path, value: Json) -> dict[str, list[str]]:
    """The order of the names in every mapping of a value, by its path as JSON: canonical JSON sorts them.

    It belongs into the options of a stage where that order reaches code. What has one name or none is left out.
    """
    found: dict[str, list[str]] = {}
    if isinstance(value, Mapping):
        if len(value) > 1:
            found[msgspec.json.encode(path).decode()] = [*map(str, value)]
        for name, inner in value.items():
            found |= orders((*path, name), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            found |= orders((*path, index), inner)
    return found


def path_of(order: str) -> Path:
    """The path of a mapping by its name among `orders`."""
    path: Path = tuple(msgspec.json.decode(order))
    return path
