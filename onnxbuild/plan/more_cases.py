"""Cases beyond those that dimensions ask for: sizes between, and values that a description leaves out. Pure.

Some faults are seen at few sizes of a range (a rounding that goes the other way), some at few values (a negative number
divided by `//`, a flag that was always true). What is cheap is tried as well, within a stated share of what is tried
anyway; what is dear is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.plan import cases
from onnxbuild.recipe.types import Data, Dim, Export, Input, Parity

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

MOST = 64  # sizes between, of all dimensions together
SHARE = 0.25  # of the elements that the other cases hold: so much the sizes between may add
FLOOR = 65_536  # elements that they may add however small the others are
INDEX = 16  # elements that an integer counts for: it is mostly an index, and stands for a row of numbers
GOLDEN = 0.6180339887498949  # its multiples, less their whole parts, are spread evenly however many there are
FEW = 4  # elements of an input that may well be the same in every case by chance
SEVERAL = 4  # inputs that get cases of their own
LARGE, LARGE_SCALAR = 100_000, 1_000  # a scalar may well be a size


def derive(export: Export, parity: Parity, taken: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The cases to try besides those that are `taken`. One that is `optional` is dropped where the model itself fails."""
    if not parity.derive:
        return []
    found = [*_between(export, parity, taken), *_other_values(export, taken)]
    names = {case["name"] for case in taken}
    return [case for case in found if case["name"] not in names]


def remarks(export: Export, taken: Sequence[Mapping[str, Json]]) -> list[str]:
    """What a reader has to know of inputs that are the same in every case."""
    said = []
    for name, spec in export.inputs.items():
        values = {_only_value(case["data"].get(name) or msgspec.to_builtins(spec.data or Data())) for case in taken}
        if len(values) == 1 and None not in values:
            said.append(
                f"input '{name}' is {values.pop()} in every case, so what becomes of other values is not compared: "
                f"where it may have others, name a case with them under parity.cases"
            )
    return said


def _between(export: Export, parity: Parity, taken: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """As many sizes of each dimension that nothing was tried at as fit, over the whole range, the others small."""
    example = cases.example_dims(export)
    tried = {dim: {case["dims"][dim] for case in taken} for dim in example}
    small = {dim: min([size for size in tried[dim] if size] or [example[dim]]) for dim in example}
    left = max(FLOOR, SHARE * sum(_weight(export, case) for case in taken))
    rows = [_untried(dim, export.limits(dim), tried[dim], parity.seed) for dim in example]
    found: list[dict[str, Json]] = []
    for number, row in enumerate(zip_longest(*rows)):
        for dim, size in zip(example, row, strict=True):
            if size is None or len(found) == MOST:
                continue
            others = example if number % 2 else small
            if cases.impossible(export, {**others, dim: size}):
                continue
            case = cases.case_at(export, {**others, dim: size})
            if (weight := _weight(export, case)) <= left:
                left -= weight
                found.append(case)
    return found


def _untried(dim: str, limits: Dim, tried: set[int], seed: int) -> list[int]:
    """Sizes that are not tried yet, at most MOST, spread over the range; one without an end ends at twice the largest."""
    step = limits.multiple_of
    low = max(1, -(-limits.min // step))
    high = (2 * max(tried) if limits.max is msgspec.UNSET else limits.max) // step
    count = high - low + 1
    start = sum(dim.encode()) * GOLDEN + seed * 0.7548776662466927
    if count <= 4 * MOST:
        places: Sequence[int] = sorted(range(count), key=lambda place: (place * GOLDEN + start) % 1.0)
    else:
        places = [int(count * ((number * GOLDEN + start) % 1.0)) for number in range(2 * MOST)]
    sizes = dict.fromkeys((low + place) * step for place in places)
    return [size for size in sizes if size not in tried][:MOST]


def _weight(export: Export, case: Mapping[str, Json]) -> int:
    """The elements of a case's inputs, each integer counted for what it stands for."""
    return sum(
        prod(shape) * (1 if "float" in export.inputs[name].dtype else INDEX) for name, shape in case["shapes"].items()
    )


def _other_values(export: Export, taken: Sequence[Mapping[str, Json]]) -> Iterator[dict[str, Json]]:
    """Negative values alone of floats without a range (what is padded with zeros, or cut off at zero, hides among others),
    negative and large ones of such integers, both ends of what few values may hide.
    """
    varied, most = 0, max(FLOOR, SHARE * sum(_weight(export, case) for case in taken))
    for name, spec in export.inputs.items():
        values = list(_values_of(spec)) if varied < SEVERAL else []
        varied += bool(values)
        for what, data in values:
            case = cases.resolve(export, f"{name}={what}", {})
            if "float" in spec.dtype and _weight(export, case) > most:
                continue
            yield {**case, "data": {name: data}, "varies": name, "optional": spec.data is msgspec.UNSET}


def _values_of(spec: Input) -> Iterator[tuple[str, Json]]:
    """What to try of one input besides what is drawn for every case, each with its name."""
    elements = prod(spec.shape)
    if not elements:
        return  # there is no other value of nothing
    if spec.data is msgspec.UNSET and "float" in spec.dtype:
        yield "negative", {"uniform": {"low": -2.0, "high": 0.0}}
    elif spec.data is msgspec.UNSET and spec.dtype.startswith("int"):
        yield "signed", {"signed": {"most": LARGE if spec.shape else LARGE_SCALAR}}
    elif elements <= FEW and ("int" in spec.dtype or spec.dtype == "bool"):
        low, high = (0, 2) if spec.dtype == "bool" else (0, 10)
        if spec.data is not msgspec.UNSET:
            low, high = (
                (0, 0) if spec.data.integers is msgspec.UNSET else (spec.data.integers.low, spec.data.integers.high)
            )
        if high - low > 1:
            yield f"{low}", {"constant": low}
            yield f"{high - 1}", {"constant": high - 1}


def _only_value(described: Mapping[str, Json]) -> str | None:
    """The one value that data of this description has, in words; None where it may have several."""
    for kind, options in described.items():
        if kind == "constant":
            return repr(options) if isinstance(options, str) else f"{options:g}"
        if kind == "integers" and options["high"] - options["low"] == 1:
            return f"{options['low']:g}"
        if (kind == "uniform" and options["low"] == options["high"]) or (kind == "normal" and not options["std"]):
            return f"{options.get('low', options.get('mean', 0.0)):g}"
    return None
