"""Functions of TensorFlow as models: from an importable factory, or a signature of a loaded SavedModel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from onnxbuild.contracts import Arrays, Interface, Value
from onnxbuild.errors import StageError
from onnxbuild.sources import factories, tf2onnx
from onnxbuild.sources.factories import article
from onnxbuild.sources.tensorflow import layouts

if TYPE_CHECKING:
    from onnx import ModelProto

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def build(source: Mapping[str, Any], root: Path) -> Function:
    """The model that the recipe's `model.tensorflow` section describes by a factory. Raises StageError."""
    made = factories.call(source, root)
    name = source["factory"]
    if isinstance(made, tf.Module) and callable(made):
        own = made.__call__  # a tf.function where it is declared as one
        return Function(own if _is_traced(own) else tf.function(own), own, made, name)
    if not _is_traced(made):
        hint = "return a tf.Module with __call__, a tf.function or a concrete function"
        raise StageError(f"the factory {name} gave {article(type(made).__name__)}", hint)
    return Function(made, made, made, name)


class Function:
    """A function with named inputs: `function` as it is traced, `eager` as it is called; `holder` has its variables."""

    def __init__(self, function: Any, eager: Callable[..., Any], holder: Any, name: str) -> None:
        self.notes: list[str] = []
        self._function, self._eager, self._holder, self._name = function, eager, holder, name
        self._before: dict[str, tuple[Any, Any]] | None = None
        self._own = _signature(function)

    def interface(self) -> Interface:
        """What its signature says; a tf.function has none unless it was given one."""
        if self._own is None:
            fact = f"{self._name} gives a function without an input_signature: it does not say what it takes"
            raise StageError(
                fact, "give the tf.function an input_signature, or declare inputs and outputs under export"
            )
        args, kwargs = self._own
        concrete = self._function
        if isinstance(concrete, tf.types.experimental.PolymorphicFunction):
            concrete = concrete.get_concrete_function()
        inputs = [_value(spec.name, spec) for spec in (*args, *kwargs.values())]
        outputs = [_value(_output_name(path), spec) for path, spec in _leaves(concrete.structured_outputs)]
        return Interface(inputs, outputs)

    def accepts(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:  # noqa: ARG002  # known when it returns
        """Raises StageError unless the names are those of its parameters."""
        if self._own is not None:
            layouts.require_names(
                "input", inputs, [spec.name for spec in (*self._own[0], *self._own[1].values())], whole=True
            )
            return
        parameters = _parameters(self._function)
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return
        known = [name for name, one in parameters.items() if one.kind in _BY_NAME]
        layouts.require_names("input", inputs, known, whole=False)
        needed = [name for name in known if parameters[name].default is inspect.Parameter.empty]
        layouts.require_names("input", inputs, [*needed, *(name for name in inputs if name not in needed)], whole=True)

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        """The function's own results, traced anew for every shape where it has no signature of its own."""
        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        if self._before is None:
            self._before = {name: (one, one.numpy()) for name, one in self._variables(tensors)}
        made = select(self._called(self._eager, tensors), outputs)
        return {
            name: layouts.text_of(tf.convert_to_tensor(one).numpy()) for name, one in zip(outputs, made, strict=True)
        }

    def changed(self) -> list[str]:
        """The variables whose value is other than before the first call."""
        same = np.array_equal
        before = (self._before or {}).items()
        return [f"the variable '{name}'" for name, (one, value) in before if not same(one.numpy(), value)]

    def convert(
        self,
        specs: Mapping[str, Any],
        outputs: Sequence[str],
        opset: int,
        inputs_as_nchw: Sequence[str],
        outputs_as_nchw: Sequence[str],
    ) -> ModelProto:
        """The function as tf2onnx converts it."""

        def flat(*tensors: Any) -> list[Any]:
            result = self._called(self._function, dict(zip(specs, tensors, strict=True)))
            return [tf.convert_to_tensor(one) for one in select(result, outputs)]

        return tf2onnx.convert(
            flat,
            [*specs.values()],
            [*specs],
            outputs,
            opset,
            holder=self._holder,
            inputs_as_nchw=inputs_as_nchw,
            outputs_as_nchw=outputs_as_nchw,
        )

    def _called(self, function: Callable[..., Any], tensors: Mapping[str, Any]) -> Any:
        if self._own is None:
            return function(**tensors)
        args, kwargs = self._own
        return function(*(tensors[spec.name] for spec in args), **{key: tensors[key] for key in kwargs})

    def _variables(self, tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The variables that the model has, and those that the function takes from around it, by name."""
        concrete = self._function
        if isinstance(concrete, tf.types.experimental.PolymorphicFunction):
            specs = {name: tf.TensorSpec.from_tensor(tensor, name) for name, tensor in tensors.items()}
            concrete = self._called(concrete.get_concrete_function, specs)
        seen = set()
        for one in (*getattr(self._holder, "variables", ()), *concrete.variables):
            if one.ref() not in seen:
                seen.add(one.ref())
                yield one.name, one


def select(result: Any, names: Sequence[str]) -> list[Any]:
    """What a function returned, as the recipe names it: by name, or in order where nothing in it has one.

    Raises StageError where it is neither, and for what is no tensor.
    """
    leaves = dict(_leaves(result))
    if all(name in leaves for name in names):
        chosen = [leaves[name] for name in names]
    elif len(leaves) == len(names) and all(path.rpartition(".")[2].isdecimal() or not path for path in leaves):
        chosen = [*leaves.values()]
    else:
        own = ", ".join(path or "one unnamed tensor" for path in leaves)
        unknown = ", ".join(repr(name) for name in names if name not in leaves)
        hint = "name outputs as the model does (dotted where they nest), or declare as many as it returns, in order"
        raise StageError(f"the model returns no {unknown}; it returns {own or 'nothing'}", hint)
    for name, one in zip(names, chosen, strict=True):
        if isinstance(one, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
            raise StageError(
                f"output '{name}' of the model is {article(type(one).__name__)}",
                "return dense tensors, as to_tensor() or tf.sparse.to_dense gives them",
            )
    return chosen


def _leaves(result: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in nested mappings, tuples and lists, with dotted paths; None is left out."""
    if result is None:
        return
    if isinstance(result, Mapping):
        children = [(str(key), value) for key, value in result.items()]
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        children = [*zip(result._fields, result, strict=True)]
    elif isinstance(result, list | tuple):
        children = [(str(number), value) for number, value in enumerate(result)]
    else:
        yield path, result
        return
    for key, value in children:
        yield from _leaves(value, f"{path}.{key}" if path else key)


def _output_name(path: str) -> str:
    """What an output is called where nobody says: by its place in what the function returns."""
    return f"output_{path}" if path.isdecimal() else path or "output"


def _is_traced(made: Any) -> bool:
    """Whether an object is a tf.function or a concrete function."""
    kinds = tf.types.experimental
    return isinstance(made, kinds.PolymorphicFunction | kinds.ConcreteFunction)


def _signature(function: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The specs of a function's arguments in order and by keyword, each with its name; None where they can be any.

    Raises StageError for one that takes more than plain tensors.
    """
    if isinstance(function, tf.types.experimental.ConcreteFunction):
        args, kwargs = function.structured_input_signature
    elif (given := getattr(function, "input_signature", None)) is not None:
        names = [name for name, one in _parameters(function).items() if one.kind in _BY_NAME]
        args, kwargs = tuple(given), {}
        args = tuple(
            tf.TensorSpec(spec.shape, spec.dtype, name) if isinstance(spec, tf.TensorSpec) else spec
            for name, spec in zip(names, args, strict=False)
        )
    else:
        return None
    for spec in (*args, *kwargs.values()):
        if not isinstance(spec, tf.TensorSpec):
            fact = f"the function takes {article(type(spec).__name__)}, and only plain tensors can be inputs"
            raise StageError(fact, "wrap it in a tf.function that takes one tensor for each input")
    return args, kwargs


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return {name: one for name, one in inspect.signature(function).parameters.items() if name != "self"}


def _value(name: str, spec: Any) -> Value:
    shape = None if spec.shape.rank is None else list(spec.shape)
    return Value(name, "string" if spec.dtype == tf.string else spec.dtype.name, shape)
