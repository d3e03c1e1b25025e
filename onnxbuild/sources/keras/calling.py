"""How a Keras model is called with a recipe's inputs, and which of its results are the recipe's outputs.

The same for every backend: knows Keras's structures of tensors, and no framework below them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from onnxbuild.contracts import Interface, Value
from onnxbuild.errors import StageError
from onnxbuild.sources import ordering

# What Keras calls a tensor or a layer to which its author gave no name.
_AUTOMATIC = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?(CLONE)*")
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

Note = Callable[[str], None]


class Call(NamedTuple):
    """Arguments of a model in which strings stand for inputs; `names` are those of the recipe, in order."""

    names: tuple[str, ...]
    args: Any
    kwargs: Any


def planned(model: Any, names: Sequence[str], arguments: Mapping[str, Any] | None, note: Note) -> Call:
    """How a model is called, for inference. Raises StageError where it can't be told.

    `arguments` is the recipe's `export.arguments`. Without it: inputs that the model declares go by name where all are
    there, else in order, of which `note` is told; those of a model that declares none go by the parameters of its `call`.
    """
    inference = {"training": False}
    if arguments is not None:
        return Call(tuple(names), list(arguments.get("args", [])), inference | dict(arguments.get("kwargs", {})))
    declared = declared_inputs(model)
    if declared is not None:
        places = _stand_for(names, [name for name, _ in _leaves(declared)], note)
        return Call(tuple(names), [_with_names(declared, iter(places))], inference)
    parameters = inspect.signature(model.call).parameters
    if all(name in parameters and parameters[name].kind in _BY_KEYWORD for name in names):
        return Call(tuple(names), [], inference | {name: name for name in names})
    if len(names) != 1:
        raise StageError(
            f"the model's call({', '.join(parameters)}) does not say how it takes {', '.join(names)}",
            f"say in export.arguments how to call it, as in {{args: [[{', '.join(names)}]]}}",
        )
    return Call(tuple(names), list(names), inference)


def run(model: Any, call: Call, tensors: Sequence[Any]) -> Any:
    """What a model gives for tensors in the order of the recipe's inputs."""
    by_name = dict(zip(call.names, tensors, strict=True))
    return model(*_filled(call.args, by_name), **_filled(call.kwargs, by_name))


def selected(model: Any, result: Any, names: Sequence[str], note: Note | None = None) -> list[Any]:
    """The tensors, of what a model gave, that the recipe's outputs stand for. Raises StageError."""
    leaves = _named(model, result)
    return ordering.chosen(names, leaves, lambda: _words(leaves), note)


def interface(model: Any) -> Interface:
    """What a model says of its inputs and outputs. Raises StageError where it says nothing of them."""
    declared = declared_inputs(model)
    if declared is None:
        fact = f"a {type(model).__name__} does not say what it takes and gives before it is called"
        raise StageError(fact, "declare inputs and outputs under export")
    inputs = [_value(name, tensor) for name, tensor in _leaves(declared)]
    taken = {value.name for value in inputs}
    outputs = []
    for name, tensor in _named(model, declared_outputs(model)):
        free = name or "output"
        while free in taken:
            free += "_out"
        taken.add(free)
        outputs.append(_value(free, tensor))
    return Interface(inputs, outputs)


def output_shapes(model: Any, names: Sequence[str]) -> dict[str, list[int | str | None] | None]:
    """What a model declares of the shapes of the recipe's outputs; {} where it declares none."""
    declared = declared_outputs(model)
    if declared is None:
        return {}
    return {
        name: _value(name, tensor).shape for name, tensor in zip(names, selected(model, declared, names), strict=True)
    }


def declared_outputs(model: Any) -> Any:
    """The structure of symbolic tensors that a model declares as its outputs; None where it declares none."""
    if declared_inputs(model) is None:
        return None
    import keras

    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def declared_inputs(model: Any) -> Any:
    """The structure of symbolic tensors that a model declares as its inputs; None where it declares none."""
    import keras

    if not getattr(model, "inputs", None):
        return None
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _value(name: str, tensor: Any) -> Value:
    axes = enumerate(tensor.shape)
    return Value(name, str(tensor.dtype), ["batch" if size is None and axis == 0 else size for axis, size in axes])


def _stand_for(names: Sequence[str], known: list[str], note: Note) -> list[str]:
    """The recipe's names in the order of the model's own inputs. Raises StageError."""
    if sorted(names) == sorted(known):
        return known
    free = {name for name in known if _AUTOMATIC.fullmatch(name)}
    wrong = ordering.astray(names, known, known, free)
    takes = f"the model takes {ordering.count(len(known), 'input')}: {', '.join(known)}"
    if unknown := [name for name in wrong if name not in known] or wrong:
        hint = ordering.meant(unknown, known) or "inputs go in order only where none is named as one of the model's"
        raise StageError(f"the model has no input {', '.join(unknown)}; {takes}", hint)
    if len(names) != len(known):
        fact = f"the recipe declares {ordering.count(len(names), 'input')} ({', '.join(names)}), {takes}"
        raise StageError(fact, "name inputs as the model does, or declare as many as it takes, in order")
    if len(known) > 1 and not free.issuperset(known):
        pairs = ", ".join(f"{name} is {own}" for name, own in zip(names, known, strict=True))
        note(f"the model names its inputs otherwise: in order, {pairs}")
    return list(names)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The symbolic tensors of a structure, each with the key of a mapping that it stands at, else its own name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield name or str(value.name), value


def _with_names(value: Any, names: Iterator[str]) -> Any:
    """A structure with names in the place of its tensors, in order."""
    if isinstance(value, Mapping):
        return {key: _with_names(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_names(item, names) for item in value]
    return value if value is None else next(names)


def _filled(value: Any, tensors: Mapping[str, Any]) -> Any:
    """A structure with tensors in the place of inputs' names."""
    if isinstance(value, str):
        return tensors.get(value, value)
    if isinstance(value, list):
        return [_filled(item, tensors) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    return value


def _named(model: Any, result: Any) -> list[tuple[str, Any]]:
    """What a model gave, or declares to give, with dotted paths; by the layers' names where it is a plain sequence."""
    leaves = list(_paths(result))
    own = getattr(model, "output_names", None)
    if own is None and declared_outputs(model) is not None:
        own = [model.layers[-1].name]
    flat = all(path.isdecimal() or not path for path, _ in leaves)
    if own and flat and len({*own}) == len(own) == len(leaves):
        return [(str(name), leaf) for name, (_, leaf) in zip(own, leaves, strict=True)]
    return leaves


def _paths(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, lists and tuples, with dotted paths; None is left out."""
    if isinstance(value, Mapping):
        children = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        children = [(str(place), item) for place, item in enumerate(value)]
    else:
        if value is not None:
            yield path, value
        return
    for key, item in children:
        yield from _paths(item, f"{path}.{key}" if path else key)


def _words(leaves: Sequence[tuple[str, Any]]) -> str:
    """What a model gave, in words: "2 outputs: logits, hidden.0"."""
    if [path for path, _ in leaves] == [""]:
        return "one unnamed tensor"
    return f"{ordering.count(len(leaves), 'output')}: {', '.join(path for path, _ in leaves)}"
