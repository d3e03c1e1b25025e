"""Holds a recipe's inputs and outputs against what a model says of its own, channels last or second. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from onnxbuild.contracts import Arrays, Interface, Value
from onnxbuild.errors import StageError
from onnxbuild.text.wording import did_you_mean

if TYPE_CHECKING:
    from onnxbuild.sources.tensorflow.model import Model

T = TypeVar("T")
LAST = (0, 2, 3, 1)  # NCHW to NHWC
SECOND = (0, 3, 1, 2)  # NHWC to NCHW


def in_graph(found: Interface, inputs_as_nchw: Sequence[str], outputs_as_nchw: Sequence[str]) -> Interface:
    """A model's interface as the graph is to have it. Raises StageError for names that it has not."""
    _require_names("inputs_as_nchw", inputs_as_nchw, [value.name for value in found.inputs], "input")
    _require_names("outputs_as_nchw", outputs_as_nchw, [value.name for value in found.outputs], "output")
    inputs = [_second(value) if value.name in inputs_as_nchw else value for value in found.inputs]
    outputs = [_second(value) if value.name in outputs_as_nchw else value for value in found.outputs]
    return structs.replace(found, inputs=inputs, outputs=outputs)


def specs(
    model: Model, options: Mapping[str, Any], inputs_as_nchw: Sequence[str], outputs_as_nchw: Sequence[str]
) -> dict[str, Any]:
    """A tf.TensorSpec for each input that a recipe declares, in the model's own layout; None on a dynamic axis.

    `options` are those of an export or a reference. Raises StageError where the model can't be called so, and where its
    own signature fixes an axis that the recipe declares dynamic.
    """
    import tensorflow as tf

    inputs, outputs, axes = options["inputs"], options["outputs"], _dynamic(options)
    _require_names("inputs_as_nchw", inputs_as_nchw, [*inputs], "input")
    _require_names("outputs_as_nchw", outputs_as_nchw, outputs, "output")
    model.accepts([*inputs], outputs)
    own = {value.name: value for value in _known(model)}
    found = {}
    for name, spec in inputs.items():
        dynamic = axes.get(name, set())
        shape = [None if axis in dynamic else size for axis, size in enumerate(spec["shape"])]
        as_nchw = name in inputs_as_nchw
        if as_nchw and len(shape) != len(LAST):
            hint = "it is for inputs with a batch, channels, height and width"
            raise StageError(f"inputs_as_nchw: '{name}' has {len(shape)} axes", hint)
        if name in own:
            _fits(_second(own[name]) if as_nchw else own[name], spec, dynamic)
        found[name] = tf.TensorSpec(_placed(shape, LAST) if as_nchw else shape, spec["dtype"], name)
    return found


def channels_last(arrays: Arrays, names: Sequence[str]) -> Arrays:
    """Inputs as the model takes them."""
    return {name: array.transpose(LAST) if name in names else array for name, array in arrays.items()}


def channels_second(arrays: Arrays, names: Sequence[str]) -> Arrays:
    """Outputs as the graph gives them. Raises StageError for one that has not four axes."""
    for name in names:
        if arrays[name].ndim != len(SECOND):
            hint = "it is for outputs with a batch, height, width and channels"
            raise StageError(f"outputs_as_nchw: '{name}' has {arrays[name].ndim} axes", hint)
    return {name: array.transpose(SECOND) if name in names else array for name, array in arrays.items()}


def text_of(value: Any) -> Any:
    """What TensorFlow gives as an array: its strings, which are bytes, as text."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind not in "OS":
        return array
    return np.array([one.decode() for one in array.astype(object).ravel()], object).reshape(array.shape)


def accepts(own: Interface, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises StageError unless a recipe declares all inputs of a model, and no output that it has not."""
    require_names("input", inputs, [value.name for value in own.inputs], whole=True)
    require_names("output", outputs, [value.name for value in own.outputs], whole=False)


def require_names(role: str, declared: Sequence[str], own: Sequence[str], *, whole: bool) -> None:
    """Raises StageError for names that the model has not, and, if `whole`, for such of its own as are not declared."""
    for name in declared:
        if name not in own:
            hint = did_you_mean(name, own) or f"its {role}s are {', '.join(own)}"
            raise StageError(f"the model has no {role} '{name}'", hint)
    if whole and (left := [name for name in own if name not in declared]):
        names = ", ".join(map(repr, left))
        raise StageError(
            f"the model has inputs that the recipe does not declare: {names}", "declare them in export.inputs"
        )


def _require_names(option: str, names: Sequence[str], known: Sequence[str], role: str) -> None:
    for name in names:
        if name not in known:
            raise StageError(f"{option} names '{name}', which is no {role}", did_you_mean(name, known))


def _dynamic(options: Mapping[str, Any]) -> dict[str, set[int]]:
    """The dynamic axes of the inputs, as an export or the cases of a reference have them."""
    if "cases" in options:
        return {name: {*axes} for case in options["cases"] for name, axes in case.get("dynamic", {}).items()}
    return {name: {*map(int, axes)} for name, axes in options.get("dynamic_axes", {}).items()}


def _known(model: Model) -> list[Value]:
    try:
        return model.interface().inputs
    except StageError:
        return []


def _second(value: Value) -> Value:
    if value.shape is None or len(value.shape) != len(SECOND):
        return value
    return structs.replace(value, shape=_placed(value.shape, SECOND))


def _placed(shape: Sequence[T], places: Sequence[int]) -> list[T]:
    return [shape[place] for place in places]


def _fits(own: Value, spec: Mapping[str, Any], dynamic: set[int]) -> None:
    """Raises StageError where an input is not what the model's own signature says."""
    name, shape = own.name, spec["shape"]
    if own.dtype != spec["dtype"]:
        fact = f"the model's input '{name}' is {own.dtype}, the recipe says {spec['dtype']}"
        raise StageError(fact, f"set its dtype to {own.dtype}")
    if own.shape is None:
        return
    fixed = [
        axis for axis, size in enumerate(own.shape) if isinstance(size, int) and axis in dynamic and axis < len(shape)
    ]
    if fixed:
        axis = fixed[0]
        fact = (
            f"input '{name}': axis {axis} is declared dynamic, and the model's signature fixes it to {own.shape[axis]}"
        )
        hint = f"take axis {axis} of '{name}' out of export.dynamic_axes, or save the model with None there"
        raise StageError(fact, hint)
    fits = len(own.shape) == len(shape) and all(
        size in (None, given) for size, given in zip(own.shape, shape, strict=True)
    )
    if not fits:
        fact = f"the model's input '{name}' has the shape {_shown(own.shape)}, which {shape} does not fit"
        raise StageError(fact, "give it as many axes, and the sizes that are fixed; ? takes any")


def _shown(shape: Sequence[object]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
