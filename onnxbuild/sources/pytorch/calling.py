"""How a model's `forward` is called with a recipe's inputs: which parameter takes which, and what else it is given.

Imports torch at module level; calls nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import torch

from onnxbuild.errors import StageError
from onnxbuild.sources import ordering

Arguments = tuple[list[Any], dict[str, Any]]
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def planned_call(model: torch.nn.Module, names: tuple[str, ...], arguments: Mapping[str, Any] | None) -> Arguments:
    """Arguments for `forward` in which strings stand for inputs. Raises StageError where it can't be called so."""
    parameters = parameters_of(model)
    if arguments is not None:
        call = list(arguments.get("args", [])), dict(arguments.get("kwargs", {}))
        used = set(_strings([*call[0], *call[1].values()]))  # of kwargs the values: a parameter may be named constant
        absent = [name for name in names if name not in used]
        if absent:
            raise StageError(f"export.arguments uses no input named {', '.join(absent)}")
    elif parameters is not None and all(name in parameters and parameters[name].kind in _BY_KEYWORD for name in names):
        by_place = _captured_by_place(model)
        call = (
            [name for name in parameters if name in names and name in by_place],
            {name: name for name in names if name not in by_place},
        )
    else:
        _require_input_order(names, parameters or {})
        call = list(names), {}
    if parameters is not None:
        try:
            inspect.Signature(list(parameters.values())).bind(*call[0], **call[1])
        except TypeError as error:
            raise StageError(
                f"the model's {shown(parameters)} can't be called with the inputs {', '.join(names)}: {error}",
                "rename the inputs to forward's parameters, or say how to call it in export.arguments",
            ) from error
    return call


def _require_input_order(names: Sequence[str], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raises StageError where a name says that it is another parameter than the one at its place."""
    places = [name for name, parameter in parameters.items() if parameter.kind in _IN_ORDER]
    rest = [f"*{name}" for name, parameter in parameters.items() if parameter.kind is parameter.VAR_POSITIONAL]
    known = [name for name, parameter in parameters.items() if parameter.kind in (*_IN_ORDER, *_BY_KEYWORD)]
    wrong = ordering.astray(names, [*places, *rest * len(names)], known, set(rest))
    unknown = [name for name in wrong if name not in known]
    if unknown:
        way = "inputs go in order only where no input is named as a parameter; else say how in export.arguments"
        raise StageError(
            f"the model's {shown(parameters)} has no parameter {', '.join(unknown)}",
            ordering.meant(unknown, known) or way,
        )
    if wrong:
        fact = f"the model's {shown(parameters)} takes some by order, not by name: {', '.join(wrong)} would be another"
        raise StageError(fact, "say in export.arguments how to call it")


def shown(parameters: Mapping[str, inspect.Parameter]) -> str:
    """The signature without annotations: "forward(x, mask=None)"."""
    return f"forward{inspect.Signature([p.replace(annotation=p.empty) for p in parameters.values()])}"


def parameters_of(model: torch.nn.Module) -> Mapping[str, inspect.Parameter] | None:
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


def _captured_by_place(model: torch.nn.Module) -> set[str]:
    """The parameters that `exported_program.module()` takes by place alone: a call has to look as the captured one did."""
    spec = _captured(model)
    parameters = parameters_of(model) or {}
    return set() if spec is None else set(parameters) - set(spec.child(1).context or ())


def as_captured(model: torch.nn.Module, args: list[Any], kwargs: dict[str, Any]) -> Arguments:
    """Arguments by place, by name and nested as `exported_program.module()` was captured with; for others as they are."""
    spec = _captured(model)
    if spec is None:
        return args, kwargs
    named = dict(zip(spec.child(1).context or (), spec.child(1).children(), strict=False))
    signature = inspect.Signature(list((parameters_of(model) or {}).values()))
    given = signature.bind_partial(*args, **kwargs).arguments
    by_place = [given[name] for name in signature.parameters if name in given and name not in named]
    by_name = {name: _nested_as(given[name], place) for name, place in named.items() if name in given}
    return _in_places(by_place, spec.child(0)), by_name


def _captured(model: torch.nn.Module) -> Any:
    """How the arguments of `exported_program.module()` nest, args and kwargs; None for any other module."""
    info = getattr(getattr(getattr(model, "graph", None), "_codegen", None), "pytree_info", None)
    return info.in_spec if info is not None and info.in_spec.num_children == 2 else None


def _nested_as(value: Any, spec: Any) -> Any:
    """A nested argument with tuples where the captured one had some: a recipe has lists only."""
    if spec is None or spec.num_children == 0 or not isinstance(value, list | dict):
        return value
    if isinstance(value, dict):
        inner = dict(zip(spec.context, spec.children(), strict=False)) if spec.type is dict else {}
        return {key: _nested_as(item, inner.get(key)) for key, item in value.items()}
    items = _in_places(value, spec)
    return tuple(items) if spec.type is tuple else items


def _in_places(values: Sequence[Any], spec: Any) -> list[Any]:
    """Arguments in a row, each nested as the captured one at its place."""
    return [_nested_as(item, place) for item, place in zip(values, chain(spec.children(), repeat(None)), strict=False)]


def filled(value: Any, tensors: Mapping[str, Any]) -> Any:
    """An argument with inputs' names replaced by their tensors, and {constant: ...} by what it holds."""
    if isinstance(value, str):
        return tensors.get(value, value)
    if isinstance(value, list):
        return [filled(item, tensors) for item in value]
    if isinstance(value, dict):
        if is_constant(value):
            return value["constant"]
        return {key: filled(item, tensors) for key, item in value.items()}
    return value


def is_constant(value: Mapping[str, Any]) -> bool:
    """Whether a mapping among the arguments stands for a constant."""
    return len(value) == 1 and "constant" in value


def _strings(value: Any) -> Iterator[str]:
    """The names of inputs in an argument."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict) and not is_constant(value):
        for item in value.values():
            yield from _strings(item)
