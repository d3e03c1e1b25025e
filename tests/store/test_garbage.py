"""What the collector chooses to remove, on stores of every shape; `test_cache` has it remove that."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from onnxbuild.store import garbage, leases
from onnxbuild.store.garbage import Content, Held, Item, Policy
from onnxbuild.store.leases import Holder
from onnxbuild.store.traces import Latest

REFS = [f"{digit}{digit}/{digit * 62}" for digit in "abcdef"]
TIMES = st.integers(0, 9).map(lambda hours: hours * leases.GRACE_NS)


@st.composite
def contents(draw):
    sized = draw(st.dictionaries(st.sampled_from(REFS), st.tuples(st.integers(1, 50), TIMES)))
    stored = {ref: Item(Path(ref), size, time_ns) for ref, (size, time_ns) in sized.items()}
    places = draw(st.lists(st.tuples(st.sampled_from("klm"), st.sampled_from("123")), unique=True))
    held = []
    for key, name in places:
        refs = draw(st.lists(st.sampled_from(sorted(stored)), unique=True)) if stored else []
        held.append(Held(Item(Path(f"{key}/{name}"), 1, draw(TIMES)), f"{key}/{name}", tuple(refs)))
    rooted = draw(st.lists(st.sampled_from([one.place for one in held]), unique=True)) if held else []
    latest = [Latest("r", "", {}, {str(number): place for number, place in enumerate(rooted)})]
    running = [
        Holder(1, "", "", since, frozenset(keys))
        for since, keys in draw(st.lists(st.tuples(TIMES, st.lists(st.sampled_from("klm"))), max_size=2))
    ]
    return Content(held, stored, latest, running, [], [])


@given(contents(), st.none() | st.integers(0, 100), st.none() | TIMES)
def test_whatever_is_kept_has_all_it_needs_and_no_more_goes_than_must(content, max_bytes, unused_since_ns):
    chosen = garbage.choose(content, Policy(max_bytes, unused_since_ns))
    kept = [held for held in content.traces if held not in chosen.traces]
    gone = {item.path for item in chosen.objects}

    assert not any(content.objects[ref].path in gone for held in kept for ref in held.refs)
    assert not {held.place for held in chosen.traces} & set(content.latest[0].traces.values())
    for holder in content.running:
        assert not any(held.place[0] in holder.keys for held in chosen.traces)
        used = [held.item for held in chosen.traces] + chosen.objects
        assert all(item.time_ns < holder.since_ns for item in used)
    assert chosen.bytes_left == content.bytes - chosen.bytes
    if not content.running:
        needed = {ref for held in kept for ref in held.refs}
        assert {item.path for ref, item in content.objects.items() if ref not in needed} == gone
    if max_bytes is not None and chosen.bytes_left > max_bytes:
        assert not garbage._unprotected(
            Content(kept, content.objects, content.latest, content.running, [], []), _young(content)
        )
    for one, other in itertools.product(chosen.traces, kept):
        if other in garbage._unprotected(content, _young(content)):
            assert (one.item.time_ns, one.place) <= (other.item.time_ns, other.place), (
                "the least recently used go first"
            )


def _young(content: Content) -> int | None:
    since = [holder.since_ns for holder in content.running]
    return min(since) - leases.GRACE_NS if since else None
