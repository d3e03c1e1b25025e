"""`onnxbuild graph`: the stages of a recipe with their states, in four formats."""

from __future__ import annotations

import json
import re

import pytest
import several
from workspace import Workspace

from onnxbuild.report import diagrams
from onnxbuild.report.diagrams import Node


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Built, then edited: the last pass would run."""
    workspace = Workspace.make(tmp_path_factory.mktemp("built") / "project")
    several.add(workspace, "a", several.PASSES)
    workspace.run("run", "a.yaml")
    workspace.write("a.yaml", workspace.read("a.yaml").replace("[eliminate_identity]", "[eliminate_nop_cast]"))
    return workspace


def test_text_has_a_line_for_each_stage_with_what_it_takes(built):
    assert built.run("graph", "a.yaml").out == (
        "a\n"
        "  up to date  reference\n"
        "  up to date  export                    <- after reference\n"
        "  up to date  check/export              <- export\n"
        "  up to date  parity/export             <- export, reference\n"
        "  run         optimize/1-onnxoptimizer  <- export; after check/export,\n"
        "                                          parity/export\n"
        "  maybe       check/1-onnxoptimizer     <- optimize/1-onnxoptimizer\n"
        "  maybe       parity/1-onnxoptimizer    <- optimize/1-onnxoptimizer, reference\n"
        "  run         package                   <- optimize/1-onnxoptimizer; after\n"
        "                                          check/1-onnxoptimizer,\n"
        "                                          parity/1-onnxoptimizer\n"
    )


def test_json_has_every_node_and_every_edge(built):
    data = json.loads(built.run("graph", "a.yaml", "--format", "json").out)

    assert data["version"] == 1 and data["name"] == "a"
    assert {node["name"]: node["state"] for node in data["nodes"]}["optimize/1-onnxoptimizer"] == "run"
    edges = {(edge["from"], edge["to"]): edge["takes"] for edge in data["edges"]}
    assert edges["export", "parity/export"] is True and edges["parity/export", "package"] is False


def test_mermaid_draws_the_stages_by_state(built):
    lines = built.run("graph", "a.yaml", "--format", "mermaid").out.splitlines()

    assert lines[:4] == ["---", "title: a", "---", "flowchart TD"]
    assert '  s4["optimize/1-onnxoptimizer<br/>run"]:::run' in lines
    assert "  s0 -.-> s1" in lines and "  s1 --> s2" in lines and "  s2 -.-> s4" in lines
    assert any(line.startswith("  classDef up_to_date fill:#") for line in lines)
    known = {line.split("[")[0].strip() for line in lines if "[" in line}
    arrows = [re.fullmatch(r"  (s\d+) -(?:-|\.-)> (s\d+)", line) for line in lines if "->" in line]
    assert all(arrow and {arrow[1], arrow[2]} <= known for arrow in arrows)


def test_dot_draws_the_same(built):
    out = built.run("graph", "a.yaml", "--format", "dot").out

    assert out.startswith('digraph "a" {\n') and out.endswith("}\n") and out.count("{") == 1
    assert '"optimize/1-onnxoptimizer" [label="optimize/1-onnxoptimizer\\nrun", fillcolor="#fde7c7"];' in out
    assert '  "export" -> "check/export";\n' in out
    assert '  "check/export" -> "optimize/1-onnxoptimizer" [style=dashed];\n' in out


def test_waiting_that_other_arrows_say_already_is_left_out():
    nodes = [
        Node("a", "run", [], []),
        Node("b", "run", ["a"], []),
        Node("c", "run", ["b"], ["a", "b"]),
        Node("d", "run", ["a"], ["a", "b", "c"]),
    ]

    assert diagrams.reduced(nodes) == {"a": [], "b": [], "c": [], "d": ["c"]}


def test_names_are_quoted():
    (_, _, line, _) = diagrams.dot('a"b\\', [Node('x"y', "run", [], [])])

    assert line == '  "x\\"y" [label="x\\"y\\nrun", fillcolor="#fde7c7"];'
