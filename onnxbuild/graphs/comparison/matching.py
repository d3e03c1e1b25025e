"""Which node of one graph is which of another, by structure alone; names of nodes count where nothing else tells.

Nodes that compute the same, or whose results are used in the same way, are one node. Between such pairs matches spread
to neighbours, the surest first, as a person would follow two printed graphs with two fingers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator
from itertools import chain, product
from math import inf
from typing import NamedTuple

from onnxbuild.graphs.comparison import bodies
from onnxbuild.graphs.comparison.bodies import Body

MANY = 4096  # pairs of takers of one value, of which each is looked at


class Marks(NamedTuple):
    """One side: its body, and for each node numbers of what it computes and what becomes of that, with and without the
    content of weights.
    """

    body: Body
    given: dict[str, Hashable]  # of the inputs and of what is around: equal where it is the same on both sides
    outputs: dict[str, Hashable]
    weights: dict[str, int]  # of each weight: equal where the content is
    computes: list[int]
    shaped: list[int]
    becomes: list[int]
    used: list[int]
    labels: list[int]


class Pairs:
    """The nodes that are on both sides: `there` from the one to the other, `back` the other way round."""

    def __init__(self, one: Marks, other: Marks) -> None:
        self.one, self.other = one, other
        self.there: dict[int, int] = {}
        self.back: dict[int, int] = {}

    def add(self, a: int, b: int) -> None:
        """Two nodes are one."""
        self.there[a], self.back[b] = b, a

    def is_one(self, a: str, b: str) -> bool:
        """Whether two values are one: given as one, or the same result of one node, or of others that do the same."""
        return self.token(0, a) == self.token(1, b)

    def origins(self, side: int, name: str) -> set[str]:
        """The values that one comes from through nodes of one side only: weights, and what both sides may have."""
        body, taken = ((self.one.body, self.there), (self.other.body, self.back))[side]
        found: set[str] = set()
        seen = {""}
        left = [name]
        while left:
            one = left.pop()
            if one in seen:
                continue
            seen.add(one)
            made = body.maker.get(one)
            if made is not None and made[0] not in taken:
                left += body.takes[made[0]].values()
            else:
                found.add(one)
        return found

    def token(self, side: int, name: str) -> Hashable:
        """What a value is, equal where it is one on both sides: given, a result of nodes that are one, or a weight."""
        marks = (self.one, self.other)[side]
        if name in marks.given:
            return marks.given[name]
        if name in marks.weights:
            return ("weight", marks.weights[name])
        index, slot = marks.body.maker.get(name, (-1, -1))
        before = self.back.get(index) if side else index
        if before is None or before not in self.there:
            return ("own", side, name)
        return ("node", self.one.computes[before], slot)


def match(one: Marks, other: Marks) -> Pairs:
    """The pairs of nodes of two bodies."""
    pairs = Pairs(one, other)
    for mark in _SURE:
        _by(pairs, mark)
    for mark in _SURE_OF_ONE:
        _by(pairs, mark, most=1)
    _spread(pairs)
    for mark in _LIKELY:
        if _by(pairs, mark):
            _spread(pairs)
    while _by_origin(pairs):
        _spread(pairs)
    return pairs


def _by_origin(pairs: Pairs) -> bool:
    """Match nodes that do the same to the same values, behind nodes that are on one side only."""
    origins: dict[tuple[int, int], Hashable] = {}
    for side, (marks, taken) in enumerate(((pairs.one, pairs.there), (pairs.other, pairs.back))):
        for index in range(len(marks.body.nodes)):
            if index not in taken:
                found = [
                    (slot, frozenset(pairs.token(side, one) for one in pairs.origins(side, name)))
                    for slot, name in marks.body.takes[index].items()
                ]
                origins[id(marks), index] = (marks.labels[index], tuple(found)) if found else None
    return _by(pairs, lambda marks, index: origins[id(marks), index])


def _weights(marks: Marks, index: int) -> tuple[str, ...]:
    return marks.body.weights_of[index]


def _is_of_module(name: str) -> bool:
    """Whether a weight's name is a module's and a parameter's, "layer1.0.weight", and nothing that was numbered."""
    module, dot, parameter = name.rpartition(".")
    return bool(module and dot and parameter.isidentifier() and "::" not in name)


def _around(marks: Marks, index: int) -> Hashable:
    """A node with its neighbours' operators on both sides."""
    body, node = marks.body, marks.body.nodes[index]
    before = tuple(marks.labels[body.maker[name][0]] if name in body.maker else None for name in node.input)
    after = tuple(
        tuple(sorted((marks.labels[taker], slot) for taker, slot in body.takers.get(name, ()))) for name in node.output
    )
    return (marks.labels[index], before, after) if any(after) or any(x is not None for x in before) else None


_Mark = Callable[[Marks, int], Hashable]  # None where it tells nothing
_SURE: tuple[_Mark, ...] = (
    lambda m, i: (m.computes[i], m.becomes[i]),
    lambda m, i: (m.computes[i], m.used[i], _weights(m, i)),
    lambda m, i: (m.shaped[i], m.becomes[i], _weights(m, i)),
    lambda m, i: (m.shaped[i], m.used[i], _weights(m, i)),
    lambda m, i: (m.shaped[i], m.used[i]),
    lambda m, i: m.computes[i],
)
_SURE_OF_ONE: tuple[_Mark, ...] = (  # where several have one, what is around them tells more
    lambda m, i: (m.labels[i], tuple(m.weights[w] for w in _weights(m, i))) if _weights(m, i) else None,
    lambda m, i: m.becomes[i] if m.becomes[i] != bodies.UNUSED else None,
    lambda m, i: (m.labels[i], _weights(m, i)) if any(map(_is_of_module, _weights(m, i))) else None,
)
_LIKELY: tuple[_Mark, ...] = (
    lambda m, i: (m.shaped[i], _weights(m, i)) if _weights(m, i) else None,
    lambda m, i: (m.used[i], _weights(m, i)) if m.used[i] != bodies.UNUSED and _weights(m, i) else None,
    lambda m, i: (m.body.ops[i], _weights(m, i)) if _weights(m, i) else None,
    _around,
    lambda m, i: (m.labels[i], m.body.nodes[i].name) if m.body.nodes[i].name else None,
)


def _by(pairs: Pairs, mark: _Mark, most: float = inf) -> bool:
    """Match what one mark tells apart: as many on one side as on the other, those of one name first, then in order."""
    groups: dict[Hashable, tuple[list[int], list[int]]] = {}
    for side, (marks, taken) in enumerate(((pairs.one, pairs.there), (pairs.other, pairs.back))):
        for index in range(len(marks.body.nodes)):
            if index not in taken and (key := mark(marks, index)) is not None:
                groups.setdefault(key, ([], []))[side].append(index)
    found = False
    for left, right in groups.values():
        if len(left) == len(right) <= most:
            found = True
            for a, b in _in_order(pairs, left, right):
                pairs.add(a, b)
    return found


def _in_order(pairs: Pairs, left: list[int], right: list[int]) -> Iterator[tuple[int, int]]:
    """Nodes that nothing else tells apart: those of one name, then one after the other."""
    named = {pairs.other.body.nodes[b].name: b for b in reversed(right)}
    same = {a: b for a in left if (b := named.pop(pairs.one.body.nodes[a].name, None)) is not None}
    chosen = set(same.values())
    yield from same.items()
    yield from zip((a for a in left if a not in same), (b for b in right if b not in chosen), strict=True)


def _spread(pairs: Pairs) -> None:
    """Match nodes of one operator between which values run as between nodes that are matched, the surest first."""
    heap: list[tuple[int, int, int, int]] = []

    def look(a: int, b: int) -> None:
        if a in pairs.there or b in pairs.back:
            return
        if (score := _score(pairs, a, b)) > 0:
            heapq.heappush(heap, (-score, abs(a - b), a, b))

    there = {given: name for name, given in pairs.other.given.items()}
    begun = [_takers(pairs, name, there.get(given, "")) for name, given in pairs.one.given.items()]
    begun += [_neighbours(pairs, a, b) for a, b in pairs.there.items()]
    for x, y in chain.from_iterable(begun):
        look(x, y)
    while heap:
        _, _, a, b = heapq.heappop(heap)
        if a not in pairs.there and b not in pairs.back:
            pairs.add(a, b)
            for x, y in _neighbours(pairs, a, b):
                look(x, y)


def _neighbours(pairs: Pairs, a: int, b: int) -> Iterator[tuple[int, int]]:
    """The pairs of makers of the same input, and of takers of the same output, of two nodes that are one."""
    one, other = pairs.one.body, pairs.other.body
    for slot in one.takes[a].keys() & other.takes[b].keys():
        made, makes = one.maker.get(one.takes[a][slot]), other.maker.get(other.takes[b][slot])
        if made and makes and made[1] == makes[1]:
            yield made[0], makes[0]
    for name, name_there in zip(one.nodes[a].output, other.nodes[b].output, strict=False):
        yield from _takers(pairs, name, name_there)


def _takers(pairs: Pairs, a: str, b: str) -> Iterator[tuple[int, int]]:
    """The takers of two values in one slot that are not matched yet; of very many the first with the first, and so on."""
    ours = [one for one in pairs.one.body.takers.get(a, ()) if one[0] not in pairs.there]
    theirs = [one for one in pairs.other.body.takers.get(b, ()) if one[0] not in pairs.back]
    every = product(ours, theirs) if len(ours) * len(theirs) <= MANY else zip(ours, theirs, strict=False)
    yield from ((x, y) for (x, slot), (y, slot_there) in every if slot == slot_there)


def _score(pairs: Pairs, a: int, b: int) -> int:
    """How surely two nodes are one; 0 where they have different operators."""
    one, other = pairs.one.body, pairs.other.body
    node, node_there = one.nodes[a], other.nodes[b]
    if one.ops[a] != other.ops[b]:
        return 0
    taken, taken_there = one.takes[a], other.takes[b]
    score = 0
    for slot in taken.keys() & taken_there.keys():
        x, y = taken[slot], taken_there[slot]
        score += 4 if pairs.is_one(x, y) else int(_is_behind(pairs, x, y))
    for x, y in zip(node.output, node_there.output, strict=False):
        ours = {(pairs.there[taker], slot) for taker, slot in one.takers.get(x, ()) if taker in pairs.there}
        score += 4 * len(ours.intersection(other.takers.get(y, ())))
        score += 4 * (x in pairs.one.outputs and pairs.one.outputs[x] == pairs.other.outputs.get(y))
    score += 2 * (pairs.one.labels[a] == pairs.other.labels[b])
    score += 2 * (bool(one.weights_of[a]) and one.weights_of[a] == other.weights_of[b])
    return score + int(node.name == node_there.name)


def _is_behind(pairs: Pairs, a: str, b: str) -> bool:
    """Whether one of two values is made of the other by a single node of one side."""
    before, after = (body.maker.get(name) for body, name in ((pairs.one.body, a), (pairs.other.body, b)))
    if after is not None and after[0] not in pairs.back:
        return any(pairs.is_one(a, name) for name in pairs.other.body.takes[after[0]].values())
    if before is not None and before[0] not in pairs.there:
        return any(pairs.is_one(name, b) for name in pairs.one.body.takes[before[0]].values())
    return False
