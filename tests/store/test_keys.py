from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from onnxbuild.plan import order
from onnxbuild.store import keys

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


def test_differences_are_the_smallest_parts_that_changed():
    old = document(options={"export": {"opset": 17, "inputs": {"x": {"shape": [2, 3]}}}}, tools={"torch": "2.12.0"})
    new = document(options={"export": {"opset": 18, "inputs": {"x": {"shape": [2, 3]}}}}, tools={"onnx": "1.23.2"})

    assert keys.differences(old, new) == [
        (("options", "export", "opset"), 17, 18),
        (("tools", "onnx"), UNSET, "1.23.2"),
        (("tools", "torch"), "2.12.0", UNSET),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": None}, {}),
        ({"a": {}}, {}),
        ({"a.b": 1}, {"a": {"b": 1}}),
    ],
)
def test_what_python_takes_for_equal_and_json_does_not_is_a_difference(one, other):
    assert keys.key_of(document(options=one)) != keys.key_of(document(options=other))
    assert keys.differences(document(options=one), document(options=other))


def test_lists_are_compared_item_by_item_where_they_hold_more_than_values():
    old, new = ({"options": {"cases": cases}} for cases in ([{"n": 1}], [{"n": 1}, {"n": 2}]))

    assert keys.differences(old, new) == [(("options", "cases", 1), UNSET, {"n": 2})]


def test_the_order_of_names_is_kept_where_it_counts():
    value = {"b": {"z": 1, "y": [{"q": 1, "p": 2}]}, "a": {}, "one": {"x": 1}}

    found = order.orders(("kwargs",), value)

    assert {order.path_of(name): names for name, names in found.items()} == {
        ("kwargs",): ["b", "a", "one"],
        ("kwargs", "b"): ["z", "y"],
        ("kwargs", "b", "y", 0): ["q", "p"],
    }


@given(OPTIONS)
def test_mappings_in_another_order_have_other_orders(options):
    backwards = dict(reversed(options.items()))

    assert (order.orders((), options) == order.orders((), backwards)) == (len(options) < 2)
