"""Dimensions that are expressions of others: which are free, what the example makes of them, what is wrong with them.

Pure: takes the recipe's types, gives sizes and findings. How an expression is read is `graphs.dimensions`'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from onnxbuild.graphs import dimensions
from onnxbuild.graphs.dimensions import Expression
from onnxbuild.recipe.findings import Finding, Path
from onnxbuild.recipe.types import Dim, Export
from onnxbuild.text.wording import did_you_mean

SEARCHED = 1 << 16  # sizes tried of a dimension that shows on no input axis


class Use(NamedTuple):
    """A dynamic axis of an input: the dimension's name and the example's size there."""

    input: str
    axis: int
    dim: str
    size: int


def uses(export: Export) -> list[Use]:
    """The dynamic axes of the inputs, by input and axis; those out of range left out."""
    return [
        Use(name, int(axis), dim, spec.shape[int(axis)])
        for name, spec in export.inputs.items()
        for axis, dim in sorted(export.dynamic_axes.get(name, {}).items(), key=lambda item: int(item[0]))
        if int(axis) < len(spec.shape)
    ]


def parsed(export: Export) -> dict[str, Expression]:
    """The dimensions that are expressions of others; text that is none is left out, `check` tells it."""
    found = {name: dimensions.known(text) for name, text in export.related.items()}
    return {name: expression for name, expression in found.items() if expression is not None}


def free(export: Export) -> dict[str, int]:
    """The example's size of every dimension that may be chosen, in the order in which the inputs show them.

    Last come those that show on no input axis, and whose example's size follows from a relation that does.
    """
    shown = _shown(export)
    relations = parsed(export)
    sizes = {dim: size for dim, size in shown.items() if dim not in export.related}
    for name, expression in relations.items():
        hidden = [other for other in dimensions.names(expression) if other not in sizes and other not in relations]
        if len(hidden) == 1 and name in shown and hidden[0] in export.dims:
            found = _solved(expression, shown[name], hidden[0], {**sizes, **shown}, export.limits(hidden[0]))
            sizes |= {} if found is None else {hidden[0]: found}
    return sizes


def all_sizes(export: Export, sizes: Mapping[str, int]) -> tuple[dict[str, int], str]:
    """The sizes of all dimensions where the free ones have these, and why there are no such sizes ("" where there are)."""
    found = dict(sizes)
    for name, size in dimensions.resolve(parsed(export), sizes).items():
        if size is None:
            return found, f"there is no size {name} = {export.related[name]} there"
        found[name] = size
    return found, ""


def check(export: Export) -> Iterator[Finding]:
    """Expressions that can't be read, rest on nothing or on themselves, and an example that contradicts one."""
    relations = parsed(export)
    shown = _shown(export)
    fine = True
    for name, text in export.related.items():
        path: Path = ("export", "dims", name)
        for finding in _of_one(export, path, name, text, relations, shown):
            fine = False
            yield finding
    if fine:
        yield from _of_example(export, relations)


def is_used(export: Export, dim: str) -> bool:
    """Whether an expression names a dimension."""
    return any(dim in dimensions.names(expression) for expression in parsed(export).values())


def _of_one(
    export: Export, path: Path, name: str, text: str, relations: Mapping[str, Expression], shown: Mapping[str, int]
) -> Iterator[Finding]:
    try:
        expression = dimensions.parse(text)
    except dimensions.MalformedError as error:
        yield Finding(path, error.fact, error.hint)
        return
    names = dimensions.names(expression)
    if not names:
        yield Finding(path, f"'{text}' names no dimension", "an axis of one size is static: leave it out")
    for other in names:
        if other in export.related and other not in relations:
            return  # told of the other one
        if other not in shown and other not in export.dims:
            hint = did_you_mean(other, dict.fromkeys(one for one in (*shown, *export.dims) if one != name))
            yield Finding(path, f"unknown dimension '{other}' in '{text}'", hint or "name it on an input's axis")
    if _rests_on_itself(name, relations):
        yield Finding(path, f"'{name}' rests on itself: {text}", "express it by dimensions that inputs have")


def _of_example(export: Export, relations: Mapping[str, Expression]) -> Iterator[Finding]:
    sizes = free(export)
    lost = [
        other
        for expression in relations.values()
        for other in dimensions.names(expression)
        if other not in sizes and other not in relations
    ]
    for dim in dict.fromkeys(lost):
        fact = f"the example's size of '{dim}' can't be told: it is on no input axis"
        yield Finding(
            ("export", "dims", dim), fact, "name it on an input's axis, or express it by one that is", key=True
        )
    if lost:
        return
    found = dimensions.resolve(relations, sizes)
    for use in uses(export):
        dim, size = use.dim, use.size
        if dim in relations and found[dim] != size:
            path: Path = ("export", "inputs", use.input, "shape", use.axis)
            parts = {other: sizes.get(other, found.get(other)) for other in dimensions.names(relations[dim])}
            at = ", ".join(f"{other}={value}" for other, value in parts.items())
            fact = f"the example's size {size} on axis {use.axis} ('{dim}') is not {export.related[dim]} at {at}"
            yield Finding(
                path, fact, f"make it {found[dim]}" if found[dim] is not None else "change the example's sizes"
            )
    for dim, value in found.items():
        if value is None:
            fact = f"'{export.related[dim]}' gives no size at the example's sizes"
            yield Finding(("export", "dims", dim), fact, "change the example's sizes, or the expression")


def _solved(expression: Expression, target: int, hidden: str, sizes: Mapping[str, int], limits: Dim) -> int | None:
    """The smallest legal size of the one unknown dimension at which an expression has a size; None for none."""
    if any(other != hidden and other not in sizes for other in dimensions.names(expression)):
        return None
    high = limits.max if isinstance(limits.max, int) else SEARCHED
    step = limits.multiple_of
    for size in range(-(-limits.min // step) * step, min(high, SEARCHED) + 1, step):
        if dimensions.size(expression, {**sizes, hidden: size}) == target:
            return size
    return None


def _rests_on_itself(name: str, relations: Mapping[str, Expression]) -> bool:
    seen: set[str] = set()
    after = [name]
    while after:
        for other in dimensions.names(relations.get(after.pop(), 0)):
            if other == name:
                return True
            if other in relations and other not in seen:
                seen.add(other)
                after.append(other)
    return False


def _shown(export: Export) -> dict[str, int]:
    """The example's size of every dimension that an input's axis has, in that order."""
    found: dict[str, int] = {}
    for use in uses(export):
        found.setdefault(use.dim, use.size)
    return found
