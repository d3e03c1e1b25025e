"""The JSON Schema (draft 2020-12) of a recipe, made from its types. Knows no YAML, no validator and no files."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from onnxbuild.recipe.types import ONE_OF, Recipe

_DIM = (
    "The range of a dynamic dimension, both ends included; or, as text, what it is of other dimensions: "
    "sums, differences, products and floor divisions (past + sequence, height // 2)."
)
FILLED = {"Recipe": ("export",), "Export": ("inputs", "outputs"), "Input": ("dtype", "shape")}
_NUMBERS = (("integer", "number"), ("integer", "number", "string"), ("string", "integer", "number"))
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe() -> dict[str, Any]:
    """The schema of a recipe."""
    schema = of(Recipe)
    for one_of in ONE_OF:
        schema["$defs"][one_of.__name__] |= {"minProperties": 1, "maxProperties": 1}
        _offer(schema["$defs"][one_of.__name__], schema["$defs"])
    for name, keys in FILLED.items():  # what a recipe may leave out where the model tells it
        definition = schema["$defs"][name]
        definition["required"] = [key for key in definition["required"] if key not in keys]
    return schema


def of(type_: Any) -> dict[str, Any]:
    """The schema of a type."""
    schema = msgspec.json.schema(type_)
    _type_enums(schema)
    _merge_numbers(schema)
    _merge_dims(schema)
    _merge_sizes(schema)
    return {"$schema": DIALECT, "title": f"onnxbuild {type_.__name__.lower()}", **schema}


def _offer(definition: Any, definitions: Any) -> None:
    """Say what an editor offers on the empty line of a mapping that may have one key only.

    Editors' language servers count the key that is about to be written as one, and so offer none of `properties` there.
    `defaultSnippets` is a word of theirs, and nobody else's.
    """
    definition["defaultSnippets"] = []
    for key, value in definition["properties"].items():
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
