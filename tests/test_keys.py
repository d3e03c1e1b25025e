from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onnxbuild import keys

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.dictionaries(st.text(min_size=1, max_size=4), JSON, max_size=4)


def document(**changes):
    parts = {"kind": "export", "version": "1", "options": {}, "inputs": {}, "tools": {}, "platform": {}} | changes
    return keys.document(**parts)


@given(OPTIONS)
def test_the_order_of_options_does_not_matter(options):
    backwards = dict(reversed(options.items()))

    assert keys.key_of(document(options=options)) == keys.key_of(document(options=backwards))


@given(OPTIONS, OPTIONS)
def test_documents_with_one_key_are_equal_and_different_ones_are_explained(one, other):
    a, b = document(options=one), document(options=other)

    same = keys.key_of(a) == keys.key_of(b)

    assert same == (keys.differences(a, b) == [])


def test_differences_name_the_recipe_field_the_tool_and_the_input():
    old = document(options={"export": {"opset": 17}}, tools={"torch": "2.12.0"}, inputs={"checkpoint": "aa"})
    new = document(options={"export": {"opset": 18}}, tools={"torch": "2.13.0"}, inputs={"checkpoint": "bb"})

    assert keys.differences(old, new) == [
        "input checkpoint changed",
        "export.opset: 17 -> 18",
        "torch 2.12.0 -> 2.13.0",
    ]


def test_a_pass_that_takes_another_graph_says_so():
    assert keys.differences(document(inputs={"graph": "aa"}), document(inputs={"graph": "bb"})) == [
        "input graph changed"
    ]


def test_the_source_section_is_called_model_as_in_the_recipe():
    old = document(options={"source": {"pytorch": {"kwargs": {"width": 1}}}})
    new = document(options={"source": {"pytorch": {"kwargs": {"width": 2}}}})

    assert keys.differences(old, new) == ["model.pytorch.kwargs.width: 1 -> 2"]
