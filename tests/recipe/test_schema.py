from __future__ import annotations

import json

from onnxbuild.recipe import schema


def test_a_recipe_has_no_alternatives():
    """`anyOf` and `oneOf` give messages that nobody can read."""
    assert not {"anyOf", "oneOf", "allOf"} & set(json.dumps(schema.recipe()).replace('"', " ").split())


def test_mappings_of_one_key_say_so():
    definitions = schema.recipe()["$defs"]
    for name in ("Model", "Step", "Data", "Symbolic"):
        assert (definitions[name]["minProperties"], definitions[name]["maxProperties"]) == (1, 1)
    one = definitions["Pass"]  # which may have `parity` beside it
    assert (one["minProperties"], one["else"]["maxProperties"]) == (1, 1)
    assert (one["if"], one["then"]) == ({"required": ["parity"]}, {"minProperties": 2, "maxProperties": 2})


def test_every_key_is_described():
    definitions = schema.recipe()["$defs"]
    bare = []
    for name, one in definitions.items():
        for key, value in one.get("properties", {}).items():
            inner = definitions.get(value.get("$ref", "").removeprefix("#/$defs/"), {})
            if not (value.get("description") or inner.get("description")):
                bare.append(f"{name}.{key}")

    assert bare == []
