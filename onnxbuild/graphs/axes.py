"""Declared output axes held against the sizes that outputs really have: what a graph is published as has to be true.

Works on plain data: cases with the sizes of their dimensions, and the shapes that outputs had there. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from onnxbuild.graphs import dimensions

SHOWN = 4  # sizes named before "..."
FACTORS = range(2, 65)  # tried where an axis may be a multiple or a part of a dimension


class Size(NamedTuple):
    """The size of one axis in one case; `dims` are the sizes of the case's dimensions, related ones among them."""

    case: str
    dims: Mapping[str, int]
    size: int


class Wrong(NamedTuple):
    """What a recipe declares of a graph and isn't so, and what to write instead, where that is known.

    `undeclared` is the output and the axis where nothing is declared, and several sizes were seen.
    """

    fact: str
    hint: str = ""
    undeclared: tuple[str, int] | None = None


def problems(
    declared: Mapping[str, Mapping[str, str]], related: Mapping[str, str], cases: Sequence[Mapping[str, Any]]
) -> list[Wrong]:
    """Everything that the recipe says of the outputs' axes and that some case contradicts.

    `declared` are the outputs' dynamic axes, `related` the dimensions that are expressions of others, a case is
    `{"name", "dims", "outputs": {name: {"shape"}}}`. An axis named after a dimension of the inputs has its size in every
    case; a name that only outputs have has one size wherever it occurs in a case; any other axis has one size over all
    cases.
    """
    found: list[Wrong] = []
    relations = {name: dimensions.parse(text) for name, text in related.items()}
    with_dims = [{**case, "dims": _all_dims(case["dims"], relations)} for case in cases]
    for output in cases[0]["outputs"] if cases else ():
        found += _of_output(output, declared.get(output, {}), related, with_dims)
    return found + list(_own_names(declared, with_dims))


def _of_output(
    output: str, axes: Mapping[str, str], related: Mapping[str, str], cases: Sequence[Mapping[str, Any]]
) -> Iterator[Wrong]:
    shapes = [case["outputs"][output]["shape"] for case in cases]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        at = "; ".join(f"{len(shape)} at {case['name']}" for case, shape in zip(cases, shapes, strict=True))
        yield Wrong(f"output '{output}' has several ranks: {at}", "an output of a graph has one rank")
        return
    for beyond, dim in axes.items():
        if int(beyond) >= len(shapes[0]):
            fact = f"output '{output}' has rank {len(shapes[0])}, so there is no axis {beyond} ('{dim}')"
            yield Wrong(fact, f"take it out of export.dynamic_axes.{output}")
    for axis in range(len(shapes[0])):
        seen = [Size(case["name"], case["dims"], shape[axis]) for case, shape in zip(cases, shapes, strict=True)]
        wrong = _of_axis(output, axis, axes.get(str(axis)), related, seen)
        if wrong is not None:
            yield wrong


def _of_axis(output: str, axis: int, dim: str | None, related: Mapping[str, str], seen: list[Size]) -> Wrong | None:
    where = f"output '{output}', axis {axis}"
    if dim is None:
        if len({one.size for one in seen}) == 1:
            return None
        means = expression(seen, related)
        fact = f"{where} is not declared dynamic and has several sizes: {_sizes(seen)}"
        return Wrong(_with(fact, means), _to_declare(output, axis, means, seen), (output, axis))
    if dim not in seen[0].dims or all(one.size == one.dims[dim] for one in seen):
        return None  # a name of its own is looked at with the other outputs
    means = expression(seen, related)
    rule = f"{dim} = {related[dim]}" if dim in related else f"'{dim}'"
    fact = f"{where} is declared {rule} and is not: {_sizes([one for one in seen if one.size != one.dims[dim]])}"
    return Wrong(_with(fact, means), _to_declare(output, axis, means, seen))


def _own_names(declared: Mapping[str, Mapping[str, str]], cases: Sequence[Mapping[str, Any]]) -> Iterator[Wrong]:
    """Names that only outputs have: one size wherever they occur in a case."""
    told = set()
    for case in cases:
        first: dict[str, tuple[str, str, int]] = {}
        for output, axes in declared.items():
            shape = case["outputs"].get(output, {"shape": []})["shape"]
            for axis, dim in axes.items():
                if dim in case["dims"] or dim in told or int(axis) >= len(shape):
                    continue
                name, number, size = first.setdefault(dim, (output, axis, shape[int(axis)]))
                if size != shape[int(axis)]:
                    told.add(dim)
                    yield Wrong(
                        f"the dimension '{dim}' has two sizes at {case['name']}: {size} on axis {number} of output "
                        f"'{name}', {shape[int(axis)]} on axis {axis} of output '{output}'",
                        "one dimension has one size; give one of the axes another name",
                    )


def published(
    signature: Mapping[str, Sequence[Mapping[str, Any]]], seen: Iterable[tuple[Mapping[str, Any], str, Sequence[int]]]
) -> list[str]:
    """Where a graph says another shape of an output than it has; `seen` is the case, the output and its shape there.

    `signature` is `interface.signature`'s. A dimension's name stands for the size that the inputs have there; a name
    that no input has, and what is no expression of such names, says nothing.
    """
    outputs = {value["name"]: value["shape"] for value in signature["outputs"]}
    found: dict[tuple[str, int], str] = {}
    for case, output, real in seen:
        said, bound = outputs.get(output), _bound(signature["inputs"], case["shapes"])
        if said is None or len(said) != len(real):
            continue
        for axis, (one, size) in enumerate(zip(said, real, strict=True)):
            expected = _at(one, bound)
            if expected is not None and expected != size:
                fact = f"the graph says {one!r} of output '{output}', axis {axis}, which is {size} at {case['name']}"
                found.setdefault((output, axis), fact)
    return list(found.values())


def _bound(inputs: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The sizes of the names that a graph's inputs have, in a case; without those that stand for two sizes."""
    sizes: dict[str, set[int]] = {}
    for value in inputs:
        for one, size in zip(value["shape"] or (), shapes.get(value["name"], ()), strict=False):
            if isinstance(one, str):
                sizes.setdefault(one, set()).add(size)
    return {name: min(found) for name, found in sizes.items() if len(found) == 1}


def _at(said: int | str | None, bound: Mapping[str, int]) -> int | None:
    """The size that an axis is said to have; None where nothing is said."""
    if not isinstance(said, str):
        return said
    if said in bound:
        return bound[said]
    parsed = dimensions.known(said)
    if parsed is None or not all(name in bound for name in dimensions.names(parsed)):
        return None
    return dimensions.size(parsed, bound)


def relation(works: Sequence[Mapping[str, int]], fails: Sequence[Mapping[str, int]]) -> str:
    """What the sizes of all cases that work have in common and those of none that fails: "total: past + sequence".

    "" where there is nothing of the kind.
    """
    for kind in (_sums, _candidates):
        for dim in works[0] if works else ():
            others = [other for other in works[0] if other != dim]
            seen = [Size("", case, case[dim]) for case in works]
            for text in kind(others, seen):
                parsed = dimensions.parse(text)
                if _holds(text, seen) and not any(dimensions.size(parsed, case) == case[dim] for case in fails):
                    return f"{dim}: {text}"
    return ""


def _sums(dims: Sequence[str], _: Sequence[Size]) -> Iterator[str]:
    yield from (f"{one} + {other}" for one, other in combinations(dims, 2))


def expression(seen: Sequence[Size], related: Iterable[str] = ()) -> str:
    """What an axis is in every case, of the case's dimensions: "batch", "3*batch", "past + sequence"; "" for unknown.

    Said only where the axis has two sizes or more: any number is a multiple of something.
    """
    if len({one.size for one in seen}) < 2:
        return ""
    dims = [dim for dim in seen[0].dims if len({one.dims[dim] for one in seen}) > 1]
    free = [dim for dim in dims if dim not in related]
    return next((text for text in (*dims, *_candidates(free, seen)) if _holds(text, seen)), "")


def _candidates(dims: Sequence[str], seen: Sequence[Size]) -> Iterator[str]:
    """Expressions to try, the simplest first."""
    yield from dims
    for dim in dims:
        yield from (f"{factor}*{dim}" for factor in FACTORS)
        yield from (f"{dim} // {factor}" for factor in FACTORS)
        first = seen[0].size - seen[0].dims[dim]
        yield f"{dim} + {first}" if first > 0 else f"{dim} - {-first}"
    for one, other in combinations(dims, 2):
        yield from (f"{one} + {other}", f"{one}*{other}", f"{one} - {other}", f"{other} - {one}")
    for dim in dims:
        yield from _lines(dim, seen)
    for one, other in combinations(dims, 2):
        product = seen[0].dims[one] * seen[0].dims[other]
        if product and seen[0].size % product == 0:
            yield f"{seen[0].size // product}*{one}*{other}"


def _lines(dim: str, seen: Sequence[Size]) -> Iterator[str]:
    """The expression a*dim + b through two of the points, and (dim + b) // a."""
    if len({one.dims[dim] for one in seen}) < 3:
        return  # through two points there is always a line
    first = seen[0]
    second = next((one for one in seen if one.dims[dim] != first.dims[dim]), first)
    run, rise = second.dims[dim] - first.dims[dim], second.size - first.size
    if run and rise and rise % run == 0:
        factor = rise // run
        rest = first.size - factor * first.dims[dim]
        if factor > 0 and rest:
            yield f"{factor}*{dim} {'+' if rest > 0 else '-'} {abs(rest)}"
    for divisor in range(2, 9):
        yield from (f"({dim} + {rest}) // {divisor}" for rest in range(1, divisor))
        yield from (f"({dim} - {rest}) // {divisor}" for rest in range(1, divisor))
        yield from (f"({dim} - {rest}) // {divisor} + 1" for rest in range(1, divisor + 1))


def _holds(text: str, seen: Sequence[Size]) -> bool:
    parsed = dimensions.parse(text)
    return all(dimensions.size(parsed, one.dims) == one.size for one in seen)


def _all_dims(dims: Mapping[str, int], relations: Mapping[str, dimensions.Expression]) -> dict[str, int]:
    found = dimensions.resolve(relations, dims)
    return {**dims, **{name: size for name, size in found.items() if size is not None}}


def _with(fact: str, means: str) -> str:
    return f"{fact}; it is {means if not means.isidentifier() else repr(means)}" if means else fact


def _to_declare(output: str, axis: int, means: str, seen: Sequence[Size]) -> str:
    """What to write in the recipe so that it is true."""
    if not means and len({one.size for one in seen}) == 1:
        return f"take axis {axis} of {output} out of export.dynamic_axes: it is {seen[0].size} in every case"
    if means in seen[0].dims:
        return f"write export.dynamic_axes: {{{output}: {{{axis}: {means}}}}}"
    own = f"{output if output.isidentifier() else 'axis'}_{axis}"
    declare = f"give it a name of its own: export.dynamic_axes: {{{output}: {{{axis}: {own}}}}}"
    return f"{declare}, and export.dims: {{{own}: {means}}}" if means else f"{declare} (its size depends on the data)"


def _sizes(seen: Sequence[Size]) -> str:
    """The sizes seen, each with the first case that had it."""
    first: dict[int, str] = {}
    for one in seen:
        first.setdefault(one.size, one.case)
    told = [f"{size} at {case}" for size, case in first.items()]
    return ", ".join(told[:SHOWN]) + (" ..." if len(told) > SHOWN else "")
