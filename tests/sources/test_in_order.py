"""Sets in order: Python's own in all but the order of their members."""

from __future__ import annotations

import sys
import types

from hypothesis import given
from hypothesis import strategies as st

from onnxbuild.sources.in_order import InOrder, sets_of

members = st.lists(st.text(max_size=2) | st.integers(0, 9))
OPERATIONS = {
    "|": lambda a, b: a | b,
    "&": lambda a, b: a & b,
    "-": lambda a, b: a - b,
    "^": lambda a, b: a ^ b,
    "union": lambda a, b: a.union(b, b),
    "intersection": lambda a, b: a.intersection(b, b),
    "difference": lambda a, b: a.difference(b),
}
QUESTIONS = {
    "==": lambda a, b: a == b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    "issubset": lambda a, b: a.issubset(b),
    "issuperset": lambda a, b: a.issuperset(b),
    "isdisjoint": lambda a, b: a.isdisjoint(b),
}


@given(members, members)
def test_it_is_a_set(one, other):
    """Beside sets of its own kind, and beside Python's."""
    a, b = InOrder(one), InOrder(other)
    assert [*a] == list(dict.fromkeys(one)) and len(a) == len(set(one)) and bool(a) == bool(one)
    for right in (b, set(other)):
        for operation in OPERATIONS.values():
            assert set(operation(a, right)) == operation(set(one), set(other))
        for question in QUESTIONS.values():
            assert question(a, right) == question(set(one), set(other))
    assert set(one) | b == set(one) | set(other) and set(one) - b == set(one) - set(other)
    changed = a.copy()
    changed.update(other, ["more"])
    changed |= {"and"}
    assert [*changed] == list(dict.fromkeys([*one, *other, "more", "and"]))
    changed -= InOrder(other)
    assert set(changed) == ({*one} | {"more", "and"}) - {*other}


def test_members_come_and_go():
    found = InOrder("abc")
    found.add("b")
    found.remove("a")
    found.discard("nobody")
    found.add("a")
    assert [*found] == ["b", "c", "a"] and repr(found) == "InOrder(['b', 'c', 'a'])"
    assert (found.pop(), [*found]) == ("b", ["c", "a"])


def test_a_package_makes_them_meanwhile_and_nothing_else_does(monkeypatch):
    inside, outside = types.ModuleType("pack.inner"), types.ModuleType("packed")
    monkeypatch.setitem(sys.modules, "pack.inner", inside)
    monkeypatch.setitem(sys.modules, "packed", outside)
    for module in (inside, outside):
        exec("def made(): return set('cab')", vars(module))
    with sets_of("pack"):
        assert [*inside.made()] == ["c", "a", "b"] and type(outside.made()) is set
    assert type(inside.made()) is set
