"""YAML 1.2 text as plain data, with the place of every part of it.

Reads events, not PyYAML's own nodes: no recursion, no YAML 1.1 surprises (`yes`, `1:30`, dates), no tag that makes an
object. Knows nothing of recipes. What YAML allows but a recipe must not hold (duplicate keys, merge keys, infinite
numbers, aliases that explode) is refused here.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from onnxbuild.recipe import scalars
from onnxbuild.recipe.findings import Path

MAX_NODES = 100_000  # with aliases written out; in memory they share what they name
MAX_DEPTH = 64

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What YAML allows, but for the marks that make a terminal show a text in another order than it has (Unicode's bidi
# embeddings, overrides and isolates): what is shown would not be what is built.
_UNPRINTABLE = (  # compiled on first use, which takes milliseconds
    "[^\t\n\r\x20-\x7e\x85\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_TAG = "tag:yaml.org,2002:"


class Issue(NamedTuple):
    """What is wrong with the text, at a 1-based line and column; `file` as it was given to `read`."""

    line: int
    column: int
    path: Path
    fact: str
    hint: str = ""
    file: str = ""


class Place(NamedTuple):
    """Where a part stands: the file that was given to `read`, and a 1-based line and column in it."""

    file: str
    line: int
    column: int


class Unreadable(Exception):  # noqa: N818  # it carries an issue; it is not one
    """The text cannot be read any further."""

    def __init__(self, line: int, column: int, fact: str, hint: str = "") -> None:
        super().__init__(fact)
        self.issue = Issue(line, column, (), fact, hint)


class Node:
    """A value and its place; `items` are the nodes of a collection, `keys` the places of a mapping's keys."""

    __slots__ = ("column", "file", "height", "items", "keys", "line", "raw", "size", "value")

    def __init__(self, line: int, column: int, value: Any, raw: str = "", file: str = "") -> None:
        self.line = line
        self.column = column
        self.value = value
        self.raw = raw  # a scalar as it is written
        self.file = file  # in which it stands, and its key too
        self.items: dict[str | int, Node] = {}
        self.keys: dict[str | int, tuple[int, int]] = {}
        self.size = 1  # how many values it holds, itself included, aliases written out
        self.height = 0  # how many levels lie in it, aliases written out


class Document(NamedTuple):
    """`data` (mappings with string keys, lists, strings, numbers, booleans, None) and where it stands."""

    root: Node
    issues: tuple[Issue, ...]

    @property
    def data(self) -> Any:
        """The document as plain dicts, lists and scalars."""
        return self.root.value

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of a part, as `origin` has it."""
        return self.origin(path, key=key)[1:]

    def origin(self, path: Path, *, key: bool = False) -> Place:
        """Where a part stands, or the nearest part around it that the text holds.

        A collection's own place is its key: in block style it starts at its first entry, which says nothing.
        """
        node, at_key = self.root, (self.root.line, self.root.column)
        for step in path:
            if step not in node.items:
                return Place(node.file, *at_key)
            at_key = node.keys.get(step, (node.items[step].line, node.items[step].column))
            node = node.items[step]
        own = at_key if key or isinstance(node.value, (dict, list)) else (node.line, node.column)
        return Place(node.file, *own)

    def raw(self, path: Path) -> str:
        """A scalar of the data as it is written, "" for a collection."""
        node = self.root
        for step in path:
            node = node.items[step]
        return node.raw


def read(text: str, file: str = "") -> Document:
    """The one document of a YAML text; `file` is noted in each of its places. Raises `Unreadable` for what leaves no
    data to go on with.
    """
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _unreadable(text, error) from None
    if builder.root is None:
        raise Unreadable(1, 1, "the file is empty", "a recipe starts with: version: 1")
    return Document(builder.root, tuple(builder.issues))


class _Builder:
    """Makes nodes of events, with a stack of its own."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.root: Node | None = None
        self.issues: list[Issue] = []
        self._open: list[Node] = []
        self._path: list[str | int] = []  # where each open node's current item goes
        self._key: tuple[str, int, int, bool] | None = None  # a key whose value comes next, and whether to keep it
        self._anchors: dict[str, Node] = {}

    def take(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        match event:
            case yaml.ScalarEvent():
                if self._wants_key():
                    self._start_item(event, line, column)
                else:
                    self._add(self._anchor(event, self._scalar(event, line, column)))
            case yaml.AliasEvent():
                self._alias(str(event.anchor), line, column)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open_collection(event, line, column)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.DocumentStartEvent() if self.root is not None:
                raise Unreadable(line, column, "a second document starts here", "one recipe a file: remove the '---'")

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._key is None

    def _start_item(self, event: Any, line: int, column: int) -> None:
        key = self._text(event, line, column)
        merges = key == "<<" and event.implicit[0]
        if merges:
            hint = "YAML 1.2 has none; write the keys out, or make the whole mapping an alias"
            self._say(line, column, "merge keys ('<<') are not supported", hint)
        elif key in self._open[-1].keys:
            first = self._open[-1].keys[key]
            hint = f"it is first given on line {first[0]}; remove one of them"
            self._say(line, column, f"duplicate key {key!r}", hint)
        self._key = (key, line, column, not merges and key not in self._open[-1].keys)

    def _open_collection(self, event: Any, line: int, column: int) -> None:
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if self._wants_key():
            raise Unreadable(line, column, "a key must be plain text, not a list or a mapping")
        self._check_depth(line, column, 1)
        self._check_tag(event, line, column, kind)
        node = self._anchor(event, Node(line, column, {} if kind == "map" else [], "", self._file))
        self._attach(node)
        self._open.append(node)

    def _close(self) -> None:
        node = self._open.pop()
        if self._open:
            self._path.pop()
            self._count(self._open[-1], node)

    def _add(self, node: Node) -> None:
        """A finished value: a scalar or an alias."""
        self._attach(node)
        if self._open:
            self._path.pop()
            self._count(self._open[-1], node)

    def _attach(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if self._key is None:
            step: str | int = len(parent.value)
            parent.value.append(node.value)
            parent.items[step] = node
        else:
            step, line, column, keep = self._key
            self._key = None
            if keep:  # of two equal keys the first one stays
                parent.value[step] = node.value
                parent.items[step] = node
                parent.keys[step] = (line, column)
        self._path.append(step)

    def _count(self, parent: Node, node: Node) -> None:
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.size > MAX_NODES:
            fact = f"more than {MAX_NODES} values, aliases written out"
            raise Unreadable(node.line, node.column, fact, "a recipe names its data; it does not hold it")

    def _alias(self, name: str, line: int, column: int) -> None:
        if self._wants_key():
            raise Unreadable(line, column, "a key must be plain text, not an alias")
        target = self._anchors.get(name)
        if target is None:
            hint = "text that starts with '*' needs quotes"
            raise Unreadable(line, column, f"alias '*{name}' has no anchor '&{name}' before it", hint)
        if any(node is target for node in self._open):
            raise Unreadable(line, column, f"alias '*{name}' holds itself", "write the value out")
        self._check_depth(line, column, target.height)
        node = Node(line, column, target.value, target.raw, self._file)
        node.items, node.keys, node.size, node.height = target.items, target.keys, target.size, target.height
        self._add(node)

    def _check_depth(self, line: int, column: int, height: int) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise Unreadable(line, column, f"nested more than {MAX_DEPTH} levels deep")

    def _anchor(self, event: Any, node: Node) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _check_tag(self, event: Any, line: int, column: int, kind: str) -> None:
        if event.tag not in (None, "!", f"{_TAG}{kind}"):
            self._say(line, column, f"tag {event.tag.replace(_TAG, '!!')!r} is not supported", "remove it")

    def _text(self, event: Any, line: int, column: int) -> str:
        text = str(event.value)
        self._check_tag(event, line, column, "str")
        bad = None if text.isprintable() else re.search(_UNPRINTABLE, text)
        if bad is None:
            return text
        self._say(line, column, f"the text holds U+{ord(bad[0]):04X}, which cannot be printed", "remove it")
        return re.sub(_UNPRINTABLE, "?", text)

    def _scalar(self, event: Any, line: int, column: int) -> Node:
        text = self._text(event, line, column)
        plain = event.tag is None and event.implicit[0]
        if not plain:
            return Node(line, column, text, text, self._file)
        value, fact = scalars.plain(text)
        if fact:
            self._say(line, column, fact, "if it is text, write it in quotes")
        return Node(line, column, value, text, self._file)

    def _say(self, line: int, column: int, fact: str, hint: str) -> None:
        self.issues.append(Issue(line, column, self._where(), fact, hint, self._file))

    def _where(self) -> Path:
        """The path of the value that comes next, or of the mapping whose key does."""
        if self._key is not None:
            return (*self._path, self._key[0])
        if self._open and isinstance(self._open[-1].value, list):
            return (*self._path, len(self._open[-1].value))
        return tuple(self._path)


def _unreadable(text: str, error: yaml.YAMLError) -> Unreadable:
    """A YAML library's error in our words, where it stands."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:  # a reader error: a character that YAML text may not hold
        bad = re.search(_UNPRINTABLE, text)
        at = bad.start() if bad else 0
        fact = f"the character U+{ord(text[at]):04X} is not allowed in YAML" if bad else "not YAML text"
        return Unreadable(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at), fact, "remove it")
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip(" \t"))]
    if "\t" in indentation:
        return Unreadable(mark.line + 1, indentation.index("\t") + 1, "a tab as indentation", "indent with spaces")
    problem = str(getattr(error, "problem", "") or "the text breaks YAML's rules")
    context = getattr(error, "context", None)
    return Unreadable(
        mark.line + 1,
        mark.column + 1,
        f"not valid YAML: {context + ', ' if context else ''}{problem}",
        next((hint for part, hint in _HINTS.items() if part in problem), ""),
    )


_HINTS = {
    "mapping values are not allowed": "text that holds ': ' needs quotes",
    "cannot start any token": "text that starts with '@', '`' or '%' needs quotes",
    "did not find expected key": "check the indentation of this line and the ones above",
    "expected <block end>": "check the indentation of this line and the ones above",
    "could not find expected ':'": "a key needs ': ' after it",
    "unexpected end of stream": "a quote is opened and never closed",
    "expected ',' or": "a bracket is opened and never closed",
    "unknown escape character": "a backslash in double quotes starts an escape; use single quotes",
}
