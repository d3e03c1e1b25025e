from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from onnxbuild.commands import schema

PUBLISHED = Path(__file__).resolve().parents[2] / "schemas"


@pytest.mark.parametrize("which", schema.NAMES)
def test_the_published_schema_is_the_types(which):
    published = (PUBLISHED / f"{which}.schema.json").read_text(encoding="utf-8")
    assert published == schema.text(which), "run `make schemas`"


@pytest.mark.parametrize("which", schema.NAMES)
def test_it_is_a_schema(which):
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.text(which)))


def test_writing_is_deterministic(tmp_path):
    first = [path.read_bytes() for path in schema.write(tmp_path)]
    assert [path.read_bytes() for path in schema.write(tmp_path)] == first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.schema.json" for name in schema.NAMES)
