"""A whole recipe as YAML, bases merged and what its model told filled in, each line with where it comes from. Pure.

A part that stands on one line of one file stays on one line; all else gets a line each, so that every line has one origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from onnxbuild.recipe import yaml_reader
from onnxbuild.recipe.findings import Path
from onnxbuild.recipe.types import Recipe
from onnxbuild.recipe.yaml_reader import Document, Node
from onnxbuild.text import units

WIDTH = 80
_FIRST = ("version", "name", "description")  # as recipes usually begin
_SECTIONS = (*_FIRST, *(name for name in Recipe.__struct_fields__ if name not in _FIRST))
_LEAST = 40  # columns that a line may have, however long the names of files are
_APART = 3  # levels of what a model told that get lines of their own: export, its key, and the name of an input


class Line(NamedTuple):
    """A line of YAML, and where it comes from: a file with a line, "" for none."""

    text: str
    origin: str = ""


def lines(data: Any, document: Document, path: str, told_by: str, defaults: Collection[Path] = ()) -> list[Line]:
    """The recipe, line by line. `data` is all of it, `document` that which was written, `path` its file; `told_by` is who
    told what is in no file, `defaults` being the parts of that which nobody did.
    """
    longest = max(len(_origin(node, path)) for node in _nodes(document.root))
    writer = _Writer(path, told_by, max(_LEAST, WIDTH - longest - len("  # ")), by_origin=True, defaults=defaults)
    return writer.block(_in_order(data), document.root)


def annotated(these: Iterable[Line]) -> Iterator[str]:
    """The lines with their origins behind them as comments, below each other as far as the lines are short enough."""
    these = list(these)
    longest = max((len(line.origin) for line in these), default=0)
    column = max((len(line.text) for line in these if len(line.text) + longest + len("  # ") <= WIDTH), default=0)
    for text, origin in these:
        shown = " ".join(units.plain(origin).split())  # a file's name may hold anything
        yield f"{text.ljust(column)}  # {shown}" if shown else text


def text(document: Document) -> str:
    """What a document says, laid out alike whatever the files are that it comes from."""
    if not isinstance(document.data, dict):
        return ""
    made = _Writer("", "", WIDTH, by_origin=False).block(_in_order(document.data), document.root)
    return "".join(f"{line.text}\n" for line in made)


def _in_order(data: dict[str, Any]) -> dict[str, Any]:
    order = {name: at for at, name in enumerate(_SECTIONS)}
    return {key: data[key] for key in sorted(data, key=lambda key: order.get(key, len(order)))}


class _Writer:
    """Lays out what lies in a recipe: on one line what stands on one, or else what holds no list and no mapping."""

    def __init__(
        self, path: str, told_by: str, width: int, *, by_origin: bool, defaults: Collection[Path] = ()
    ) -> None:
        self._path, self._told_by, self._width, self._by_origin = path, told_by, width, by_origin
        self._defaults = defaults

    def block(self, value: Any, node: Node | None, keys: Path = ()) -> list[Line]:
        """A mapping or a list that is not empty; `keys` lead there."""
        level = len(keys)
        found: list[Line] = []
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            below = node.items.get(step) if node is not None else None
            place = node.keys.get(step) if node is not None and below is not None else None
            at = self._place(below, place[0] if place else None, (*keys, step))
            head = f"{_key(step)}:" if isinstance(step, str) else "-"
            flow = _flow(inner, below)
            if self._fits(inner, below, level, place[0] if place else None, f"{head} {flow}"):
                found.append(Line(f"{head} {flow}", at))
                continue
            under = self.block(inner, below, (*keys, step))
            if isinstance(step, str):
                found += [Line(head, at), *(Line(f"  {line.text}", line.origin) for line in under)]
            else:
                found.append(Line(f"- {under[0].text}", under[0].origin))
                found += [Line(f"  {line.text}", line.origin) for line in under[1:]]
        return found

    def _place(self, node: Node | None, line: int | None, keys: Path) -> str:
        if node is None and keys in self._defaults:
            return "the default"
        if node is None:
            return f"told by {self._told_by}" if self._told_by else ""
        return _origin(node, self._path, line)

    def _fits(self, value: Any, node: Node | None, level: int, line: int | None, text: str) -> bool:
        """Whether a value is to be on one line, with its key where that has a line."""
        if not isinstance(value, (dict, list)) or not value:
            return True
        if not self._by_origin:
            inner = value.values() if isinstance(value, dict) else value
            return len(text) + 2 * level <= self._width and not any(
                isinstance(one, (dict, list)) and one for one in inner
            )
        if node is None:
            return not isinstance(value, dict) or level >= _APART - 1
        places = {(one.file, one.line) for one in _nodes(node)} | {(node.file, line or node.line)}
        whole = _is_all(value, node)
        inline = isinstance(value, dict) and len(value) == 1 and line is None  # an entry of a list, as `- onnxsim: {}`
        return whole and len(places) == 1 and not inline and len(text) + 2 * level <= self._width


def _is_all(value: Any, node: Node) -> bool:
    """Whether all of a value is written, and nothing told."""
    if not isinstance(value, (dict, list)):
        return True
    steps = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    return all(step in node.items and _is_all(inner, node.items[step]) for step, inner in steps)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for inner in node.items.values():
        yield from _nodes(inner)


def _origin(node: Node, path: str, line: int | None = None) -> str:
    file = node.file or path
    return f"{file}:{line or node.line}" if file else ""


def _flow(value: Any, node: Node | None) -> str:
    """A value on one line."""
    items = node.items if node is not None else {}
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)}: {_flow(inner, items.get(key))}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(_flow(inner, items.get(index)) for index, inner in enumerate(value))}]"
    if isinstance(value, str):
        return _text(value)
    return (node.raw if node is not None else "") or msgspec.json.encode(value).decode()


def _key(text: str) -> str:
    """A mapping's key as YAML: always text, whatever it looks like."""
    plain = text.isprintable() and _is_read(f"{{{text}: 0}}", {text: 0}) and _is_read(f"{text}: 0", {text: 0})
    return text if plain else _quoted(text)


def _text(text: str) -> str:
    """A text as YAML, in quotes where it would be read as something else."""
    within, alone = f"[{text}]", f"k: {text}"  # a dash is a text within brackets, and the start of a list elsewhere
    plain = text.isprintable() and _is_read(within, [text]) and _is_read(alone, {"k": text})
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(
        r"[^ -~\u00a1-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2000-\u206f]", _escaped, quoted
    )


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _is_read(text: str, value: Any) -> bool:
    try:
        document = yaml_reader.read(text)
    except yaml_reader.Unreadable:
        return False
    return bool(document.data == value) and not document.issues
