"""Which axes of a model's inputs are really dynamic, which of them move together, and what one is of others.

Finds it out by running the model at other sizes. Knows no names of dimensions and no ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch

from onnxbuild.sources.pytorch.trials import Place, Trials

STEPS = (1, 2, 4, 8, 16, 32, 64)  # what sizes may have to be multiples of
FACTORS = (1, 2, 3, 4)  # of another dimension, that an axis may be
FAMILIES = (
    "encoder_",
    "decoder_",
    "past",
    "cross_",
)  # names that begin so are of other sequences than those that don't


class Group(NamedTuple):
    """Axes of one size that can only change together; `step` is what their sizes are multiples of."""

    places: tuple[Place, ...]
    step: int = 1


class Relation(NamedTuple):
    """Axes whose size follows from those of groups: the sum of `terms` (the group's number, a factor), and `rest`."""

    places: tuple[Place, ...]
    terms: tuple[tuple[int, int], ...]
    rest: int = 0


class Axes(NamedTuple):
    """What was found of all axes; `fixed` says of each other one why it stays as it is."""

    groups: list[Group]
    relations: list[Relation]
    fixed: dict[Place, str]


def search(trials: Trials) -> Axes:
    """The axes that may change. Each was tried at two sizes more at least."""
    strides = _strides(trials.model)
    left = {place: size for place, size in trials.sizes.items() if size}
    held = _likely_sums(left)
    groups = _alone(trials, left, held, strides)
    relations = _related(trials, left, groups, held)
    groups += _alone(trials, left, set(), strides) if held & left.keys() else []
    return Axes(groups, relations, {place: _reason(trials, place) for place in left})


def _alone(trials: Trials, left: dict[Place, int], held: set[Place], strides: Sequence[int]) -> list[Group]:
    """The groups that change by themselves; their places are taken out of `left`."""
    groups = []
    for place in [place for place in left if place not in held]:
        for places in _proposals(place, {one: size for one, size in left.items() if one not in held}):
            step = _step(trials, places, strides)
            if step and not _is_idle(trials, places, step):
                groups.append(Group(places, step))
                for one in places:
                    del left[one]
                break
    return groups


def _proposals(place: Place, left: Mapping[Place, int]) -> Iterator[tuple[Place, ...]]:
    """Sets of axes to try with an axis, the likeliest first: those of its number in other inputs, which have its size."""
    if place not in left:
        return
    equal = [other for other, size in left.items() if size == left[place] and other != place]
    alike = [other for other in equal if _is_alike(place, other)]
    others = [other for other in equal if other[0] != place[0]]
    within = [other for other in equal if other[0] == place[0]]
    tried = [[place, *alike], [place], *([place, one] for one in others), [place, *others]]
    tried += [*([place, one] for one in within), [place, *equal]]
    yield from dict.fromkeys(tuple(sorted(places, key=list(left).index)) for places in tried)


def _is_alike(one: Place, other: Place) -> bool:
    """Whether two axes of one size are likely one dimension: the batch, or the places of one sequence."""
    if one[0] == other[0] or one[1] != other[1]:
        return False
    return one[1] == 0 or family(one[0]) == family(other[0])


def family(name: str) -> str:
    """Which of a model's sequences an input is of, by how its name begins."""
    return next((prefix for prefix in FAMILIES if name.startswith(prefix)), "")


def _step(trials: Trials, places: Sequence[Place], strides: Sequence[int]) -> int:
    """What the axes' sizes must be multiples of so that the model runs; 0 where they can't change together."""
    size = trials.sizes[places[0]]
    batch = all(axis == 0 for _, axis in places)
    for step in STEPS[:1] if batch else dict.fromkeys([*STEPS, *strides]):
        for sign in (1, -1):
            tried = [size + sign * step, size + sign * (3 if step == 1 else 2) * step]
            if step == 1 and tried[1] < 1:
                tried[1] = size - 2
            if size % step or min(tried) < 1:
                continue
            if all(trials.run(dict.fromkeys(places, one)) for one in tried):
                return step
    return 0


def _is_idle(trials: Trials, places: Sequence[Place], step: int) -> bool:
    """Whether the model takes more on these axes and makes nothing of it, so that they are not really dynamic."""
    size = trials.sizes[places[0]]
    shapes = {name: output.shape for name, output in trials.base.items()}
    for larger in (2 * size, size + 3 * step, size + 2 * step, size + step):
        if larger % step == 0 and (found := trials.run(dict.fromkeys(places, larger))):
            same = {name: output.shape for name, output in found.items()} == shapes
            return same and trials.idle(places, larger)
    return False  # it only takes less


def _strides(model: torch.nn.Module) -> list[int]:
    """The strides of convolutions that cut their input into patches, which sizes may have to be multiples of."""
    found = {
        module.stride[-1]
        for module in model.modules()
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d))
        and module.stride == module.kernel_size
    }
    return sorted(stride for stride in found if stride > 1)


def _likely_sums(left: Mapping[Place, int]) -> set[Place]:
    """Axes of masks that are as long as two other axes together: models may take them of any length, and mean that one."""
    return {
        (name, axis)
        for (name, axis), size in left.items()
        if "mask" in name
        and axis
        and any(
            one + other == size
            for (first, one), (second, other) in combinations(left.items(), 2)
            if name not in (first[0], second[0]) and first[1] and second[1] and first[0] != second[0]
        )
    }


def _related(trials: Trials, left: dict[Place, int], groups: list[Group], held: set[Place]) -> list[Relation]:
    """Axes that follow from others; those, where they are in no group yet, become one. Both are taken out of `left`.

    What can change alone follows from nothing, but for `held`.
    """
    found: list[Relation] = []
    for block in _blocks(left):
        alone = dict.fromkeys(block, trials.sizes[block[0]] + 1)
        if any(place not in left for place in block) or (not held & {*block} and trials.run(alone)):
            continue
        known = [group.places for group in groups]
        free = known + [other for other in _blocks(left) if other != block]
        movers = {other: factor for other in free if (factor := _factor(trials, other, block))}
        terms = _terms(trials, block, movers)
        if not terms:
            continue
        groups += [Group(other) for other in terms if other not in known]
        places = [group.places for group in groups]
        size, parts = trials.sizes[block[0]], {other: trials.sizes[other[0]] for other in terms}
        rest = size - sum(factor * parts[other] for other, factor in terms.items())
        found.append(Relation(block, tuple((places.index(other), factor) for other, factor in terms.items()), rest))
        for place in (*block, *(place for other in terms for place in other)):
            left.pop(place, None)
    return found


def _blocks(left: Mapping[Place, int]) -> list[tuple[Place, ...]]:
    """Axes not in any group, by number, size and family: what a cache of many layers has of each of them."""
    blocks: dict[tuple[int, int, str], list[Place]] = {}
    for (name, axis), size in left.items():
        if axis:
            blocks.setdefault((axis, size, family(name)), []).append((name, axis))
    masks = [tuple(places) for places in blocks.values() if any("mask" in name for name, _ in places)]
    return [*masks, *(tuple(places) for places in blocks.values() if tuple(places) not in masks)]


def _factor(trials: Trials, mover: Sequence[Place], follower: Sequence[Place]) -> int:
    """How many more a follower has to have for one more of what it follows; 0 where it does not follow it so."""
    start, followed = trials.sizes[mover[0]], trials.sizes[follower[0]]
    for factor in FACTORS:
        tried = [
            {**dict.fromkeys(mover, start + more), **dict.fromkeys(follower, followed + factor * more)}
            for more in (1, 3)
        ]
        if all(trials.run(changes) for changes in tried):
            return factor
    return 0


def _terms(
    trials: Trials, block: Sequence[Place], movers: Mapping[tuple[Place, ...], int]
) -> dict[tuple[Place, ...], int]:
    """What an axis is made of: two dimensions whose sum it is, else the one that it moves with, else nothing."""
    size = trials.sizes[block[0]]
    for one, other in combinations(movers, 2):
        if movers[one] == movers[other] == 1 and trials.sizes[one[0]] + trials.sizes[other[0]] == size:
            return {one: 1, other: 1}
    return dict([next(iter(movers.items()))]) if len(movers) == 1 else {}


def _reason(trials: Trials, place: Place) -> str:
    """Why an axis alone can't have one more."""
    return trials.why({place: trials.sizes[place] + 1}) or "what lies beyond changes nothing, or sizes have no rule"
