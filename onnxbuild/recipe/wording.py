"""Sentences that the recipe's checks share. Knows no schema, no YAML and no files."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

from onnxbuild.recipe.positions import Finding, Path

_MANY = 14  # more names than this are no help in a hint
_LONG = 100  # characters; a longer name is no slip of the pen, and comparing it takes a while


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant, "" where nothing is near."""
    import difflib

    if len(name) > _LONG:
        return ""
    by_fold = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    return f"did you mean '{by_fold[near[0]]}'?" if near else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: what was probably meant, else all that are known where they are few."""
    names = list(known)
    few = f"known here: {', '.join(names)}" if 0 < len(names) <= _MANY else ""
    return nearest(name, names) or few


def found(value: Any) -> str:
    """A value in words, cut short."""
    if isinstance(value, str):
        return f"the string {value if len(value) <= 60 else value[:60] + '…'!r}"
    if isinstance(value, bool):
        return str(value).lower()
    names = {type(None): "nothing", dict: "a mapping", list: "a list"}
    return names.get(type(value)) or f"the {'integer' if isinstance(value, int) else 'number'} {value}"


def exactly_one(path: Path, given: list[str], known: list[str]) -> Finding:
    """A mapping that must have exactly one key has none, or more."""
    fact = f"exactly one key is expected here, found {' and '.join(given) if given else 'none'}"
    return Finding(path, fact, f"keep one of {', '.join(given or known)}")


def is_many(names: Sized) -> bool:
    """Whether a list of names is too long to be read in a message."""
    return len(names) > _MANY
