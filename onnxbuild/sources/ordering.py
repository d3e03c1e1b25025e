"""Names that a recipe gives to what a model takes or returns: by the model's own names, else in order, and never astray.

Pure, and light to import: `difflib` and tuples of names. Knows no framework and no tensors.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import TypeVar

from onnxbuild.errors import StageError

Leaf = TypeVar("Leaf")
_NEAR = 0.8  # of difflib's ratio: a name so near to another one is a slip


def chosen(
    names: Sequence[str],
    leaves: Sequence[tuple[str, Leaf]],
    returned: Callable[[], str],
    note: Callable[[str], None] | None = None,
) -> list[Leaf]:
    """What the names stand for, of what a model returned: by name where all are there, else in order.

    `leaves` are what it returned, each with its dotted path; `returned` says in words what that is. In order only where
    no name says otherwise; `note` is told where the model has other names for them. Raises StageError.
    """
    by_name = dict(leaves)
    if all(name in by_name for name in names):
        return [by_name[name] for name in names]
    paths = [path for path, _ in leaves]
    _require_output_order(names, paths, returned)
    if note is not None and (found := pairs(names, paths)):
        note(f"the model names its outputs otherwise: in order, {found}")
    return [leaf for _, leaf in leaves]


def _require_output_order(names: Sequence[str], paths: Sequence[str], returned: Callable[[], str]) -> None:
    """Raises StageError unless the names can stand for what was returned, in order."""
    if wrong := output_slip(tuple(names), tuple(paths)):
        raise StageError(f"the model returns no {wrong[0]}; it returns {returned()}", wrong[1])
    if len(paths) != len(names):
        raise StageError(
            f"the recipe declares {count(len(names), 'output')} ({', '.join(names)}), the model returns {returned()}",
            "name outputs as the model does (dotted where they nest), or declare as many as it returns, in order",
        )


def output_slip(names: tuple[str, ...], paths: tuple[str, ...]) -> tuple[str, str] | None:
    """The names that would stand for another output than they say, and a hint; None where there are none.

    TorchDynamo can't trace difflib: who traces this marks the function for it.
    """
    found = astray(names, paths, paths, unnamed(paths))
    unknown = [name for name in found if name not in paths] or found
    hint = meant(unknown, paths) or "names are taken in order only where none is named so by the model"
    return (", ".join(unknown), hint) if found else None


def pairs(names: Sequence[str], paths: Sequence[str]) -> str:
    """Which name stands for which value, "" where the model gives them no names of its own, or there is only one."""
    if len(paths) < 2 or set(paths) <= unnamed(paths):
        return ""
    return ", ".join(f"{name} is {path}" for name, path in zip(names, paths, strict=True))


def unnamed(paths: Sequence[str]) -> set[str]:
    """The paths whose last part is a place in a tuple or a list: they take any name."""
    return {path for path in paths if not path or path.rpartition(".")[2].isdecimal()}


def astray(names: Sequence[str], places: Sequence[str], known: Sequence[str], any_name: set[str]) -> list[str]:
    """The names that, taken in order, would stand for something else than they say; places of `any_name` take any.

    Where one is known, all must be: at their own places, or at places without a name. Otherwise a slip in one name would
    hand a tensor to whatever comes next, and the reference would be wrong in the same way.
    """
    some = any(name in known for name in names)
    wrong = []
    for name, place in zip(names, chain(places, repeat("")), strict=False):
        if name in known and name == place:
            continue
        if name in known or (some and place not in any_name) or _nearer(name, place, known):
            wrong.append(name)
    return wrong


def _nearer(name: str, place: str, known: Sequence[str]) -> bool:
    """Whether a name is nearly another one than that of its place."""
    near = difflib.get_close_matches(name, known, 1, _NEAR)
    return bool(near) and _likeness(name, near[0]) > _likeness(name, place)


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, name).ratio()  # in difflib's own order: the ratio isn't symmetric


def meant(names: Sequence[str], known: Sequence[str]) -> str:
    """The known names that unknown ones are nearly, as a question; "" where there are none."""
    near = [close[0] for name in names if (close := difflib.get_close_matches(name, known, 1))]
    return f"did you mean {', '.join(near)}?" if near else ""


def count(number: int, noun: str) -> str:
    """A number of things: "1 output", "2 outputs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
