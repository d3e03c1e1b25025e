from __future__ import annotations

import pytest
import yaml

from onnxbuild.text import wording


@pytest.mark.parametrize(
    "name",
    ["fc", "/fc/MatMul", "node_MatMul_129", "123", "1e5", "true", "Null", "a: b", "größe {1}", "#x", "a, b", 'a"b', "a:",
     "-", "*a", "h before", "/a:0", "", "~", "m\n"],
)  # fmt: skip
def test_a_list_of_names_is_read_as_it_was(name):
    text = wording.flow([name, "other", name])
    assert yaml.safe_load(f"nodes: {text}") == {"nodes": [name, "other"]}


def test_what_yaml_takes_for_text_stays_as_it_is():
    assert wording.flow(["/fc/MatMul", "node_MatMul_129", "größe"]) == "[/fc/MatMul, node_MatMul_129, größe]"
