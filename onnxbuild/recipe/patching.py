"""A recipe's text with more names in a list of one of its passes: everything else stays as it is, comments too. Pure.

Where to change a text is found by the nodes of YAML's composer, which say where each part begins and ends.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Sequence
from typing import Any

import yaml

from onnxbuild.contracts import Json
from onnxbuild.recipe import writing, yaml_reader
from onnxbuild.recipe.findings import Path

OPTIMIZE = "optimize"


class Unpatchable(Exception):  # noqa: N818  # it carries a fact; nothing is wrong
    """The text can't be changed so; why not."""


def listed(text: str, data: Json, place: Path, option: str, names: Sequence[str]) -> str:
    """The text in which the pass at `place` ("optimize", number, name) lists more nodes under an option.

    `data` is what the recipe says, with its bases. A text that has no `optimize` of its own gets all of it. Raises
    Unpatchable where the text is not written so that it can be changed, as where the pass is an alias.
    """
    wanted = _wanted(data, place, option, names)
    own = yaml_reader.read(text).data
    if OPTIMIZE not in own:
        made = _with_section(text, wanted)
    else:
        section = _value(yaml.compose(text, Loader=yaml.SafeLoader), OPTIMIZE)  # libyaml's would count in bytes
        found = _value(section.value[place[1]], place[2]) if isinstance(section, yaml.SequenceNode) else None
        if not isinstance(found, yaml.MappingNode):
            raise Unpatchable(f"{OPTIMIZE}[{place[1]}].{place[2]} is not written out as a mapping")
        there = _value(found, option)
        made = _inserted(text, found, option, names) if there is None else _extended(text, there, names)
    try:
        said = yaml_reader.read(made).data
    except yaml_reader.Unreadable:
        said = None
    if said != {**own, OPTIMIZE: wanted}:
        raise Unpatchable("the recipe is not written so that it can be changed by itself")
    return made


def _value(node: Any, key: Any) -> Any:
    """A mapping's value, by its key; None where it has none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def difference(before: str, after: str, path: str) -> str:
    """A unified diff, as `patch` and `git apply` take it."""
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """The lines of a text with their ends, as `patch` knows them: nothing but a newline ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _newline(text: str) -> str:
    """What ends the lines of a text."""
    return "\r\n" if "\r\n" in text else "\n"


def _wanted(data: Json, place: Path, option: str, names: Sequence[str]) -> Json:
    """What `optimize` is to say."""
    section = copy.deepcopy(data[OPTIMIZE])
    options = section[place[1]][place[2]]
    options[option] = [*options.get(option, []), *names]
    return section


def _with_section(text: str, section: Json) -> str:
    """The text with a section of its own at its end: a list replaces that of a base as a whole."""
    entries = [[f"{key}: {writing.inline(value)}\n" for key, value in entry.items()] for entry in section]
    lines = [f"  - {'    '.join(entry)}" for entry in entries]
    gap = "" if text.endswith("\n") or not text else "\n"
    return text + f"{gap}{OPTIMIZE}:\n{''.join(lines)}".replace("\n", _newline(text))


def _inserted(text: str, found: yaml.MappingNode, option: str, names: Sequence[str]) -> str:
    """A new key: last in braces, first in a block."""
    entry, start = f"{option}: [{_items(names)}]", found.start_mark
    if not found.flow_style:
        return f"{text[: start.index]}{entry}{_newline(text)}{' ' * start.column}{text[start.index :]}"
    if not found.value:
        return f"{text[: start.index + 1]}{entry}{text[start.index + 1 :]}"
    at = found.value[-1][1].end_mark.index
    return f"{text[:at]}, {entry}{text[at:]}"


def _extended(text: str, there: Any, names: Sequence[str]) -> str:
    """More names in a list that is there."""
    if not isinstance(there, yaml.SequenceNode):
        raise Unpatchable("the list of nodes is not written out")
    if there.flow_style and not there.value:
        at = there.start_mark.index + 1
        return f"{text[:at]}{_items(names)}{text[at:]}"
    at = there.value[-1].end_mark.index
    if there.flow_style:
        return f"{text[:at]}, {_items(names)}{text[at:]}"
    newline = _newline(text)
    end = text.find(newline, at)
    at = len(text) if end < 0 else end
    lines = "".join(f"{newline}{' ' * there.start_mark.column}- {_items([name])}" for name in names)
    return f"{text[:at]}{lines}{text[at:]}"


def _items(names: Sequence[str]) -> str:
    return writing.inline(list(names))[1:-1]
