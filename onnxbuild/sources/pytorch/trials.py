"""A model run at sizes of one's own choosing: does it run there, and of what shapes are its outputs.

Imports torch at module level; knows nothing of recipes but how one describes an input, and of no ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from onnxbuild.contracts import Json
from onnxbuild.errors import StageError
from onnxbuild.parity import samples
from onnxbuild.sources import failures
from onnxbuild.sources.pytorch import numbers
from onnxbuild.sources.pytorch.adapter import Adapter, as_tensor, flatten

Place: TypeAlias = tuple[str, int]  # an input's axis

MOST = 600  # runs of one model; a search that has no end would be a fault of ours
ELEMENTS = 1 << 24  # of all inputs together, at which a model is still tried
LONGEST = 200  # characters told of an exception


class Example(NamedTuple):
    """Inputs as a recipe describes them ({"dtype", "shape"} and perhaps "data", by name), how `forward` is called with
    them where that is to be said, and sentences on where they come from.
    """

    inputs: dict[str, Json]
    arguments: Json = None
    looked: tuple[str, ...] = ()


class Output(NamedTuple):
    """A tensor that came out: its dtype, its shape, and whether all of it is finite."""

    dtype: str
    shape: tuple[int, ...]
    finite: bool


class Trials:
    """Runs of one model, each sizes but once. `base` are the outputs at the example's own sizes, by the model's names."""

    def __init__(self, model: torch.nn.Module, example: Example, root: Path) -> None:
        """Runs it once. Raises whatever the model does, and StageError where it can't be called so or gives no tensor."""
        self.model, self.example, self._root = model, example, root
        self.adapter = Adapter(model, list(example.inputs), (), example.arguments)
        self.sizes: dict[Place, int] = {
            (name, axis): size for name, spec in example.inputs.items() for axis, size in enumerate(spec["shape"])
        }
        self._done: dict[tuple[int, ...], dict[str, Output] | str] = {}
        found = self.call(self.sizes)
        self.base = {name: _output(tensor) for name, tensor in tensors(found).items()}
        self.left_out = [name for name, leaf in flatten(found) if not torch.is_tensor(as_tensor(leaf))]
        if not self.base:
            raise StageError(
                "the model returns no tensor", "return a tensor, or a tuple, a mapping or a dataclass of them"
            )
        self._done[tuple(self.sizes.values())] = self.base

    def run(self, changes: Mapping[Place, int]) -> dict[str, Output] | None:
        """The outputs at the example's sizes but for `changes`; None where it fails or gives other outputs: see `why`."""
        found = self._tried(changes)
        return None if isinstance(found, str) else found

    def why(self, changes: Mapping[Place, int]) -> str:
        """Why it does not run at these sizes, "" where it does."""
        found = self._tried(changes)
        return found if isinstance(found, str) else ""

    def ran(self) -> list[tuple[dict[Place, int], dict[str, Output]]]:
        """All sizes at which it ran, with what came out."""
        return [
            (dict(zip(self.sizes, key, strict=True)), found)
            for key, found in self._done.items()
            if not isinstance(found, str)
        ]

    def call(self, sizes: Mapping[Place, int]) -> Any:
        """What the model itself returns at these sizes, for values drawn by the inputs' descriptions."""
        with torch.no_grad():
            return self.adapter.result(*self.drawn(sizes))

    def drawn(self, sizes: Mapping[Place, int], *, again: bool = False) -> tuple[torch.Tensor, ...]:
        """The inputs at these sizes: the same values whenever they are asked for, and others `again`."""
        shapes: dict[str, list[int]] = {name: [] for name in self.example.inputs}
        for (name, _), size in sizes.items():
            shapes[name].append(size)
        case = {"name": f"{[*shapes.values()]}", "data": {}, "shapes": shapes}
        arrays = (samples.other if again else samples.make)(self.example.inputs, case, 0, self._root)
        return tuple(numbers.to_torch(arrays[name]) for name in self.example.inputs)

    def idle(self, places: Sequence[Place], size: int) -> bool:
        """Whether what lies beyond the example's size on some axes, at a larger one, changes nothing that comes out."""
        sizes = {**self.sizes, **dict.fromkeys(places, size)}
        given, other = self.drawn(sizes), self.drawn(sizes, again=True)
        changed = []
        for name, one, new in zip(self.example.inputs, given, other, strict=True):
            mixed = one.clone()
            for axis in (axis for place, axis in places if place == name):
                start = self.sizes[name, axis]
                mixed.narrow(axis, start, size - start).copy_(new.narrow(axis, start, size - start))
            changed.append(mixed)
        with torch.no_grad():
            before, after = (tensors(self.adapter.result(*inputs)) for inputs in (given, tuple(changed)))
        return all(torch.equal(one, after[name]) for name, one in before.items() if name in after)

    def _tried(self, changes: Mapping[Place, int]) -> dict[str, Output] | str:
        sizes = {**self.sizes, **changes}
        key = tuple(sizes.values())
        if key not in self._done:
            if len(self._done) >= MOST:
                return f"not tried, after {MOST} runs"
            self._done[key] = self._try(sizes)
        return self._done[key]

    def _try(self, sizes: Mapping[Place, int]) -> dict[str, Output] | str:
        elements = sum(
            prod(size for (other, _), size in sizes.items() if other == name) for name in self.example.inputs
        )
        if elements > ELEMENTS:
            return f"not tried: {elements:,} numbers"
        try:
            found = {name: _output(tensor) for name, tensor in tensors(self.call(sizes)).items()}
        except Exception as error:  # noqa: BLE001  # a model's code may raise anything
            told = failures.essence(error, self._root)
            return told if len(told) <= LONGEST else f"{told[:LONGEST]} ..."
        return self._other(found) or found

    def _other(self, found: Mapping[str, Output]) -> str:
        """How outputs differ in kind from those at the example's sizes; "" where they don't."""
        if found.keys() != self.base.keys():
            return f"it gives {', '.join(found)} there"
        for name, output in found.items():
            first = self.base[name]
            if (output.dtype, len(output.shape)) != (first.dtype, len(first.shape)):
                return f"{name} is {output.dtype} of rank {len(output.shape)} there"
            if first.finite and not output.finite:
                return f"{name} has NaN or infinities there"
            if 0 in output.shape and 0 not in first.shape:
                return f"{name} is empty there"
        return ""


def tensors(result: Any) -> dict[str, torch.Tensor]:
    """The tensors in what a model returned, by its own names; whole numbers and truth values count as tensors."""
    leaves = ((name, as_tensor(leaf)) for name, leaf in flatten(result))
    return {name: leaf for name, leaf in leaves if torch.is_tensor(leaf)}


def dtype_name(tensor: torch.Tensor) -> str:
    """A tensor's dtype as recipes have it."""
    return str(tensor.dtype).removeprefix("torch.")


def shape_of(tensor: torch.Tensor) -> list[Any]:
    """A captured tensor's shape: a number where an axis has one size only, which torch may still hold as a symbol."""
    return [int(size) if isinstance(size, int) or size.node.expr.is_number else size for size in tensor.shape]


def _output(tensor: torch.Tensor) -> Output:
    return Output(dtype_name(tensor), tuple(tensor.shape), bool(torch.isfinite(tensor).all()))
