"""The recipe's reference for reading, in Markdown, made from its JSON Schema and so never behind it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_HEAD = """\
# The recipe, key by key

Made by `onnxbuild schema --markdown` from the types that a recipe is read with. What is "asked of the model" may be left out
where the model knows it. In a path, `<name>` stands for a name of yours, and `[]` for each entry of a list.
"""


def markdown(schema: Schema, filled: dict[str, tuple[str, ...]]) -> str:
    """A section for each mapping of a recipe, from the top down, with a row for each of its keys.

    `filled` are the keys of each type that the model itself can tell where a recipe leaves them out.
    """
    definitions = schema["$defs"]
    places: dict[str, str] = {}  # a definition to the first path at which it stands
    waiting = [(_name(schema["$ref"]), "")]
    sections: list[str] = []
    while waiting:
        name, path = waiting.pop(0)
        if name in places:
            continue
        places[name] = path
        waiting[:0] = [
            (below, f"{path}.{key}".removeprefix(".") if path else key)
            for key, one in definitions[name].get("properties", {}).items()
            for below, key in _below(one, key)
        ]
        sections.append(name)
    parts = [_HEAD]
    for name in sections:
        one = definitions[name]
        if one.get("properties"):
            title = f"`{places[name]}`" if places[name] else "The whole"
            parts.append(f"## {title}\n\n{_about(one)}{_table(one, definitions, places, filled.get(name, ()))}")
    return "\n".join(parts)


def _below(one: Schema, key: str) -> Iterator[tuple[str, str]]:
    """The definitions that a key's value leads to, each with its path from there."""
    for branch in (one, *one.get("anyOf", ())):
        if "$ref" in branch:
            yield _name(branch["$ref"]), key
        if isinstance(branch.get("additionalProperties"), dict):
            yield from _below(branch["additionalProperties"], f"{key}.<name>")
        if "items" in branch:
            yield from _below(branch["items"], f"{key}[]")


def _name(ref: str) -> str:
    return ref.removeprefix("#/$defs/")


def _about(one: Schema) -> str:
    text = one.get("description", "")
    return f"{_plain(text)}\n\n" if text else ""


def _table(one: Schema, definitions: Schema, places: dict[str, str], filled: tuple[str, ...]) -> str:
    rows = ["| key | takes | default | |", "| --- | --- | --- | --- |"]
    required = one.get("required", [])
    for key, value in one["properties"].items():
        if key in filled:
            default = "asked of the model"
        elif "default" in value:
            default = _default(value["default"])
        else:
            default = "required" if key in required else "none"
        about = value.get("description") or (
            definitions[_name(value["$ref"])].get("description", "") if "$ref" in value else ""
        )
        rows.append(f"| `{key}` | {_takes(value, definitions, places)} | {default} | {_plain(about)} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    """A short default as YAML would have it; of a mapping, that each of its keys has its own."""
    if value in ({}, [], ""):
        return "empty"
    if isinstance(value, dict):
        return "its keys' own"
    return f"`{json.dumps(value)}`"


def _takes(one: Schema, definitions: Schema, places: dict[str, str]) -> str:
    if "anyOf" in one:
        return " or ".join(dict.fromkeys(_takes(branch, definitions, places) for branch in one["anyOf"]))
    if "$ref" in one:
        return _link(_name(one["$ref"]), definitions, places)
    kind = one.get("type", "anything")
    if "enum" in one:
        took = ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in one["enum"])
    elif kind == "array":
        took = f"a list: {_takes(one.get('items', {}), definitions, places)}"
    elif kind == "object":
        below = one.get("additionalProperties")
        took = f"a mapping: {_takes(below, definitions, places)}" if isinstance(below, dict) else "a mapping"
    else:
        took = " or ".join(_word(each, one) for each in (kind if isinstance(kind, list) else [kind]))
    return took


def _word(kind: str, one: Schema) -> str:
    if one.get("x-expected"):
        return _plain(one["x-expected"])
    word = {
        "array": "a list",
        "boolean": "`true`, `false`",
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "null": "`null`",
    }
    return word.get(kind, kind) + (_range(one) if kind in ("integer", "number") else "")


def _range(one: Schema) -> str:
    low, high = one.get("minimum"), one.get("maximum")
    more = one.get("exclusiveMinimum")
    if more is not None:
        return f" above {more}" + (f", at most {high}" if high is not None else "")
    if low is None and high is None:
        return ""
    return (
        f" of {low} to {high}"
        if None not in (low, high)
        else f" of {low} or more"
        if low is not None
        else f" of at most {high}"
    )


def _link(name: str, definitions: Schema, places: dict[str, str]) -> str:
    if not definitions[name].get("properties") and "anyOf" not in definitions[name]:
        return _takes(definitions[name], definitions, places)
    title = places.get(name) or "the whole"
    return f"[`{title}`](#{re.sub('[^a-z0-9_ -]', '', title.lower()).replace(' ', '-')})"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("\n", " ")
