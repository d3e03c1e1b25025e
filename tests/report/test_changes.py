"""How a diff is told: what changed alike in one row, cut where it is too long, and fit for a pull request's comment."""

from __future__ import annotations

import re

from onnxbuild.report import changes_page, changes_text, changes_view, render
from onnxbuild.report.changes import Diff, Fact, Node, NodeChange, Number, Side, Structure, TensorChange


def diff(structure: Structure | None = None, **parts) -> Diff:
    empty = ("interface", "model", "ops", "sizes", "parity", "latency", "inputs", "files", "recipe", "not_compared")
    sides = {"before": Side("a.onnx", "file"), "after": Side("b.onnx", "file")}
    return Diff(version=1, same=False, structure=structure, **sides, **{name: [] for name in empty} | parts)


def conv(number: int) -> Node:
    return Node("Conv", f"conv_{number}", f"layer{number}.conv")


def test_nodes_and_weights_that_changed_alike_are_one_row():
    changed = [NodeChange(conv(number), [Fact("pads", "[0, 0]", "[1, 1]")]) for number in range(53)]
    tensors = [TensorChange(f"w{n}", "float32[4, 64]", "float16[4, 64]", "", 256, 9, 1e-4, 1e-5 * n) for n in range(9)]
    tensors += [TensorChange(f"onnx::{n}", "float32[64]", "float32[64]", f"layer.{n}", 64, 0) for n in range(7)]
    tensors += [TensorChange("head", "float32[64]", "float32[64]", "", 64, 64, 0.5, 0.25, 1)]
    text = "\n".join(changes_text.lines(diff(Structure(53, [], [], changed, tensors)), 79))

    assert "Different: 53 nodes changed, 10 weights changed, 7 weights renamed\n" in text
    assert "  ~ 53 Conv, such as Conv 'conv_0' in layer0.conv: pads  [0, 0] -> [1, 1]\n" in text
    assert "  ~ 9 of another type, the most changed w8\n      float32 -> float16  9 of 256 changed, at most by" in text
    assert "  ~ 7 renamed, the same values; the first" in text and " layer.0 -> onnx::0" in text
    assert "64 of 64 changed, at most by 0.5, relative norm 0.2, 1 by no" in text


def test_nothing_is_wider_than_the_terminal_and_long_sections_are_cut():
    long = "encoder.layer.attention.self.query_" * 5
    facts = [Fact(f"input '{long}{n}'", f"float32[{long}]", "float32[1]") for n in range(50)]
    lines = list(changes_text.lines(diff(interface=facts, recipe=[f"+{long}"] * 90), 79))

    assert "  … and 30 more, which --json has" in lines
    assert "  … and 30 lines more, which --json has" in lines
    assert all(len(line) <= 79 or long in line for line in lines)  # a name is broken nowhere
    assert sum(len(line) > 79 for line in lines) <= 40


def test_markdown_fits_into_a_comment_however_much_is_different():
    long = "encoder.layer.attention.self.query_" * 5
    tensors = [TensorChange(f"{long}{n}", "float32[4]", None) for n in range(5000)]
    text = changes_page.markdown(diff(Structure(0, [], [], [], tensors), recipe=["+```", *[f"+{long}"] * 999]))

    assert len(text.encode()) <= render.MARKDOWN_LIMIT
    assert "more; `onnxbuild diff --json` has all." in text
    assert "<details><summary>Weights: 5000</summary>" in text
    assert text.count("````diff") == 1


def test_latency_is_told_with_its_share():
    (section,) = changes_view.sections(diff(latency=[Number("p50", 10.0, 12.5, "ms"), Number("p90", 1.0, 40.0, "ms")]))

    assert [(row.before, row.after, row.note) for row in section.rows] == [
        ("10.0 ms", "12.5 ms", "+25.0%"),
        ("1.00 ms", "40.0 ms", "40 times"),
    ]


def test_the_lines_of_a_recipe_lie_side_by_side():
    lines = ["@@ -1,3 +1,4 @@", " a: 1", "-b: 2", "+b: 3", "+c: 4", " d: 5"]

    assert changes_view.recipe_pairs(lines) == [
        ("@", "@@ -1,3 +1,4 @@", "@@ -1,3 +1,4 @@"),
        ("same", "a: 1", "a: 1"),
        ("changed", "b: 2", "b: 3"),
        ("changed", "", "c: 4"),
        ("same", "d: 5", "d: 5"),
    ]
    page = changes_page.html(diff(recipe=lines))
    assert re.search(r'<td class="minus">b: 2</td><td class="plus">b: 3</td>', page)
