"""Two graphs, or two functions: their nodes matched, then told what was added, removed and changed, and of which weights.

What follows from an added or removed node is not told again: a node behind an extra Identity takes another value only
where that value comes from elsewhere, too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from onnxbuild.graphs import interface, lines, tensors
from onnxbuild.graphs.comparison import attributes, bodies, places, weights
from onnxbuild.graphs.comparison.bodies import Body, Ids
from onnxbuild.graphs.comparison.matching import Marks, Pairs, match
from onnxbuild.graphs.comparison.weights import Held
from onnxbuild.graphs.tensors import graphs_of
from onnxbuild.report.changes import Fact, Node, NodeChange, TensorChange

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnxbuild.graphs.lines import Lines


Sides: TypeAlias = "tuple[Lines | None, Lines | None]"


class Values(NamedTuple):
    """Which input and which output is which, by name; and what is given from around, equal where it is the same."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    around: tuple[dict[str, Hashable], dict[str, Hashable]] = ({}, {})


class Told:
    """What was found, over all graphs of a model; `lines` trace the nodes of each side back, where they can be."""

    def __init__(self, lines: Sides = (None, None)) -> None:
        self.lines = lines
        self.matched = 0
        self.removed: list[Node] = []
        self.added: list[Node] = []
        self.changed: list[NodeChange] = []
        self.tensors: list[TensorChange] = []


def paired_interface(one: ModelProto, other: ModelProto) -> Values:
    """The inputs and outputs of two models: by name, and where as many are left of the same types, in order."""
    signatures = [interface.signature(model) for model in (one, other)]
    inputs, outputs = (_paired(*(signature[side] for signature in signatures)) for side in ("inputs", "outputs"))
    return Values(inputs, outputs)


def by_place(one: Body, other: Body, around: tuple[dict[str, Hashable], dict[str, Hashable]] = ({}, {})) -> Values:
    """The inputs and outputs of two subgraphs or functions: their names are their own business."""
    return Values(
        dict(zip(one.inputs, other.inputs, strict=False)), dict(zip(one.outputs, other.outputs, strict=False)), around
    )


def _paired(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, str]:
    names = {value["name"] for value in old} & {value["name"] for value in new}
    pairs = {name: name for name in (value["name"] for value in old) if name in names}
    left = [[value for value in side if value["name"] not in names] for side in (old, new)]
    if [value["dtype"] for value in left[0]] == [value["dtype"] for value in left[1]]:
        pairs |= {a["name"]: b["name"] for a, b in zip(*left, strict=True)}
    return pairs


def compare_bodies(both: tuple[Body, Body], folders: tuple[Path, Path], values: Values, told: Told) -> Values:
    """Tell what is different between two bodies; gives which of their inputs and outputs turned out to be which."""
    ids = Ids()
    classes = weights.classes(*both, folders, ids)
    pairs = match(
        *(_marks(body, side, values, known, ids) for side, (body, known) in enumerate(zip(both, classes, strict=True)))
    )
    compared = _Compared(pairs, folders, classes)
    told.matched += len(pairs.there)
    told.removed += compared.unmatched(0, told.lines[0])
    told.added += compared.unmatched(1, told.lines[1])
    inner = bool(both[1].place)  # whose outputs are known by their places, and no others' by their names
    outputs = {a: b for a, b in values.outputs.items() if inner or a == b or compared.is_fed_alike(a, b)}
    for a, b in pairs.there.items():
        facts = list(compared.facts(a, b))
        if facts:
            told.changed.append(NodeChange(places.node(both[1], b, told.lines[1]), facts))
        _subgraphs(compared, (a, b), told)
    told.tensors += compared.tensors()
    told.changed += compared.outputs(outputs)
    return Values(values.inputs, outputs)


def _marks(body: Body, side: int, values: Values, classes: Mapping[str, int], ids: Ids) -> Marks:
    """What tells the nodes of one side apart."""
    inputs = {name: ("input", known) for known, name in _sided(values.inputs, side)}
    given: dict[str, Hashable] = {**values.around[side], **inputs}
    given |= {name: ("own input", side, name) for name in body.inputs if name not in inputs}
    outputs: dict[str, Hashable] = {name: ("output", known) for known, name in _sided(values.outputs, side)}
    outputs |= {name: ("own output", side) for name in body.outputs if name not in outputs}
    shapes = {name: ids(bodies.weight(tensor, exact=False)) for name, tensor in body.weights.items()}
    known = {name: ids(value) for name, value in given.items()}
    computes = bodies.forward(body, known, classes, ids, exact=True)
    return Marks(
        body,
        given,
        outputs,
        dict(classes),
        computes,
        bodies.forward(body, known, shapes, ids, exact=False),
        bodies.backward(body, outputs, classes, ids, exact=True),
        bodies.backward(body, outputs, shapes, ids, exact=False),
        [ids(bodies.label(node, exact=True)) for node in body.nodes],
    )


def _sided(pairs: Mapping[str, str], side: int) -> Iterator[tuple[str, str]]:
    """What a paired value goes by on both sides, and its name on one of them."""
    yield from ((a, (a, b)[side]) for a, b in pairs.items())


def _subgraphs(compared: _Compared, pair: tuple[int, int], told: Told) -> None:
    """Tell what is different in the subgraphs of a node that is on both sides."""
    one, other = compared.pairs.one, compared.pairs.other
    a, b = pair
    if one.computes[a] == other.computes[b]:
        return
    inner = [
        {x.name: graphs_of(x) for x in marks.body.nodes[index].attribute if graphs_of(x)}
        for marks, index in ((one, a), (other, b))
    ]
    around = compared.around() if inner[0] else ({}, {})
    for name in inner[0].keys() & inner[1].keys():
        for old, new in zip(inner[0][name], inner[1][name], strict=False):
            node = other.body.nodes[b]
            place = ", ".join(filter(None, (other.body.place, f"{name} of {lines.op(node)} '{places.called(node)}'")))
            both = (Body(old, place), Body(new, place))
            compare_bodies(both, compared.folders, by_place(*both, around), told)


def _elements(tensor: Any) -> int:
    return tensors.elements(tensor)  # a sparse one has dims, too


class _Compared:
    """Two bodies with their nodes and weights matched."""

    def __init__(
        self, pairs: Pairs, folders: tuple[Path, Path], classes: tuple[Mapping[str, int], Mapping[str, int]]
    ) -> None:
        self.pairs, self.folders, self._classes = pairs, folders, classes
        self._bodies = (pairs.one.body, pairs.other.body)
        self.weights = weights.which(*self._bodies, classes, self._used())
        one, other = self._bodies
        self._lost = (one.weights.keys() - self.weights.keys(), other.weights.keys() - self.weights.values())

    def _used(self) -> Iterator[tuple[str, str]]:
        """Weights that nodes which are one take in one place."""
        one, other = self._bodies
        for a, b in self.pairs.there.items():
            for x, y in zip(one.nodes[a].input, other.nodes[b].input, strict=False):
                if x in one.weights and y in other.weights:
                    yield x, y

    def unmatched(self, side: int, lines: Lines | None) -> list[Node]:
        """The nodes that are on one side only, traced back by that side's `lines`."""
        taken: Mapping[int, int] = self.pairs.back if side else self.pairs.there
        body = self._bodies[side]
        return [places.node(body, index, lines) for index in range(len(body.nodes)) if index not in taken]

    def facts(self, a: int, b: int) -> Iterator[Fact]:
        """What is different in a node that is on both sides, subgraphs left out."""
        one, other = self._bodies
        node, new = one.nodes[a], other.nodes[b]
        yield from attributes.facts(node, new, self.folders)
        for slot in range(max(len(node.input), len(new.input))):
            x, y = (names[slot] if slot < len(names) else "" for names in (node.input, new.input))
            if not self.is_fed_alike(x, y):
                yield Fact(f"input {slot}", self._source(0, x), self._source(1, y))
        counts = [sum(map(bool, side.output)) for side in (node, new)]
        if counts[0] != counts[1]:
            yield Fact("outputs", str(counts[0]), str(counts[1]))

    def outputs(self, pairs: Mapping[str, str]) -> list[NodeChange]:
        """Outputs of the graph that are another node's now."""
        found = []
        for a, b in pairs.items():
            if not self.is_fed_alike(a, b):
                fact = Fact("taken from", self._source(0, a), self._source(1, b))
                found.append(NodeChange(Node("output", b, body=self._bodies[1].place), [fact]))
        return found

    def is_fed_alike(self, a: str, b: str) -> bool:
        """Whether two values are one, or the difference is all in nodes and weights that were added or removed."""
        if self._is_one(a, b):
            return True
        if not a or not b:
            return False
        old, new = self._sources(0, a), self._sources(1, b)
        return not old or not new or any(self._is_one(x, y) for x in old for y in new)

    def _is_one(self, a: str, b: str) -> bool:
        one, other = self._bodies
        if a in one.weights and b in other.weights:
            return self.weights.get(a) == b or self._classes[0][a] == self._classes[1][b]
        if a in one.weights or b in other.weights:
            return False
        return (not a and not b) or self.pairs.is_one(a, b)

    def _sources(self, side: int, name: str) -> set[str]:
        """The values on both sides that one comes from, through nodes that are on one side only."""
        return self.pairs.origins(side, name) - self._lost[side]

    def _source(self, side: int, name: str) -> str | None:
        """Where a value comes from, in words."""
        return places.source(self._bodies[side], name) if name else None

    def tensors(self) -> list[TensorChange]:
        """The weights that are not the same, renamed ones included."""
        one, other = self._bodies
        found = []
        for a, tensor in one.weights.items():
            b = self.weights.get(a)
            if b is None:
                found.append(TensorChange(a, weights.kind(tensor), None))
            elif self._classes[0][a] == self._classes[1][b]:
                if a != b:
                    kind = weights.kind(tensor)
                    found.append(TensorChange(b, kind, kind, a, _elements(other.weights[b]), 0))
            else:
                pair = (Held(tensor, self.folders[0]), Held(other.weights[b], self.folders[1]))
                found.append(weights.changed(b, *pair, was=a if a != b else ""))
        added = other.weights.keys() - self.weights.values()
        found += [TensorChange(b, None, weights.kind(other.weights[b])) for b in other.weights if b in added]
        return found

    def around(self) -> tuple[dict[str, Hashable], dict[str, Hashable]]:
        """What subgraphs may take from here, equal where it is the same."""
        sides: tuple[dict[str, Hashable], dict[str, Hashable]] = ({}, {})
        for number, marks in enumerate((self.pairs.one, self.pairs.other)):
            every = (*marks.given, *marks.body.maker)
            sides[number].update({name: self.pairs.token(number, name) for name in every})
            weights = self.weights.values() if number else self.weights
            sides[number].update({name: ("own weight", number, name) for name in marks.weights})
            sides[number].update({name: ("weight", a) for a, name in zip(self.weights, weights, strict=True)})
        return sides
