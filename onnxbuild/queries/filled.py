"""What a recipe leaves out: what its model told, and the defaults, in rows. Pure but for where installed packages are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Json
from onnxbuild.queries.reasons import dotted
from onnxbuild.recipe.types import chosen
from onnxbuild.sources import SOURCES
from onnxbuild.text import table

DEFAULT = "default"


class FilledIn(Struct, frozen=True):
    """A field of the recipe that is not written in it, its value, and the file or factory that told it, or "default"."""

    field: str
    value: Json
    origin: str


def of(loaded: recipes.Loaded) -> list[FilledIn]:
    """Every field that is left out, those of several inputs or outputs one by one."""
    name = origin(loaded)
    return [
        FilledIn(dotted(path), value, DEFAULT if one.default else name)
        for one in loaded.filled
        for path, value in _apart(one.path, one.value)
    ]


def origin(loaded: recipes.Loaded) -> str:
    """The file, as its name, or the factory that a recipe's model comes from."""
    kind, options = chosen(loaded.recipe.model)
    files = SOURCES[kind].files(options)
    return getattr(options, "factory", "") or next((PurePath(path).name for path in files.values()), kind)


def is_filled(loaded: recipes.Loaded, field: tuple[str | int, ...]) -> bool:
    """Whether a field, or what it is part of, was told by the model."""
    return any(field[: len(one.path)] == one.path and not one.default for one in loaded.filled)


def text(value: Json) -> str:
    """A value as a recipe would have it, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {text(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def lines(loaded: recipes.Loaded, width: int) -> Iterator[str]:
    """What the recipe leaves out, for reading; nothing where it says all itself."""
    for name, how in ((origin(loaded), f"told by {origin(loaded)}"), (DEFAULT, "taken by default")):
        if rows := [(one.field, text(one.value)) for one in of(loaded) if one.origin == name]:
            yield f"left out of the recipe, and {how}:"
            yield from table.rows(rows, width)


def _apart(path: tuple[str | int, ...], value: Json) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    if isinstance(value, dict) and len(path) < 3:  # export, its key, and the name of an input
        for key, inner in value.items():
            yield from _apart((*path, key), inner)
    else:
        yield path, value
