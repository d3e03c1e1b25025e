from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from onnxbuild.recipe import schema

PUBLISHED = Path(__file__).resolve().parents[2] / "schemas"


@pytest.mark.parametrize("which", ["recipe", "report"])
def test_the_published_schema_is_the_types(which):
    published = (PUBLISHED / f"{which}.schema.json").read_text(encoding="utf-8")
    assert published == schema.text(which), "run `make schemas`"


@pytest.mark.parametrize("which", ["recipe", "report"])
def test_it_is_a_schema(which):
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.text(which)))


def test_writing_is_deterministic(tmp_path):
    first = [path.read_bytes() for path in schema.write(tmp_path)]
    assert [path.read_bytes() for path in schema.write(tmp_path)] == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.schema.json", "report.schema.json"]


def test_a_recipe_has_no_alternatives():
    """`anyOf` and `oneOf` give messages that nobody can read."""
    assert not {"anyOf", "oneOf", "allOf"} & set(json.dumps(schema.recipe()).replace('"', " ").split())


def test_mappings_of_one_key_say_so():
    definitions = schema.recipe()["$defs"]
    for name in ("Model", "Pass", "Data", "Symbolic"):
        assert (definitions[name]["minProperties"], definitions[name]["maxProperties"]) == (1, 1)
