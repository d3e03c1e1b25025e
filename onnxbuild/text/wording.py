"""Suggestions for names that are not known, as every message words them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Sized

_PLAIN = re.compile(
    r"(?!(?i:true|false|null|yes|no|on|off)$)[^\W\d][\w/.-]*|/[\w/.-]+"
)  # text to YAML, wherever it stands
_MANY = 14  # more names than this are no help in a hint
_NEAR = 0.6  # as difflib has it: twice what two names share over the length of both
_LONG = 100  # characters; a longer name is no slip of the pen, and comparing it takes a while


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant, "" where nothing is near."""
    import difflib

    if len(name) > _LONG:
        return ""
    by_fold = {other.casefold(): other for other in known}
    wanted = name.casefold()
    for near in difflib.get_close_matches(wanted, by_fold):
        one, other = _own(wanted, near)
        if difflib.SequenceMatcher(None, one, other).ratio() >= _NEAR:
            return f"did you mean '{by_fold[near]}'?"
    return ""


def _own(one: str, other: str) -> tuple[str, str]:
    """Two names without what they have in common by custom: the dashes of options, the endings of files."""
    one, other = one.lstrip("-"), other.lstrip("-")
    (stem, _, ending), (other_stem, _, other_ending) = one.rpartition("."), other.rpartition(".")
    return (stem, other_stem) if stem and ending == other_ending else (one, other)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: what was probably meant, else all that are known where they are few."""
    names = list(known)
    few = f"known here: {', '.join(names)}" if 0 < len(names) <= _MANY else ""
    return nearest(name, names) or few


def ended(status: str) -> str:
    """How a build ended, in a sentence of which it is the subject: a report's status but for "done"."""
    return {"interrupted": "was interrupted"}.get(status, status)


def is_many(names: Sized) -> bool:
    """Whether a list of names is too long to be read in a message."""
    return len(names) > _MANY


def flow(names: Iterable[str]) -> str:
    """A list of names as YAML has it on one line; what YAML would take for something else is in quotes, each name once."""
    import json

    plain = (name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in dict.fromkeys(names))
    return f"[{', '.join(plain)}]"


def some(names: Sequence[str], shown: int = 4, between: str = ", ") -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return between.join(names[:shown]) + more
