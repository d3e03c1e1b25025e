"""Which sizes and data the model is tried at: the parity cases of a recipe. Pure; knows no arrays and no files.

For every dynamic dimension of the inputs: its min, the example, an odd size that is neither, and its max, combined
pairwise, so that any two sizes of any two dimensions meet in some case. Failures of shape handling come from one size
or from two together (a flatten that mixes batch and sequence); all combinations would cost many times as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations, count
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from onnxbuild.recipe import relations
from onnxbuild.recipe.types import Data, Dim, Export, Parity

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

Row: TypeAlias = tuple[int, ...]  # one size for each dimension, in the dimensions' order
Pair: TypeAlias = tuple[int, int, int, int]  # dimension, its size, a later dimension, its size


def derive(export: Export, parity: Parity) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    """The cases of a recipe, the example's first, and the derived ones that are too big, each with the reason.

    A case is `{"name", "dims", "shapes": {input: sizes}, "dynamic": {input: axes}, "data": {input: Data}}`; `data` has
    only what differs from the inputs' own. However big, a second size of every dimension is among them: at one alone a
    size that was baked in can't be told from a dynamic one.
    """
    example = example_dims(export)
    named = [resolve(export, name, case.dims, case.data) for name, case in parity.cases.items()]
    cases, left_out = [], []
    for row in _rows(export, parity, example):
        dims = dict(zip(example, row, strict=True))
        if impossible(export, dims):
            continue
        case = case_at(export, dims)
        elements = _elements(case)
        if elements > parity.max_elements and dims != example:
            reason = f"{elements:,} input elements, more than parity.max_elements ({parity.max_elements:,})"
            left_out.append({"name": case["name"], "dims": dims, "reason": reason})
        else:
            cases.append(case)
    if parity.derive:
        others = [{dim: size} for dim, (_, size) in at_one_size(export, [*cases, *named]).items()]
        cases += [case_at(export, dims) for dims in others if not impossible(export, dims)]
    taken = {case["name"] for case in [*cases, *named]}
    left_out = [case for case in left_out if case["name"] not in taken]
    taken = {case["name"] for case in named}
    return [case for case in cases if case["name"] not in taken] + named, left_out


def at_one_size(export: Export, cases: Sequence[Mapping[str, Json]]) -> dict[str, tuple[int, int]]:
    """The dynamic dimensions of the inputs that these cases have at one size alone: that size, and the smallest other.

    Empty inputs prove nothing, so a size of 0 counts where there is no other one.
    """
    met = {dim: {case["dims"][dim] for case in cases} for dim in example_dims(export)}
    found = {}
    for dim, seen in met.items():
        other = _smallest_other(export.limits(dim), seen)
        if len(seen - {0}) < 2 and other is not None:
            found[dim] = (max(seen), other)
    return found


def remarks(export: Export, parity: Parity, cases: list[dict[str, Json]], left_out: list[dict[str, Json]]) -> list[str]:
    """What a reader has to know of the sizes that nothing was compared at."""
    said = [
        f"{dim} is dynamic and is compared at {dim}={size} alone, where a size that was baked in looks right: "
        f"give another under parity.cases, such as {{dims: {{{dim}: {other}}}}}, or leave parity.derive at true"
        for dim, (size, other) in at_one_size(export, cases).items()
    ]
    if left_out:
        lost = [
            f"{dim}={', '.join(map(str, sorted(sizes)))}"
            for dim in example_dims(export)
            if (sizes := {case["dims"][dim] for case in left_out} - {case["dims"][dim] for case in cases})
        ]
        several = f"{len(left_out)} cases are" if len(left_out) > 1 else "1 case is"
        what = f"nothing is compared at {'; '.join(lost)}" if lost else "all of the sizes are compared in other cases"
        said.append(f"{several} left out, larger than parity.max_elements ({parity.max_elements:,}): {what}")
    return said


def resolve(
    export: Export, name: str, dims: Mapping[str, int], data: Mapping[str, Data] | None = None
) -> dict[str, Json]:
    """One case at these sizes, the example's where `dims` leaves one out; related dimensions follow from them."""
    sizes, _ = relations.all_sizes(export, {dim: dims.get(dim, size) for dim, size in example_dims(export).items()})
    axes = {input_: _axes(export, input_) for input_ in export.inputs}
    shapes = {
        input_: [sizes[axes[input_][axis]] if axis in axes[input_] else size for axis, size in enumerate(spec.shape)]
        for input_, spec in export.inputs.items()
    }
    return {
        "name": name,
        "dims": sizes,
        "shapes": shapes,
        "dynamic": {input_: list(of_input) for input_, of_input in axes.items() if of_input},
        "data": {input_: msgspec.to_builtins(spec) for input_, spec in (data or {}).items()},
    }


def case_at(export: Export, dims: Mapping[str, int]) -> dict[str, Json]:
    """The case at these sizes, named by all of them, with the inputs' own data."""
    case = resolve(export, "", dims)
    return {**case, "name": name_of({dim: size for dim, size in case["dims"].items() if dim not in export.related})}


def name_of(dims: Mapping[str, int]) -> str:
    """Sizes as "batch=2,seq=16"; "example" for a model whose inputs have no dynamic dimension."""
    return ",".join(f"{dim}={size}" for dim, size in dims.items()) or "example"


def example_dims(export: Export) -> dict[str, int]:
    """The example's size of every dimension that may be chosen, in the order in which the inputs show them."""
    return relations.free(export)


def sizes(dim: Dim, example: int, avoid: Iterable[int] = ()) -> list[int]:
    """The sizes to try, the example first: then min, an odd one that is neither, and max where there is one.

    The odd one is the smallest `multiple_of` x prime in range that is none of the others nor in `avoid` (the sizes of
    other dimensions: with one size for two dimensions, axes that were swapped would not show).
    """
    step = dim.multiple_of
    low = -(-dim.min // step) * step
    high = None if dim.max is msgspec.UNSET else dim.max // step * step
    ends = [low] if high is None else [low, high] if low <= high else []
    found = {example, *ends}
    odd = _odd(low, high, step, {*found, *avoid}) or _odd(low, high, step, found)
    return [example, *sorted({*found, odd or example} - {example})]


def _smallest_other(dim: Dim, seen: set[int]) -> int | None:
    """The smallest legal size that is not among these; 0 only where there is no other."""
    step = dim.multiple_of
    low = -(-dim.min // step) * step
    sizes = [size for size in range(low, low + 3 * step, step) if dim.max is msgspec.UNSET or size <= dim.max]
    return next((size for size in [*filter(None, sizes), *sizes] if size not in seen), None)


def _odd(low: int, high: int | None, step: int, taken: set[int]) -> int:
    """The smallest step x prime (3 or more) in range and not taken, else any multiple that is neither, else 0."""
    spare = 0
    for factor in count(max(1, low // step)):
        size = factor * step
        if high is not None and size > high:
            return spare
        if size in taken:
            continue
        if factor >= 3 and all(factor % divisor for divisor in range(2, int(factor**0.5) + 1)):
            return size
        spare = spare or size
    return spare


def pairwise(values: list[list[int]]) -> list[Row]:
    """Rows that hold every pair of values of every two columns, the first value of each column in the first row.

    Greedy and deterministic: each row starts at the first pair that is missing and fills the other columns with
    whatever covers most of what is still missing.
    """
    if len(values) < 2:
        return [tuple(row) for row in ([[]] if not values else [[value] for value in values[0]])]
    rows = [tuple(column[0] for column in values)]
    covered = set(pairs_of(rows[0]))
    missing = dict.fromkeys(pair for pair in _all_pairs(values) if pair not in covered)
    while missing:
        i, a, j, b = next(iter(missing))
        row: dict[int, int] = {i: a, j: b}
        for column, options in enumerate(values):
            if column not in row:
                gains = [sum(_pair(column, option, k, v) in missing for k, v in row.items()) for option in options]
                row[column] = options[gains.index(max(gains))]
        rows.append(tuple(row[column] for column in range(len(values))))
        for pair in pairs_of(rows[-1]):
            missing.pop(pair, None)
    return rows


def pairs_of(row: Row) -> list[Pair]:
    """The pairs that a row covers; for a single column, its value paired with itself."""
    if len(row) == 1:
        return [(0, row[0], 0, row[0])]
    return [(i, row[i], j, row[j]) for i, j in combinations(range(len(row)), 2)]


def _rows(export: Export, parity: Parity, example: dict[str, int]) -> list[Row]:
    """The sizes of every derived case; a pair lost with a case too big is tried again beside the smallest sizes."""
    if not parity.derive:
        return [tuple(example.values())]
    values: list[list[int]] = []
    for dim, size in example.items():
        values.append(sizes(export.limits(dim), size, avoid=chain(*values)))
    rows = pairwise(values)

    def fits(row: Row) -> bool:
        dims = dict(zip(example, row, strict=True))
        return not impossible(export, dims) and _elements(resolve(export, "", dims)) <= parity.max_elements

    lost = [row for row in rows[1:] if not fits(row)]
    covered = {pair for row in rows if row not in lost for pair in pairs_of(row)}
    for pair in [pair for row in lost for pair in pairs_of(row)]:
        at = {pair[0]: pair[1], pair[2]: pair[3]}
        row = tuple(at.get(column, min(options)) for column, options in enumerate(values))
        if pair not in covered and fits(row):
            rows.append(row)
            covered.update(pairs_of(row))
    return rows


def impossible(export: Export, dims: Mapping[str, int]) -> str:
    """Why there is no such case: a dimension that follows from these would have no size."""
    return relations.all_sizes(export, {**example_dims(export), **dims})[1] if export.related else ""


def _all_pairs(values: list[list[int]]) -> list[Pair]:
    return [(i, a, j, b) for i, j in combinations(range(len(values)), 2) for a in values[i] for b in values[j]]


def _pair(i: int, a: int, j: int, b: int) -> Pair:
    return (i, a, j, b) if i < j else (j, b, i, a)


def _axes(export: Export, name: str) -> dict[int, str]:
    """The dynamic axes of an input, by number."""
    axes = {int(axis): dim for axis, dim in export.dynamic_axes.get(name, {}).items()}
    return dict(sorted(axes.items()))


def _elements(case: dict[str, Json]) -> int:
    return sum(prod(shape) for shape in case["shapes"].values())
