"""Exports through torch.onnx.export(dynamo=True), which is torch.export. Imports torch at module level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from onnxbuild.graphs import dimensions
from onnxbuild.graphs.modelfile import INLINE_BELOW
from onnxbuild.store import objects as store

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnxbuild.sources.pytorch.adapter import Adapter

Limits = dict[str, int]  # "min" and "max", only those that are narrower than asked for
STRATEGY = "TorchExportNonStrictStrategy"  # torch.export.export(strict=False), the first one that torch tries


def export(
    model: Adapter,
    example: tuple[torch.Tensor, ...],
    options: Mapping[str, Any],
    translations: Mapping[Callable[..., Any], Callable[..., Any]],
    objects: Path,
) -> tuple[onnx.ModelProto, list[str], dict[str, Limits]]:
    """The model, its large tensors external in `objects`, notes on what torch did otherwise than asked, and the
    dimensions that it holds for a part of their range alone, each with the smallest and the largest size.

    `options` is the recipe's `export` section. Weights go to the store one by one: no second copy of them all is made.
    """
    make_traceable()
    shapes = dynamic_shapes(options)
    notes: list[str] = []
    narrowed: dict[str, Limits] = {}
    with _nothing_made_static(notes, narrowed, _dims_of(options)):
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            verbose=False,
            opset_version=options["opset"],
            dynamic_shapes={"flat": shapes} if any(shapes) else None,
            custom_translation_table=dict(translations) or None,
        )
    strategy = getattr(program, "_capture_strategy", None) or STRATEGY
    if strategy != STRATEGY:
        notes.append("torch.export took the model only with strict=True (TorchDynamo), not with strict=False")
    _name_ends(program.model, list(options["inputs"]), list(options["outputs"]))
    return _serialised(program.model, objects), notes, narrowed


def make_traceable() -> None:
    """Let TorchDynamo pass over what it can't trace of an adapter. Not done in there: it imports all of TorchDynamo."""
    from onnxbuild.sources import ordering

    torch.compiler.assume_constant_result(ordering.output_slip)


@contextmanager
def _nothing_made_static(notes: list[str], narrowed: dict[str, Limits], dims: list[dict[int, str]]) -> Iterator[None]:
    """Keep torch.onnx from exporting a static axis in place of a dynamic one.

    Where torch.export's trace needs other dimensions than asked for, torch.onnx applies the fixes that the error
    message suggests, and says nothing. A narrower range is noted (parity tries the ends of the recipe's range); a
    dimension fixed to one size is refused, upon which torch.onnx goes on to its next way of tracing.
    """
    module = torch.export.dynamic_shapes
    refine = module.refine_dynamic_shapes_from_suggested_fixes

    def guarded(message: str, shapes: dict[str, Any]) -> Any:
        refined = refine(message, shapes)
        for before, after, names in zip(shapes["flat"], refined["flat"], dims, strict=True):
            for axis in before or {}:
                if after is None or after.get(axis) is None or isinstance(after[axis], int):
                    raise ValueError(message)
                if limits := _limits(before[axis], after[axis]):
                    narrowed[names[axis]] = limits
        fixes = " ".join(message.partition("Suggested fixes:")[2].partition("The error above")[0].split())
        notes.append(f"torch.export took the dimensions otherwise than asked: {fixes}")
        return refined

    module.refine_dynamic_shapes_from_suggested_fixes = guarded
    try:
        yield
    finally:
        module.refine_dynamic_shapes_from_suggested_fixes = refine


def _dims_of(options: Mapping[str, Any]) -> list[dict[int, str]]:
    """The names of each input's dynamic axes."""
    axes = options.get("dynamic_axes", {})
    return [{int(axis): dim for axis, dim in axes.get(name, {}).items()} for name in options["inputs"]]


def _limits(asked: Any, taken: Any) -> Limits:
    """Where torch's range of a dimension is narrower than the one asked for; {} where it is not."""
    found: Limits = {}
    low, high = getattr(taken, "min", None), getattr(taken, "max", None)
    if isinstance(low, int) and low > (asked.min or 0):
        found["min"] = low
    if isinstance(high, int) and not (
        isinstance(asked.max, int) and asked.max <= high
    ):  # torch has an infinity of its own
        found["max"] = high
    return found


def dynamic_shapes(options: Mapping[str, Any]) -> tuple[dict[int, Any] | None, ...]:
    """torch.export's dynamic_shapes for a recipe's `export` section, one entry per input."""
    made: dict[str, Any] = {}
    shapes = []
    dims = options.get("dims", {})
    for name, spec in options["inputs"].items():
        axes = options.get("dynamic_axes", {}).get(name, {})
        for axis, dim in axes.items():
            if dim in made:
                continue
            if isinstance(dims.get(dim), str):
                made[dim] = _related(dims[dim], dims, made)
            else:
                made[dim] = _dim(dim, dims.get(dim, {}), spec["shape"][int(axis)])
        shapes.append({int(axis): made[dim] for axis, dim in axes.items()} or None)
    return tuple(shapes)


def _free(name: str, dims: Mapping[str, Any], made: dict[str, Any]) -> Any:
    """The one torch.export.Dim of a dimension that may be chosen, in steps of 1."""
    if name not in made:
        made[name] = _dim(name, dims.get(name, {}), 0)
    return made[name]


def _related(text: str, dims: Mapping[str, Any], made: dict[str, Any]) -> Any:
    """A dimension that is an expression of others, as far as torch.export can say it: a*dim + b of one dimension.

    For any other, torch finds out what the model makes of the axis; parity tries the sizes.
    """
    line = dimensions.linear(dimensions.parse(text))
    if line is None or isinstance(dims.get(line[1]), str) or dims.get(line[1], {}).get("multiple_of", 1) != 1:
        return torch.export.Dim.AUTO
    factor, name, constant = line
    one = _free(name, dims, made)
    one = factor * one if factor > 1 else one
    return one + constant if constant > 0 else one - -constant if constant else one


def _dim(name: str, limits: Mapping[str, Any], size: int) -> Any:
    """torch.export.Dim for a dimension of the recipe; only its multiples of `multiple_of` where that is more than 1.

    `size` is the example's. Where that is a single step, torch would take the number of steps for a constant 1, and what the
    model makes of it for one, too: it is left to torch what the axis is then, and to parity whether that holds.
    """
    step = limits.get("multiple_of", 1)
    low = -(-limits.get("min", 1) // step)
    high = limits["max"] // step if "max" in limits else None
    if step == 1:
        return torch.export.Dim(name, min=low, max=high)
    if size // step == 1:
        return (
            torch.export.Dim.DYNAMIC
        )  # without a range: torch would make an axis static that a guard leaves one size of it
    return step * torch.export.Dim(f"{name}_by_{step}", min=low, max=high)


def _name_ends(model: ir.Model, inputs: list[str], outputs: list[str]) -> None:
    """Name the graph's inputs and outputs.

    torch would do it too, but lets an output's name meet that of an inner value, and so makes a graph that is invalid.
    """
    ends = dict(zip([*model.graph.inputs, *model.graph.outputs], [*inputs, *outputs], strict=True))
    wanted = set(ends.values())
    for graph in model.graphs():
        inner = [value for node in graph for value in node.outputs] + list(graph.initializers.values())
        for value in inner:
            if value.name in wanted and value not in ends:
                value.name = f"{value.name}_inner"
    for number, value in enumerate(ends):
        value.name = f"onnxbuild_end_{number}"  # out of each other's way first: two may swap names
    for value, name in ends.items():
        value.name = name


def _serialised(model: ir.Model, objects: Path) -> onnx.ModelProto:
    """The protobuf message, with every large initializer written to `objects` and left out of it."""
    import onnx_ir as ir

    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes < INLINE_BELOW:
                continue
            ref = store.add_bytes(objects, tensor.tobytes())
            value.const_value = ir.ExternalTensor(
                ref, 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name, base_dir=objects
            )
    return ir.serde.serialize_model(model)
