"""A model as a function of flat tensors: the recipe's inputs in order, the recipe's outputs in order.

Both exporters and the reference call a model through the same adapter, so they see the same thing. Imports torch at
module level; knows nothing of ONNX.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from onnxbuild.errors import StageError

Arguments = tuple[list[Any], dict[str, Any]]
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Adapter(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """Takes the declared inputs positionally and returns the declared outputs as a tuple of tensors.

    `arguments` is the recipe's `export.arguments` as JSON: how `forward` is called; a string in it is an input's name.
    Without it the inputs go by keyword where each is a parameter of `forward`, else in order.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        inputs: Sequence[str],
        outputs: Sequence[str],
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(inputs)
        self.outputs = tuple(outputs)
        self.call = _planned_call(model, self.names, arguments)
        self.eval()

    def forward(self, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = dict(zip(self.names, flat, strict=True))
        args, kwargs = _filled(self.call[0], tensors), _filled(self.call[1], tensors)
        return _told_apart(select(self.model(*args, **kwargs), self.outputs), flat)


def select(result: Any, names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """The tensors, of what a model returned, that the recipe declares: by name where all are there, else in order."""
    leaves = list(flatten(result))
    by_name = dict(leaves)
    if all(name in by_name for name in names):
        chosen = [by_name[name] for name in names]
    elif len(leaves) == len(names):
        chosen = [leaf for _, leaf in leaves]
    else:
        raise StageError(
            f"the recipe declares {_count(len(names), 'output')} ({', '.join(names)}), "
            f"the model returns {describe(result)}",
            "name outputs as the model does (dotted where they nest), or declare as many as it returns, in order",
        )
    for name, leaf in zip(names, chosen, strict=True):
        if not isinstance(leaf, torch.Tensor):
            raise StageError(f"output '{name}' of the model is no tensor but {type(leaf).__name__}")
    return tuple(chosen)


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
    return f"{_count(len(leaves), 'output')}: {', '.join(path for path, _ in leaves)}"


def _children(value: Any) -> list[tuple[str, Any]] | None:
    if isinstance(value, Mapping):  # transformers' ModelOutput too, which is a dataclass besides
        return [(str(key), item) for key, item in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return [(str(i), item) for i, item in enumerate(value)]
    return None


def _planned_call(model: torch.nn.Module, names: tuple[str, ...], arguments: Mapping[str, Any] | None) -> Arguments:
    """Arguments for `forward` in which strings stand for inputs. Raises StageError where it can't be called so."""
    parameters = _parameters(model)
    if arguments is not None:
        call = list(arguments.get("args", [])), dict(arguments.get("kwargs", {}))
        absent = [name for name in names if name not in set(_strings(call))]
        if absent:
            raise StageError(f"export.arguments uses no input named {', '.join(absent)}")
    elif parameters is not None and all(name in parameters and parameters[name].kind in _BY_KEYWORD for name in names):
        call = [], {name: name for name in names}
    else:
        call = list(names), {}
    if parameters is not None:
        signature = inspect.Signature(list(parameters.values()))
        try:
            signature.bind(*call[0], **call[1])
        except TypeError as error:
            shown = signature.replace(parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()])
            raise StageError(
                f"the model's forward{shown} can't be called with the inputs {', '.join(names)}: {error}",
                "rename the inputs to forward's parameters, or say how to call it in export.arguments",
            ) from error
    return call


def _parameters(model: torch.nn.Module) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of forward without self; None where it can't be told."""
    if isinstance(model, torch.jit.ScriptModule):
        kind, none = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        return {
            a.name: inspect.Parameter(a.name, kind, default=a.default_value if a.has_default_value() else none)
            for a in model.forward.schema.arguments[1:]
        }
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return None


def _filled(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The arguments with inputs' names replaced by their tensors."""
    if isinstance(value, str):
        return tensors.get(value, value)
    if isinstance(value, list):
        return [_filled(item, tensors) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)


def _told_apart(chosen: Sequence[torch.Tensor], flat: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The outputs, each a tensor of its own: an exporter that renames one would rename its double, or an input, too."""
    seen = [*flat]
    result = []
    for tensor in chosen:
        double = any(tensor is other for other in seen)
        result.append(tensor.clone() if double else tensor)
        seen.append(tensor)
    return tuple(result)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
