"""What a model may be called with: as the user says, as an example function gives it, or as can be told of the model.

Imports torch at module level. Runs no model; whether it takes an example is found out by `trials`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from onnxbuild.contracts import Json
from onnxbuild.errors import StageError
from onnxbuild.sources import factories, failures
from onnxbuild.sources.pytorch import pretrained
from onnxbuild.sources.pytorch.calling import parameters_of, shown
from onnxbuild.sources.pytorch.trials import Example, dtype_name

BATCH = 2  # exporters take a size of 1 for a constant
LENGTH = 16
SIDES = (224, 64, 32, 28, 128, 256, 299, 384, 512)  # images that networks are made for
LENGTHS = (64, 256, 1024, 16_000)
VOLUMES = (16, 32, 64)
NO_TENSOR = (bool, int, float, str, type(None))  # annotations of what is no input of a graph
UNTOLD = "a tensor of a type that no graph takes as an input"


def candidates(model: torch.nn.Module, given: Mapping[str, Json], example: str, root: Path) -> Iterator[Example]:
    """Examples to try, the first that the model takes being the one. Raises StageError where none can be told.

    `given` are inputs by name, with dtype and shape; `example` names a function, "module:function".
    """
    if given:
        yield from _enlarged(Example(dict(given), None, ("inputs: as given",)))
    elif example:
        yield from _enlarged(Example(_of_function(model, example, root), None, (f"inputs: as {example} gives them",)))
    elif pretrained.is_one(model):
        yield from pretrained.candidates(model)
    else:
        yield from _by_layer(model)


def to_say(model: torch.nn.Module) -> str:
    """A hint: how to say what a model takes."""
    names = _required(model) or ["x"]
    inputs = " ".join(f"--input {name}=float32[2,3,224,224]" for name in names)
    return f"say what it takes, each with its own dtype and shape: {inputs}; or name a function that makes an example"


def described(name: str, tensor: torch.Tensor) -> Json:
    """A tensor as a recipe describes an input; its data where the default of its dtype is another. Raises StageError."""
    if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided:
        raise StageError(f"{name} is {UNTOLD}: {tensor.dtype}", "pass real numbers: torch.view_as_real gives those")
    spec: dict[str, Json] = {"dtype": dtype_name(tensor), "shape": [*tensor.shape]}
    if not tensor.numel() or tensor.dtype == torch.bool:
        return spec
    low, high = tensor.min().item(), tensor.max().item()
    if tensor.is_floating_point():
        if low == high:
            spec["data"] = {"constant": low}
        elif low >= 0 and high <= 1:
            spec["data"] = {"uniform": {"low": 0.0, "high": 1.0}}
        return spec
    spec["data"] = {"constant": low} if low == high else {"integers": {"low": low, "high": high + 1}}
    return spec


def _enlarged(example: Example) -> Iterator[Example]:
    """An example with its batches of 1 made 2, since one of 1 tells nothing; then the example as it is."""
    ones = [
        (name, axis)
        for name, spec in example.inputs.items()
        for axis, size in enumerate(spec["shape"])
        if size == 1 and len(spec["shape"]) > 1
    ]
    firsts = [place for place in ones if place[1] == 0]
    for places in dict.fromkeys((tuple(firsts), tuple(ones))):
        if firsts and places:
            inputs = {
                name: {
                    **spec,
                    "shape": [BATCH if (name, at) in places else size for at, size in enumerate(spec["shape"])],
                }
                for name, spec in example.inputs.items()
            }
            text = f"sizes of 1 made {BATCH}, which the model takes: exporters take a size of 1 for a constant"
            yield example._replace(inputs=inputs, looked=(*example.looked, text))
    yield example


def _of_function(model: torch.nn.Module, name: str, root: Path) -> dict[str, Json]:
    """The inputs that a function gives: a mapping by name, or a tuple in the order of forward's parameters."""
    try:
        made = factories.import_callable(name, root)()
    except StageError:
        raise
    except Exception as error:
        raise failures.explain(error, f"the example function {name} failed", root) from error
    if torch.is_tensor(made):
        made = (made,)
    if isinstance(made, (tuple, list)):
        parameters = list(parameters_of(model) or ())
        names = parameters if len(parameters) >= len(made) else [f"input_{at}" for at in range(len(made))]
        made = dict(zip(names, made, strict=False))
    if not isinstance(made, Mapping) or not made or not all(map(torch.is_tensor, made.values())):
        hint = "let it return a dict of tensors by forward's parameters, or a tuple of tensors in their order"
        raise StageError(f"{name} gives {factories.article(type(made).__name__)} that is no example", hint)
    return {str(key): described(str(key), tensor) for key, tensor in made.items()}


def _required(model: torch.nn.Module) -> list[str]:
    """The parameters of forward that have no default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        name
        for name, parameter in (parameters_of(model) or {}).items()
        if parameter.kind in kinds and parameter.default is parameter.empty and not _is_plain(parameter.annotation)
    ]


def _is_plain(annotation: Any) -> bool:
    return annotation in NO_TENSOR or annotation in {one.__name__ for one in NO_TENSOR}


def _by_layer(model: torch.nn.Module) -> Iterator[Example]:
    """One input, as the model's first layer wants it. Raises StageError where that can't be told."""
    names = _required(model)
    fact = f"what the model's {shown(parameters_of(model) or {})} takes can't be told"
    if len(names) != 1:
        raise StageError(f"{fact}: it has {len(names)} parameters without a default", to_say(model))
    found: dict[str, tuple[str, torch.nn.Module]] = {}  # the first of each kind: layers stand in any order
    for path, layer in model.named_modules():
        if list(_fitting(layer)):
            found.setdefault(_kind(layer), (path, layer))
    if not found:
        raise StageError(f"{fact}: no layer of it says how wide its input is", to_say(model))
    for (path, layer), spec in ((one, spec) for one in found.values() for spec in _fitting(one[1])):
        text = (
            f"assumed {names[0]}: {spec['dtype']} {spec['shape']}, as the first layer takes it, {path}: {_named(layer)}"
        )
        yield Example({names[0]: spec}, None, (text,))


def _named(layer: torch.nn.Module) -> str:
    return f"{_kind(layer)}({layer.extra_repr()})"


def _kind(layer: torch.nn.Module) -> str:
    """The class of torch.nn that a layer is of or derived from; of a compiled one its own class."""
    if isinstance(layer, torch.jit.ScriptModule):
        return str(layer.original_name)
    return next(one.__name__ for one in type(layer).__mro__ if one.__module__.startswith("torch.nn."))


def _fitting(layer: torch.nn.Module) -> Iterator[Json]:
    """Inputs that a layer takes, batch first; none where it does not say."""
    kind = _kind(layer)
    weight: Any = getattr(layer, "weight", None)
    if kind in ("Embedding", "EmbeddingBag"):
        data = {"integers": {"low": 0, "high": weight.shape[0]}}
        yield from ({"dtype": "int64", "shape": shape, "data": data} for shape in ([BATCH, LENGTH], [BATCH]))
        return
    if kind in ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"):
        weight = layer.weight_ih if kind.endswith("Cell") else layer.weight_ih_l0
    if weight is None or (weight.ndim < 2 and kind != "LayerNorm"):
        return
    width = weight.shape[-1] if weight.ndim < 3 else weight.shape[1] * getattr(layer, "groups", 1)
    for shape in _shapes(kind, width):
        yield {"dtype": dtype_name(weight), "shape": [BATCH, *shape]}


def _shapes(kind: str, width: int) -> list[tuple[int, ...]]:
    """Shapes of what a layer of a class and a width takes, without the batch."""
    if kind in ("Linear", "LayerNorm"):
        return [(width,), (LENGTH, width)]
    if kind in ("LSTM", "GRU", "RNN"):
        return [(LENGTH, width)]
    if kind in ("LSTMCell", "GRUCell", "RNNCell"):
        return [(width,)]
    if kind == "Conv1d":
        return [(width, length) for length in LENGTHS]
    if kind == "Conv2d":
        return [(width, side, side) for side in _sides(width)]
    return [(width, side, side, side) for side in VOLUMES] if kind == "Conv3d" else []


def _sides(channels: int) -> Sequence[int]:
    """Sides of images: of colour first those of photographs, else those of drawings."""
    return SIDES if channels == 3 else (*SIDES[1:4], *SIDES[:1], *SIDES[4:])
