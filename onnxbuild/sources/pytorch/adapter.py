"""A model as a function of flat tensors: the recipe's inputs in order, the recipe's outputs in order.

Both exporters and the reference call a model through the same adapter, so they see the same thing. Imports torch at
module level; knows nothing of ONNX.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import torch
from torch.utils import _pytree as pytree  # torch.export's own registry; torch.utils.pytree can't be asked

from onnxbuild.errors import StageError

Arguments = tuple[list[Any], dict[str, Any]]
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NEAR = 0.8  # of difflib's ratio: a name so near to another one is a slip


class Adapter(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """Takes the declared inputs positionally and returns the declared outputs as a tuple of tensors.

    `arguments` is the recipe's `export.arguments` as JSON: how `forward` is called; a string in it is an input's name.
    Without it the inputs go by keyword where each is a parameter of `forward`, in order where none is. `note` is
    told, whenever the model is called, what of it goes by other names.
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
        self.call = _planned_call(model, self.names, arguments)
        self.note = note  # no list: torch.export gives a module copies of its lists
        evaluating(self)

    def forward(self, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model with the inputs in the recipe's order; gives its declared outputs, in order."""
        return _told_apart(select(self.result(*flat), self.outputs, self.note), flat)

    def result(self, *flat: torch.Tensor) -> Any:
        """What the model itself returns for the inputs in the recipe's order."""
        tensors = dict(zip(self.names, flat, strict=True))
        args, kwargs = _filled(self.call[0], tensors), _filled(self.call[1], tensors)
        return self.model(*args, **kwargs)


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
    leaves = list(flatten(result))
    by_name = dict(leaves)
    if all(name in by_name for name in names):
        chosen = [by_name[name] for name in names]
    else:
        paths = [path for path, _ in leaves]
        _require_output_order(names, paths, result)
        chosen = [leaf for _, leaf in leaves]
        if note is not None and not torch.compiler.is_dynamo_compiling() and (pairs := _pairs(names, paths)):
            note(f"the model names its outputs otherwise: in order, {pairs}")
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


def _require_output_order(names: Sequence[str], paths: Sequence[str], result: Any) -> None:
    """Raises StageError unless the names can stand for what was returned, in order."""
    if wrong := output_slip(tuple(names), tuple(paths)):
        raise StageError(f"the model returns no {wrong[0]}; it returns {describe(result)}", wrong[1])
    if len(paths) != len(names):
        raise StageError(
            f"the recipe declares {_count(len(names), 'output')} ({', '.join(names)}), "
            f"the model returns {describe(result)}",
            "name outputs as the model does (dotted where they nest), or declare as many as it returns, in order",
        )


def output_slip(names: tuple[str, ...], paths: tuple[str, ...]) -> tuple[str, str] | None:
    """The names that would stand for another output than they say, and a hint; None where there are none.

    TorchDynamo can't trace difflib: see `dynamo`, which marks this function for it.
    """
    astray = _astray(names, paths, paths, _unnamed(paths))
    unknown = [name for name in astray if name not in paths] or astray
    hint = _meant(unknown, paths) or "names are taken in order only where none is named so by the model"
    return (", ".join(unknown), hint) if astray else None


def _pairs(names: Sequence[str], paths: Sequence[str]) -> str:
    """Which name stands for which output, "" where the model gives them no names of its own, or there is only one."""
    if len(paths) < 2 or set(paths) <= _unnamed(paths):
        return ""
    return ", ".join(f"{name} is {path}" for name, path in zip(names, paths, strict=True))


def _unnamed(paths: Sequence[str]) -> set[str]:
    """The paths whose last part is a place in a tuple or a list: they take any name."""
    return {path for path in paths if not path or path.rpartition(".")[2].isdecimal()}


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


def _planned_call(model: torch.nn.Module, names: tuple[str, ...], arguments: Mapping[str, Any] | None) -> Arguments:
    """Arguments for `forward` in which strings stand for inputs. Raises StageError where it can't be called so."""
    parameters = parameters_of(model)
    if arguments is not None:
        call = list(arguments.get("args", [])), dict(arguments.get("kwargs", {}))
        absent = [name for name in names if name not in set(_strings(call))]
        if absent:
            raise StageError(f"export.arguments uses no input named {', '.join(absent)}")
    elif parameters is not None and all(name in parameters and parameters[name].kind in _BY_KEYWORD for name in names):
        captured = _captured_by_place(model)
        call = (
            [name for name in parameters if name in names and name in captured],
            {name: name for name in names if name not in captured},
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
    astray = _astray(names, [*places, *rest * len(names)], known, set(rest))
    unknown = [name for name in astray if name not in known]
    if unknown:
        way = "inputs go in order only where no input is named as a parameter; else say how in export.arguments"
        raise StageError(
            f"the model's {shown(parameters)} has no parameter {', '.join(unknown)}", _meant(unknown, known) or way
        )
    if astray:
        fact = f"the model's {shown(parameters)} takes some by order, not by name: {', '.join(astray)} would be another"
        raise StageError(fact, "say in export.arguments how to call it")


def _astray(names: Sequence[str], places: Sequence[str], known: Sequence[str], unnamed: set[str]) -> list[str]:
    """The names that, taken in order, would stand for something else than they say.

    Where one is known, all must be: at their own places, or at places without a name. Otherwise a slip in one name would
    hand a tensor to whatever comes next, and the reference would be wrong in the same way.
    """
    some = any(name in known for name in names)
    wrong = []
    for name, place in zip(names, chain(places, repeat("")), strict=False):
        if name in known and name == place:
            continue
        if name in known or (some and place not in unnamed) or _nearer(name, place, known):
            wrong.append(name)
    return wrong


def _nearer(name: str, place: str, known: Sequence[str]) -> bool:
    """Whether a name is nearly another one than that of its place."""
    near = difflib.get_close_matches(name, known, 1, _NEAR)
    return bool(near) and _likeness(name, near[0]) > _likeness(name, place)


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, name).ratio()  # in difflib's own order: the ratio isn't symmetric


def _meant(names: Sequence[str], known: Sequence[str]) -> str:
    near = [close[0] for name in names if (close := difflib.get_close_matches(name, known, 1))]
    return f"did you mean {', '.join(near)}?" if near else ""


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
    captured = getattr(getattr(getattr(model, "graph", None), "_codegen", None), "pytree_info", None)
    if captured is None or captured.in_spec.num_children != 2:
        return set()
    return set(captured.orig_args) - set(captured.in_spec.child(1).context or ())


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
