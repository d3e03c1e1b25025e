"""The published JSON Schemas (draft 2020-12), made from the types. Knows no YAML and no validator.

`schemas/*.json` are these texts; validation makes them anew, so an installed package needs no file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from onnxbuild.objects import write_atomic
from onnxbuild.recipe.types import ONE_OF, Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe() -> dict[str, Any]:
    """The schema of a recipe."""
    schema = _of(Recipe)
    for one_of in ONE_OF:
        schema["$defs"][one_of.__name__] |= {"minProperties": 1, "maxProperties": 1}
    return schema


def report() -> dict[str, Any]:
    """The schema of `report.json`."""
    from onnxbuild.report.types import Report

    return _of(Report)


_SCHEMAS = {"recipe": recipe, "report": report}


def text(which: str) -> str:
    """The "recipe" or the "report" schema as the published file holds it."""
    return json.dumps(_SCHEMAS[which](), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every schema into `folder` and return the files."""
    paths = []
    for which in _SCHEMAS:
        paths.append(folder / f"{which}.schema.json")
        write_atomic(paths[-1], [text(which).encode()])
    return paths


def _of(type_: Any) -> dict[str, Any]:
    schema = msgspec.json.schema(type_)
    _type_enums(schema)
    return {"$schema": DIALECT, "title": f"onnxbuild {type_.__name__.lower()}", **schema}


def _type_enums(schema: Any) -> None:
    """Say of each list of values which type they have: 1.0 equals 1 in JSON Schema, and in no recipe."""
    parts = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    for part in parts:
        _type_enums(part)
    if isinstance(schema, dict) and isinstance(schema.get("enum"), list):
        integers = all(isinstance(value, int) for value in schema["enum"])
        schema.setdefault("type", "integer" if integers else "string")
