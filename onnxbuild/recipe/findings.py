"""What is wrong with a part of a recipe, and the words that several rules share. Knows neither YAML nor files."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"


class Finding(NamedTuple):
    """What is wrong with one part of the data. `key` blames the key itself, not what it holds; `rivals` are keys of it of
    which one alone may be there.
    """

    path: Path
    fact: str
    hint: str = ""
    key: bool = False
    rivals: tuple[str, ...] = ()


def dotted(path: Path) -> str:
    """("optimize", 0, "onnxsim") as a reader writes it: optimize[0].onnxsim."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


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
    return Finding(path, fact, f"keep one of {', '.join(given or known)}", rivals=tuple(given))
