"""A model as a function of flat tensors: the recipe's inputs in order, the recipe's outputs in order.

Both exporters and the reference call a model through the same adapter, so they see the same thing. Imports torch at
module level; knows nothing of ONNX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree  # torch.export's own registry; torch.utils.pytree can't be asked

from onnxbuild.errors import StageError
from onnxbuild.sources import ordering
from onnxbuild.sources.pytorch.calling import Arguments, as_captured, filled, planned_call


class Adapter(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """Takes the declared inputs positionally and returns the declared outputs as a tuple of tensors.

    `arguments` is the recipe's `export.arguments` as JSON: how `forward` is called; a string in it is an input's name,
    {constant: ...} a constant. Without it the inputs go by keyword where each is a parameter of `forward`, in order where
    none is. `note` is told, whenever the model is called, what of it goes by other names.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        inputs: Sequence[str],
        outputs: Sequence[str],
        arguments: Mapping[str, Any] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(inputs)
        self.outputs = tuple(outputs)
        self.call = planned_call(model, self.names, arguments)
        self.note = note  # no list: torch.export gives a module copies of its lists
        evaluating(self)

    def forward(self, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model with the inputs in the recipe's order; gives its declared outputs, in order."""
        return _told_apart(select(self.result(*flat), self.outputs, self.note), flat)

    def result(self, *flat: torch.Tensor) -> Any:
        """What the model itself returns for the inputs in the recipe's order."""
        args, kwargs = self.arguments(dict(zip(self.names, flat, strict=True)))
        return self.model(*args, **kwargs)

    def arguments(self, values: Mapping[str, Any]) -> Arguments:
        """What the model is called with where inputs have these values."""
        args = [filled(item, values) for item in self.call[0]]
        kwargs = {name: filled(item, values) for name, item in self.call[1].items()}
        return as_captured(self.model, args, kwargs)


def evaluating(model: torch.nn.Module) -> torch.nn.Module:
    """The model in eval mode; one that can't change its mode (`exported_program.module()`) as it was captured."""
    try:
        return model.eval()
    except NotImplementedError:  # to exporters too it shall seem to
        model.training = False
        model.train = lambda mode=True: model  # noqa: ARG005  # torch's own signature
        return model


def select(result: Any, names: Sequence[str], note: Callable[[str], None] | None = None) -> tuple[torch.Tensor, ...]:
    """The tensors, of what a model returned, that the recipe declares: by name where all are there, else in order.

    In order only where no name says otherwise; `note` is told where the model has other names for them.
    """
    told = None if torch.compiler.is_dynamo_compiling() else note
    chosen = ordering.chosen(names, list(flatten(result)), lambda: describe(result), told)
    chosen = [as_tensor(leaf) for leaf in chosen]
    for name, leaf in zip(names, chosen, strict=True):
        if not isinstance(leaf, torch.Tensor):
            raise StageError(f"output '{name}' of the model is no tensor but {type(leaf).__name__}")
    return tuple(chosen)


def as_tensor(leaf: Any) -> Any:
    """A whole number or a truth value as a tensor without axes: a size that a model returns is one while it is traced."""
    if isinstance(leaf, bool | torch.SymBool):
        return torch.scalar_tensor(leaf, dtype=torch.bool)
    return torch.scalar_tensor(leaf, dtype=torch.int64) if isinstance(leaf, int | torch.SymInt) else leaf


def flatten(result: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tuples, lists, mappings and dataclasses, with dotted paths; None is left out."""
    if result is None:
        return
    children = _children(result)
    if children is None:
        yield path, result
        return
    for key, value in children:
        yield from flatten(value, f"{path}.{key}" if path else key)


def describe(result: Any) -> str:
    """What a model returned, in words: "2 outputs: logits, hidden.0"."""
    leaves = list(flatten(result))
    if [path for path, _ in leaves] == [""]:
        return f"one unnamed {'tensor' if torch.is_tensor(result) else type(result).__name__}"
    return f"{ordering.count(len(leaves), 'output')}: {', '.join(path for path, _ in leaves)}"


def _children(value: Any) -> list[tuple[str, Any]] | None:
    if isinstance(value, Mapping):  # transformers' ModelOutput too, which is a dataclass besides
        return [(str(key), item) for key, item in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return [(str(i), item) for i, item in enumerate(value)]
    return _registered_children(value)


def _registered_children(value: Any) -> list[tuple[str, Any]] | None:
    """The parts of a class that is registered with torch's pytree, by its own keys; None for any other."""
    handler = pytree.SUPPORTED_NODES.get(type(value))
    if handler is None:
        return None
    if handler.flatten_with_keys_fn is None:
        return [(str(i), item) for i, item in enumerate(handler.flatten_fn(value)[0])]
    return [(_key(key), item) for key, item in handler.flatten_with_keys_fn(value)[0]]


def _key(key: Any) -> str:
    """A pytree's key as a name: of an attribute, of a mapping or of a place."""
    names = (getattr(key, name) for name in ("name", "key", "idx") if hasattr(key, name))
    return str(next(names, key))


def _told_apart(chosen: Sequence[torch.Tensor], flat: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The outputs, each a tensor of its own: an exporter that renames one would rename its double, or an input, too."""
    seen = [*flat]
    result = []
    for tensor in chosen:
        double = any(tensor is other for other in seen)
        result.append(tensor.clone() if double else tensor)
        seen.append(tensor)
    return tuple(result)
