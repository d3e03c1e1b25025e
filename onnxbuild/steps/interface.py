"""What a step must have, what it takes, and what the steps share of saying why they can't."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.steps.building import Builder

    Array: TypeAlias = np.ndarray[Any, Any]

_CODES = {"float16": "<e", "float32": "<f", "float64": "<d"}  # of `struct`, which is light
FLOATS = ("float16", "float32", "float64")
OPSET = 13  # from which Softmax, ArgMax and the others mean what the definitions here say


class Tensor(Struct, frozen=True):
    """What is known of a value: its dtype by numpy's name, and of each axis its size or the dimension's name."""

    dtype: str
    shape: list[int | str]


class UnfitError(Exception):
    """A step can't take what it is given. `step` is its number in the chain, None where none is to blame; `output` is the
    output that the chain takes.
    """

    def __init__(self, fact: str, hint: str = "") -> None:
        super().__init__(fact)
        self.fact, self.hint = fact, hint
        self.step: int | None = None
        self.output = ""


class StepModule(Protocol):
    """A step: one module in `steps/`.

    `Options` is the type of what follows its name in a recipe. `VERSION` is raised whenever the code would give another
    graph or other numbers. `DISTRIBUTIONS` are the packages, besides numpy, whose versions decide what `compute` gives.
    `takes(options)` names the values that it takes besides the one before it: other outputs of the model.
    `gives` is the rule: what comes out for what goes in, that value first; `least` is the smallest size of each dimension.
    It raises UnfitError. `compute` is the definition, with numpy. `nodes` adds the same to a graph, whose values have
    the names `taken`, and gives those of its own results.
    """

    Options: Any
    VERSION: int
    DISTRIBUTIONS: tuple[str, ...]

    def takes(self, options: Any) -> Sequence[str]: ...
    def gives(self, taken: Sequence[Tensor], options: Any, least: Mapping[str, int]) -> list[Tensor]: ...
    def compute(self, taken: Sequence[Array], options: Any) -> list[Array]: ...
    def nodes(self, graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Any) -> list[str]: ...


def nothing_else(options: Any) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """`takes` of a step that takes only the value before it."""
    return ()


def axis_of(tensor: Tensor, axis: int) -> int:
    """An axis counted from 0. Raises UnfitError where the value has none such."""
    rank = len(tensor.shape)
    if not -rank <= axis < rank:
        raise UnfitError(f"there is no axis {axis} in {shown(tensor)}", "axes are counted from 0, and -1 is the last")
    return axis % rank


def require_elements(tensor: Tensor, axis: int, least: Mapping[str, int]) -> None:
    """Raises UnfitError for an axis, counted from 0, that may have no elements."""
    size = tensor.shape[axis]
    if isinstance(size, str) and least.get(size) == 0:
        raise UnfitError(f"axis {axis} may have the size 0 ({size})", f"let {size} start at 1")


def require_dtype(tensor: Tensor, dtypes: Sequence[str]) -> None:
    """Raises UnfitError for any other dtype than these."""
    if tensor.dtype not in dtypes:
        fact = f"it takes {' or '.join(dtypes)}, and gets {shown(tensor)}"
        raise UnfitError(fact, f"put {{cast: {'float32' if 'float32' in dtypes else dtypes[0]}}} before it")


def require_numbers(tensor: Tensor, name: str, values: Sequence[float], *, nonzero: bool = False) -> None:
    """Raises UnfitError for a number that is infinite in a value's dtype, or with `nonzero` for one that becomes 0."""
    for value in values:
        try:
            (kept,) = struct.unpack(_CODES[tensor.dtype], struct.pack(_CODES[tensor.dtype], value))
        except OverflowError:
            kept = math.inf
        if math.isinf(kept) or (nonzero and value and not kept):
            fact = f"{name} {value:g} is {'0' if not kept else 'infinite'} in {tensor.dtype}"
            raise UnfitError(fact, f"put {{cast: {'float32' if tensor.dtype == 'float16' else 'float64'}}} before it")


def fits(array: Array, wanted: Tensor) -> bool:
    """Whether an array is of a dtype and a shape, whatever the sizes of axes that are known by name."""
    return array.dtype.name == wanted.dtype and _is_shaped(array, wanted)


def _is_shaped(array: Array, wanted: Tensor) -> bool:
    return array.ndim == len(wanted.shape) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(wanted.shape, array.shape, strict=True)
    )


def shown(tensor: Tensor) -> str:
    """As a reader writes it: float32 [batch, 3, 224, 224]."""
    return f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def known_as(axis: int, tensor: Tensor) -> int:
    """The size of an axis that has one. Raises UnfitError where it is dynamic."""
    size = tensor.shape[axis]
    if isinstance(size, str):
        raise UnfitError(f"axis {axis} of {shown(tensor)} is dynamic", "it needs an axis of one size")
    return size
