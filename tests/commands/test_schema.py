from __future__ import annotations

import json
import re
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
    names = [schema.REFERENCE, *(f"{name}.schema.json" for name in schema.NAMES)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_the_reference_has_a_row_for_every_key_and_every_link_leads_somewhere(workspace):
    published = (PUBLISHED / schema.REFERENCE).read_text(encoding="utf-8")
    assert published == schema.reference() == workspace.run("schema", "--markdown").out, "run `make schemas`"

    headings = re.findall(r"^## (.*)$", published, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9_ -]", "", one.lower()).replace(" ", "-") for one in headings}
    assert len(anchors) == len(headings)
    assert set(re.findall(r"\]\(#([^)]*)\)", published)) <= anchors
    definitions = json.loads(schema.text("recipe"))["$defs"]
    rows = set(re.findall(r"^\| `([^`]+)` \|", published, re.MULTILINE))
    assert {key for one in definitions.values() for key in one.get("properties", {})} == rows
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in published.splitlines() if line.startswith("|"))
