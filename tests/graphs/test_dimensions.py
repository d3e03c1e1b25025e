from __future__ import annotations

import pytest

from onnxbuild.graphs import dimensions


@pytest.mark.parametrize(
    ("text", "sizes", "size"),
    [
        ("past + sequence", {"past": 0, "sequence": 3}, 3),
        ("height // 2", {"height": 7}, 3),
        ("(height + 2*pad - 3) // 2 + 1", {"height": 8, "pad": 1}, 4),
        ("  3 * batch ", {"batch": 5}, 15),
        ("total - past", {"total": 3, "past": 4}, None),  # no axis has -1
        ("n // m", {"n": 1, "m": 0}, None),
    ],
)
def test_what_an_expression_gives(text, sizes, size):
    assert dimensions.size(dimensions.parse(text), sizes) == size


@pytest.mark.parametrize(
    "text",
    ["", "a +", "a / b", "a ** b", "a % b", "-a", "f(a)", "a.b", "a[0]", "1.5 * a", "a if b else c", "a, b", "a // 0",
     "__import__('os').system('true')", "a and b", "'a'", "True + a", "a\0", "(" * 150, "a + " * 60 + "a"],
)  # fmt: skip
def test_text_that_is_no_expression_is_refused_and_never_run(text):
    with pytest.raises(dimensions.MalformedError) as caught:
        dimensions.parse(text)
    assert caught.value.hint


def test_relations_may_rest_on_relations_in_any_order():
    relations = {name: dimensions.parse(text) for name, text in {"b": "a + 1", "a": "2*n", "c": "c + 1"}.items()}
    assert dimensions.resolve(relations, {"n": 3}) == {"b": 7, "a": 6, "c": None}


@pytest.mark.parametrize(
    ("text", "line"),
    [("2*n + 1", (2, "n", 1)), ("n", (1, "n", 0)), ("3*(n - 1)", (3, "n", -3)), ("n + n", (2, "n", 0))]
    + [(text, None) for text in ("n + m", "n*m", "n // 2", "5 - n", "n - n", "4")],
)
def test_lines(text, line):
    assert dimensions.linear(dimensions.parse(text)) == line


@pytest.mark.parametrize(
    ("text", "contradicts"),
    [
        ("3*batch", True), ("seq", True), ("batch + seq", True),
        ("batch", False), ("2*(batch//2)", False), ("batch + 0", False),
        ("unk__13", False), ("Reshapey_dim_0", False), ("3*s0", False), ("floor(x)", False),
    ],
)  # fmt: skip
def test_a_name_that_says_another_thing(text, contradicts):
    assert dimensions.contradicts(text, "batch", {}, ["batch", "seq"]) is contradicts


def test_a_name_that_says_what_the_relation_does():
    related = {"total": "past + sequence"}
    for text, contradicts in (("past + sequence", False), ("sequence + past", False), ("past", True), ("total", False)):
        assert dimensions.contradicts(text, "total", related, ["past", "sequence", "total"]) is contradicts
