"""What was found of a model's axes, in a recipe's words: dimensions with names, relations, and what outputs have of them.

Imports torch only through `trials`; runs the model no further than its caller asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxbuild.contracts import Interface, Json, Value
from onnxbuild.graphs import axes as output_axes
from onnxbuild.graphs import dimensions
from onnxbuild.sources.pytorch.sizing import Axes, Group, Relation
from onnxbuild.sources.pytorch.trials import Output, Place, Trials

IMAGE = {4: {2: "height", 3: "width"}, 5: {2: "depth", 3: "height", 4: "width"}}  # by rank, channels being axis 1


@dataclass
class Proposal:
    """The dynamic dimensions of a model's inputs. `free` are those that may be chosen, with what their sizes are multiples
    of; `related` what others are of those, and their places; `limits` the smallest and the largest size of a free one.
    """

    trials: Trials
    free: dict[str, Group]
    related: dict[str, tuple[str, tuple[Place, ...]]] = field(default_factory=dict)
    limits: dict[str, dict[str, int]] = field(default_factory=dict)

    def base(self) -> dict[str, int]:
        """The example's size of every free dimension."""
        return {name: self.trials.sizes[group.places[0]] for name, group in self.free.items()}

    def changes(self, sizes: Mapping[str, int]) -> dict[Place, int] | None:
        """The sizes of all dynamic axes where free dimensions have these; None where a related one has no size then."""
        sizes = {**self.base(), **sizes}
        found = dimensions.resolve({name: dimensions.parse(text) for name, (text, _) in self.related.items()}, sizes)
        changed: dict[Place, int] = {}
        for name, (_, places) in self.related.items():
            size = found[name]
            if not size:
                return None
            changed |= dict.fromkeys(places, size)
        for name, group in self.free.items():
            changed |= dict.fromkeys(group.places, sizes[name])
        return changed

    def run(self, sizes: Mapping[str, int]) -> dict[str, Output] | None:
        """The outputs where free dimensions have these sizes; None where the model does not run there."""
        changes = self.changes(sizes)
        return None if changes is None else self.trials.run(changes)

    def why(self, sizes: Mapping[str, int]) -> str:
        """Why the model does not run there."""
        changes = self.changes(sizes)
        return "no such size" if changes is None else self.trials.why(changes)

    def fix(self, places: Sequence[Place]) -> list[str]:
        """Make the dimensions static that have one of these axes, and those that rest on them; gives their names."""
        gone = [name for name, group in self.free.items() if set(places) & set(group.places)]
        rest = [
            name
            for name, (text, there) in self.related.items()
            if set(places) & set(there) or set(gone) & set(dimensions.names(dimensions.parse(text)))
        ]
        for name in gone:
            del self.free[name]
            self.limits.pop(name, None)
        for name in rest:
            text, _ = self.related.pop(name)
            for other in dimensions.names(dimensions.parse(text)):
                if self.free.pop(other, None):
                    gone.append(other)
                    self.limits.pop(other, None)
        return [*gone, *rest]

    def axes(self) -> dict[str, dict[int, str]]:
        """The inputs' dynamic axes, by input and number."""
        found: dict[str, dict[int, str]] = {}
        named = {place: name for name, group in self.free.items() for place in group.places}
        named |= {place: name for name, (_, places) in self.related.items() for place in places}
        for (name, axis), dim in sorted(named.items(), key=lambda item: item[0][1]):
            found.setdefault(name, {})[axis] = dim
        return found

    def dims(self) -> dict[str, Json]:
        """The recipe's `dims`, of what inputs have."""
        found: dict[str, Json] = {}
        for name, group in self.free.items():
            found[name] = {**self.limits.get(name, {"min": 1})}
            if group.step > 1:
                found[name]["multiple_of"] = group.step
        return found | {name: text for name, (text, _) in self.related.items()}


def proposal(trials: Trials, found: Axes) -> Proposal:
    """The dimensions of what was found, named in the field's words."""
    dims = names(trials.example.inputs, [group.places for group in found.groups])
    free = dict(zip(dims, found.groups, strict=True))
    related: dict[str, tuple[str, tuple[Place, ...]]] = {}
    for relation in found.relations:
        text = _text(relation, dims)
        name = "total" if len(relation.terms) > 1 else own(relation.places[0])
        related[unused(name, {*dims, *related})] = (text, relation.places)
    return Proposal(trials, free, related)


def interface(made: Proposal, told: Mapping[str, str]) -> Interface:
    """What the model takes and gives. `told` are the outputs' names in the recipe, by the model's own."""
    inputs = []
    dynamic = made.axes()
    for name, spec in made.trials.example.inputs.items():
        shape = [dynamic.get(name, {}).get(axis, size) for axis, size in enumerate(spec["shape"])]
        inputs.append(Value(name, spec["dtype"], shape))
    dims = made.dims()
    outputs = [Value(name, made.trials.base[path].dtype, _shape(made, path, name, dims)) for path, name in told.items()]
    base = made.changes({}) or {}
    sizes = {dim: base[(name, axis)] for name, axes in dynamic.items() for axis, dim in axes.items()}
    return Interface(inputs, outputs, 0, dims, sizes, made.trials.example.arguments)


def output_names(trials: Trials) -> dict[str, str]:
    """The outputs' names in a recipe, by the model's own: those where it has some, else by their number."""
    return names_of(list(trials.base), trials.example.inputs, whole=not trials.left_out)


def names_of(paths: Sequence[str], inputs: Mapping[str, Any], *, whole: bool) -> dict[str, str]:
    """The names of outputs in a recipe, by their dotted paths; `whole` says that they are all that a model returns."""
    if [*paths] == [""]:
        return {"": unused("output", inputs)}
    unnamed = all(path.rpartition(".")[2].isdecimal() for path in paths)
    if (unnamed and whole) or set(paths) & set(inputs):
        return {path: unused(f"output_{number}", inputs) for number, path in enumerate(paths)}
    return {path: path for path in paths}


def _shape(made: Proposal, path: str, name: str, dims: Mapping[str, Json]) -> list[int | str | None]:
    """An output's shape, each axis a size, a dimension, what it is of dimensions, or a name where no rule was found."""
    seen = list(_seen(made))
    shape: list[int | str | None] = []
    for axis, size in enumerate(made.trials.base[path].shape):
        sizes = [output_axes.Size("", at, outputs[path].shape[axis]) for at, outputs in seen]
        if len({one.size for one in sizes}) == 1:
            shape.append(size)
            continue
        text = output_axes.expression(sizes, [other for other, dim in dims.items() if isinstance(dim, str)])
        shape.append(text or unused(own((name, axis)), dims))
    return shape


def _seen(made: Proposal) -> Iterator[tuple[dict[str, int], dict[str, Output]]]:
    """Every run whose sizes are of the proposed dimensions alone: their sizes, and what came out."""
    for sizes, outputs in made.trials.ran():
        dims = {name: sizes[group.places[0]] for name, group in made.free.items()}
        changes = made.changes(dims)
        if changes is not None and {**made.trials.sizes, **changes} == sizes:
            dims |= {name: changes[places[0]] for name, (_, places) in made.related.items()}
            yield dims, outputs


def names(inputs: Mapping[str, Json], groups: Sequence[Sequence[Place]]) -> list[str]:
    """A name for each group of axes, no two alike; `inputs` are described as in a recipe."""
    found: list[str] = []
    for places in groups:
        found.append(unused(_name(inputs, places, found), found))
    return found


def _name(inputs: Mapping[str, Json], places: Sequence[Place], taken: Sequence[str]) -> str:
    ranks = {name: len(inputs[name]["shape"]) for name, _ in places}
    if any(axis == 0 for _, axis in places) and (len(inputs) > 1 or max(ranks.values()) > 1) and "batch" not in taken:
        return "batch"
    first, axis = places[0]
    if first.startswith("past"):
        return "past"
    tokens = [name for name, at in places if at == 1 and ranks[name] == 2 and "int" in inputs[name]["dtype"]]
    if tokens:
        name = f"{'decoder_' if tokens[0].startswith('decoder_') else ''}sequence"
        return name if name not in taken else own((tokens[0], 1))
    image = IMAGE.get(ranks[first], {})
    if axis in image and "float" in inputs[first]["dtype"]:
        name = image[axis] if len({at for _, at in places}) == 1 else "side"
        return name if name not in taken else own((first, axis))
    return own((first, axis))


def own(place: Place) -> str:
    """A dimension's name after an axis, as a recipe can have it."""
    name = re.sub(r"\W", "_", place[0], flags=re.ASCII)
    return f"{name if not name[:1].isdigit() else f'axis_{name}'}_{place[1]}"


def unused(name: str, taken: Sequence[str] | Mapping[str, Json] | set[str]) -> str:
    """A name that is not taken: the name itself, or that with a number."""
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _text(relation: Relation, names: Sequence[str]) -> str:
    terms = [names[at] if factor == 1 else f"{factor}*{names[at]}" for at, factor in relation.terms]
    text = " + ".join(terms)
    return f"{text} {'+' if relation.rest > 0 else '-'} {abs(relation.rest)}" if relation.rest else text
