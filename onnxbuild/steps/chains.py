"""Steps one after the other: by their rules, with numpy, or as nodes of a graph. Pure but for the last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from onnxbuild.contracts import Json
from onnxbuild.steps.interface import Tensor, UnfitError
from onnxbuild.steps.table import STEPS

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays
    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

Steps: TypeAlias = "Sequence[tuple[str, Any]]"  # each by name, with its options


def read(section: Iterable[Mapping[str, Json]]) -> Steps:
    """The steps of a stage's options: [{"cast": "float32"}, ...]."""
    pairs = [pair for one in section for pair in one.items()]
    return [(name, msgspec.convert(options, STEPS[name].Options)) for name, options in pairs]


def taken_by(steps: Steps) -> list[str]:
    """The other outputs that some step takes."""
    return [name for step, options in steps for name in STEPS[step].takes(options)]


def in_order(steps: Mapping[str, Steps], outputs: Iterable[str]) -> list[str]:
    """The outputs that steps take, in the order in which those are done: such as take other outputs besides come last."""
    return sorted((output for output in outputs if steps.get(output)), key=lambda output: bool(taken_by(steps[output])))


def gives(first: Tensor, steps: Steps, others: Mapping[str, Tensor], least: Mapping[str, int]) -> list[Tensor]:
    """What comes out of the last step. `others` are outputs by name. Raises UnfitError, with the number of the step."""
    values = [first]
    for number, (name, options) in enumerate(steps):
        try:
            values = STEPS[name].gives([_only(values), *_named(STEPS[name].takes(options), others)], options, least)
        except UnfitError as error:
            error.step = number
            raise
    return values


def compute(first: Array, steps: Steps, others: Arrays) -> list[Array]:
    """The same with arrays."""
    values = [first]
    for name, options in steps:
        values = STEPS[name].compute([values[0], *(others[other] for other in STEPS[name].takes(options))], options)
    return values


def nodes(
    graph: Builder, first: tuple[str, Tensor], steps: Steps, others: Mapping[str, tuple[str, Tensor]]
) -> list[str]:
    """The same as nodes; values are the name in the graph and what is known of it. Gives the names of the results."""
    names, values = [first[0]], [first[1]]
    stem = graph.stem
    for name, options in steps:
        graph.stem = f"{stem}/{name}"
        more = [others[other] for other in STEPS[name].takes(options)]
        taken, tensors = [names[0], *(one for one, _ in more)], [values[0], *(one for _, one in more)]
        names, values = STEPS[name].nodes(graph, taken, tensors, options), STEPS[name].gives(tensors, options, {})
    graph.stem = stem
    return names


def _only(values: Sequence[Tensor]) -> Tensor:
    if len(values) != 1:
        raise UnfitError(f"the step before it gives {len(values)} values", "make that one the last")
    return values[0]


def _named(names: Iterable[str], others: Mapping[str, Tensor]) -> list[Tensor]:
    for name in names:
        if name not in others:
            before = "it belongs into append, where there are other outputs"
            hint = "name it under append, with steps: [] where it is taken as it is" if others else before
            raise UnfitError(f"there is no other output '{name}' here", hint)
    return [others[name] for name in names]
