"""The JSON Schema (draft 2020-12) of a recipe, made from its types. Knows no YAML, no validator and no files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from onnxbuild.recipe import bases
from onnxbuild.recipe.plugins import BESIDE
from onnxbuild.recipe.types import ONE_OF, Recipe

_DIM = (
    "The range of a dynamic dimension, both ends included; or, as text, what it is of other dimensions: "
    "sums, differences, products and floor divisions (past + sequence, height // 2)."
)
FILLED = {"Recipe": ("export",), "Export": ("inputs", "outputs"), "Input": ("dtype", "shape")}
_NUMBERS = (("integer", "number"), ("integer", "number", "string"), ("string", "integer", "number"))
_DEFINITIONS = "#/$defs/"
_PART = "PartOf"
_WHOLE = ("required", "minProperties", "maxProperties")  # what holds of the whole alone
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe() -> dict[str, Any]:
    """The schema of a recipe that is whole."""
    schema = of(Recipe)
    properties = schema["$defs"]["Recipe"]["properties"]
    schema["$defs"]["Recipe"]["properties"] = {
        "version": properties.pop("version"),
        bases.KEY: bases.SCHEMA,
        **properties,
    }
    for one_of in ONE_OF:
        beside = BESIDE.get(one_of.__name__)
        schema["$defs"][one_of.__name__] |= _one_key(beside[0]) if beside else {"minProperties": 1, "maxProperties": 1}
        _offer(schema["$defs"][one_of.__name__], schema["$defs"], beside or ())
    for name, keys in FILLED.items():  # what a recipe may leave out where the model tells it
        definition = schema["$defs"][name]
        definition["required"] = [key for key in definition["required"] if key not in keys]
    return schema


def published() -> dict[str, Any]:
    """The schema by which editors check a recipe's file: one with a base, or without a name, may leave out anything and
    write null for what it takes away.
    """
    schema = recipe()
    whole, definitions = schema.pop("$ref"), schema.pop("$defs")
    parts = dict(_parts("Recipe", definitions))
    parts[_PART + "Recipe"]["type"] = "object"
    parts[_PART + "Recipe"]["properties"][bases.KEY] = bases.SCHEMA
    is_whole = {"required": [bases.OWN], "not": {"required": [bases.KEY]}}
    rule = {"if": is_whole, "then": {"$ref": whole}, "else": {"$ref": f"{_DEFINITIONS}{_PART}Recipe"}}
    return {**schema, **rule, "$defs": {**definitions, **parts}}


def _parts(first: str, definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of a definition and those that lie in it, what a part of it may be that something is merged under. What is in a list
    is no part: lists are replaced.
    """
    waiting, seen = [first], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        part = {key: value for key, value in definitions[name].items() if key not in _WHOLE}
        below: list[str] = []
        if "properties" in part:
            part["properties"] = {key: _part(value, below) for key, value in part["properties"].items()}
        yield _PART + name, _part(part, below)
        waiting += below


def _part(one: dict[str, Any], below: list[str]) -> dict[str, Any]:
    """A value's schema that allows null, too; the definitions that it leads to are added to `below`."""
    made = {**one}
    if "$ref" in made:
        name = made["$ref"].removeprefix(_DEFINITIONS)
        below.append(name)
        made["$ref"] = f"{_DEFINITIONS}{_PART}{name}"
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _part(made["additionalProperties"], below)
    if "type" in made:
        made["type"] = [*([made["type"]] if isinstance(made["type"], str) else made["type"]), "null"]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    return made


def _one_key(beside: str) -> dict[str, Any]:
    """That there is exactly one key, and one more where that is what may stand beside it."""
    return {
        "minProperties": 1,
        "if": {"required": [beside]},
        "then": {"minProperties": 2, "maxProperties": 2},
        "else": {"maxProperties": 1},
    }


def of(type_: Any) -> dict[str, Any]:
    """The schema of a type."""
    schema = msgspec.json.schema(type_)
    _type_enums(schema)
    _merge_numbers(schema)
    _merge_dims(schema)
    _merge_sizes(schema)
    return {"$schema": DIALECT, "title": f"onnxbuild {type_.__name__.lower()}", **schema}


def _offer(definition: Any, definitions: Any, beside: Sequence[str]) -> None:
    """Say what an editor offers on the empty line of a mapping that may have one key only, and what may be `beside` that.

    Editors' language servers count the key that is about to be written as one, and so offer none of `properties` there.
    `defaultSnippets` is a word of theirs, and nobody else's.
    """
    definition["defaultSnippets"] = []
    for key, value in definition["properties"].items():
        if key in beside:
            continue
        inner = definitions.get(value.get("$ref", "").removeprefix("#/$defs/"), {})
        required = {name: f"${at}" for at, name in enumerate(inner.get("required", []), 1)}
        about = value.get("description") or inner.get("description", "")
        definition["defaultSnippets"].append({"label": key, "description": about, "body": {key: required or "$1"}})


def _type_enums(schema: Any) -> None:
    """Say of each list of values which type they have: 1.0 equals 1 in JSON Schema, and in no recipe."""
    parts = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    for part in parts:
        _type_enums(part)
    if isinstance(schema, dict) and isinstance(schema.get("enum"), list):
        integers = all(isinstance(value, int) for value in schema["enum"])
        schema.setdefault("type", "integer" if integers else "string")


def _merge_numbers(schema: Any) -> None:
    """Say "number" of what may be an integer or a float: whoever breaks one of two rules is told of neither."""
    parts = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    for part in parts:
        _merge_numbers(part)
    branches = schema.get("anyOf", []) if isinstance(schema, dict) else []
    if branches in ([{"type": name} for name in names] for names in _NUMBERS):
        del schema["anyOf"]
        schema["type"] = ["number", "string"] if {"type": "string"} in branches else "number"


def _merge_dims(schema: Any) -> None:
    """Say in one place that a dimension is a mapping or a string: of anyOf's branches none would tell what is wrong."""
    definitions = schema.get("$defs", {})
    if "Dim" not in definitions or "Export" not in definitions:
        return
    dims = definitions["Export"]["properties"]["dims"]
    dims["additionalProperties"] = {"$ref": "#/$defs/Dim"}
    definitions["Dim"] |= {"type": ["object", "string"], "minLength": 1, "description": _DIM}


def _merge_sizes(schema: Any) -> None:
    """Say in one place that something is a size, a list of sizes or one of some words; see `_merge_dims`."""
    parts = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    for part in parts:
        _merge_sizes(part)
    branches = {one.get("type"): one for one in schema.get("anyOf", [])} if isinstance(schema, dict) else {}
    if branches.keys() == {"integer", "array", "string"} and "enum" in branches["string"]:
        words = "|".join(map(re.escape, branches["string"]["enum"]))
        del schema["anyOf"]
        schema |= {**branches["integer"], **branches["array"], "type": list(branches), "pattern": f"^({words})$"}
