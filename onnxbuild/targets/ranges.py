"""The sizes that each axis of the inputs may have, of what a recipe declares: the least, the example's, the most.

A related dimension ("past + sequence") gets the least and the most that its expression can give; where a dimension stands
in it twice, they may be wider than what is ever met. Pure; knows no target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from onnxbuild.contracts import Json, Shapes
from onnxbuild.graphs import dimensions
from onnxbuild.graphs.dimensions import Expression


class Range(NamedTuple):
    """The sizes of one axis; `most` is None where no upper bound is declared."""

    least: int
    example: int
    most: int | None


_Extent = tuple[float, float]  # of whole numbers, and infinity
_ANY: _Extent = (0, math.inf)


def of_inputs(shapes: Shapes) -> dict[str, list[Range]]:
    """For each input the range of each of its axes; a static axis has its own size alone."""
    extents = _extents(shapes)
    found = {}
    for name, declared in shapes.inputs.items():
        dims = {int(axis): dim for axis, dim in shapes.dynamic_axes.get(name, {}).items()}
        sizes = enumerate(declared["shape"])
        found[name] = [
            _range(extents[dims[axis]], size) if axis in dims else Range(size, size, size) for axis, size in sizes
        ]
    return found


def unbounded(shapes: Shapes) -> list[str]:
    """The free dimensions of the inputs for which no `max` is declared, each once, in order."""
    of = [dim for name in shapes.inputs for dim in shapes.dynamic_axes.get(name, {}).values()]
    relations = _relations(shapes)
    free = [name for dim in of for name in (dimensions.names(relations[dim]) if dim in relations else [dim])]
    return [dim for dim in dict.fromkeys(free) if dim not in relations and _free(shapes.dims.get(dim))[1] == math.inf]


def _range(extent: _Extent, example: int) -> Range:
    least, most = extent
    return Range(int(max(least, 0)), example, None if most == math.inf else int(most))


def _extents(shapes: Shapes) -> dict[str, _Extent]:
    """The least and the largest size of every dimension."""
    relations = _relations(shapes)
    names = {dim for axes in shapes.dynamic_axes.values() for dim in axes.values()}
    names |= {name for expression in relations.values() for name in dimensions.names(expression)}
    found = {name: _free(shapes.dims.get(name)) for name in {*names, *shapes.dims} - relations.keys()}
    for _ in relations:  # each may rest on one that comes later
        for name, expression in relations.items():
            if all(other in found for other in dimensions.names(expression)):
                found[name] = _extent(expression, found)
    return {**dict.fromkeys(relations, _ANY), **found}


def _relations(shapes: Shapes) -> dict[str, Expression]:
    known = {name: dimensions.known(dim) for name, dim in shapes.dims.items() if isinstance(dim, str)}
    return {name: expression for name, expression in known.items() if expression is not None}


def _free(limits: Json) -> _Extent:
    limits = limits if isinstance(limits, dict) else {}
    step = limits.get("multiple_of", 1)
    most = limits.get("max", math.inf)
    return -(-limits.get("min", 1) // step) * step, most if most == math.inf else most // step * step


def _extent(expression: Expression, of: Mapping[str, _Extent]) -> _Extent:
    """What an expression can give at least and at most, by interval arithmetic."""
    if isinstance(expression, int):
        return expression, expression
    if isinstance(expression, str):
        return of[expression]
    sign, (low, high), (least, most) = expression[0], _extent(expression[1], of), _extent(expression[2], of)
    if sign == "+":
        return low + least, high + most
    if sign == "-":
        return low - most, high - least
    if sign == "//":
        least = max(least, 1)  # no size is divided by 0, and none is below it
        ends = [_quotient(one, other) for one in (low, high) for other in (least, max(most, least))]
    else:
        ends = [0 if 0 in (one, other) else one * other for one in (low, high) for other in (least, most)]
    return min(ends), max(ends)


def _quotient(one: float, other: float) -> float:
    if math.isinf(one):
        return one
    return (-1 if one < 0 else 0) if math.isinf(other) else one // other
