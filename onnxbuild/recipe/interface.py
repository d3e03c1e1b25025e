"""What a published model takes and gives: `export`, with the inputs and outputs that `prepend` and `append` put there, by
the names that `rename` gives.

Everybody but the source and its exporter asks for this, and not for `export`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Json
from onnxbuild.recipe import naming, relations
from onnxbuild.recipe.findings import Path
from onnxbuild.recipe.types import Append, Data, Dim, Export, Input, Integers, Prepend, Recipe, chosen
from onnxbuild.steps import chains
from onnxbuild.steps.interface import Tensor, UnfitError

PIXELS = Data(integers=Integers(0, 256))  # what an input of uint8 holds where nothing is said of it


def published(recipe: Recipe) -> Export:
    """The interface of what a recipe publishes."""
    return naming.renamed(stepped(recipe), naming.of(recipe.optimize))


def stepped(recipe: Recipe) -> Export:
    """The interface of the graph with its steps, before it is renamed."""
    return of(recipe.export, recipe.prepend, recipe.append)


def declared_at(recipe: Recipe, name: str) -> str:
    """Where a recipe describes an input of what it publishes."""
    own = naming.input_before(recipe.optimize, name)
    fed = next((key for key, one in recipe.prepend.items() if (one.name or key) == own), None)
    return f"prepend.{fed}" if fed else f"export.inputs.{own}"


def of(export: Export, prepend: Mapping[str, Prepend], append: Mapping[str, Append]) -> Export:
    """`export` as it is with the steps. Raises UnfitError where a step can't take what it is given."""
    if not prepend and not append:
        return export
    given = {name: published_input(name, export.inputs[name], prepend.get(name)) for name in export.inputs}
    results = made(export, prepend, append)
    outputs, axes = [], {one.name or name: one.dynamic_axes for name, one in prepend.items()}
    axes |= {
        name: export.dynamic_axes[name] for name in export.inputs if name not in prepend and name in export.dynamic_axes
    }
    for output in export.outputs:
        if output not in append or append[output].keep or not append[output].steps:
            outputs.append(output)
            axes |= {output: export.dynamic_axes[output]} if output in export.dynamic_axes else {}
        for name, tensor in results.get(output, {}).items():
            outputs.append(name)
            axes[name] = {str(axis): size for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
    dims: dict[str, Dim | str] = dict(export.dims)
    for one in prepend.values():
        dims |= one.dims
    return msgspec.structs.replace(
        export,
        inputs=dict(given.values()),
        outputs=outputs,
        dynamic_axes={name: own for name, own in axes.items() if own},
        dims=dims,
        arguments=UNSET,
    )


def published_input(name: str, own: Input, one: Prepend | None) -> tuple[str, Input]:
    """An input as it is published, with its name."""
    if one is None:
        return name, own
    return one.name or name, Input(
        one.dtype, one.shape, PIXELS if one.data is UNSET and one.dtype == "uint8" else one.data
    )


def made(export: Export, prepend: Mapping[str, Prepend], append: Mapping[str, Append]) -> dict[str, dict[str, Tensor]]:
    """What steps make of the outputs: by output, the results by name. Raises UnfitError, which says `output` besides."""
    known = {name: taken(export, name, one) for name, one in append.items()}
    steps = {name: steps_of(one.steps) for name, one in append.items()}
    found = {}
    for name in chains.in_order(steps, export.outputs):
        try:
            tensors = chains.gives(taken(export, name, append[name]), steps[name], known, least(export, prepend))
            found[name] = _called(name, append[name], tensors)
        except UnfitError as error:
            error.output = name
            raise
        known |= found[name]
    return found


def _called(name: str, one: Append, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The results of an output's steps, by name."""
    called = names(name, one)
    if len(called) != len(tensors):
        own = ", ".join(f"{name}_{number}" for number in range(len(tensors)))
        fact = f"the steps give {len(tensors)} values, and outputs names {len(one.outputs)}"
        raise UnfitError(fact, f"name each of them: outputs: [{own}]")
    return dict(zip(called, tensors, strict=True))


def least(export: Export, prepend: Mapping[str, Prepend]) -> dict[str, int]:
    """The smallest size of each dimension that an input has."""
    own = {dim: found.min for one in prepend.values() for dim, found in one.dims.items()}
    named = {dim for one in prepend.values() for dim in one.dynamic_axes.values()} | {
        use.dim for use in relations.uses(export)
    }
    return {dim: own.get(dim, export.limits(dim).min) for dim in named if dim not in export.related}


def fed(one: Prepend) -> Tensor:
    """The new input."""
    return tensor(one.dtype, one.shape, one.dynamic_axes)


def taken(export: Export, name: str, one: Append) -> Tensor:
    """The model's own output that steps take."""
    return tensor(one.dtype, one.shape, export.dynamic_axes.get(name, {}))


def tensor(dtype: str, shape: Sequence[int], axes: Mapping[str, str]) -> Tensor:
    """A value of which the dynamic axes are known by name."""
    return Tensor(dtype, [axes.get(str(axis), size) for axis, size in enumerate(shape)])


def names(output: str, one: Append) -> list[str]:
    """What the results of an output's steps are called."""
    return list(one.outputs) or ([output] if one.steps else [])


def steps_of(steps: Sequence[Any]) -> chains.Steps:
    """Steps as the chains take them."""
    return [chosen(step) for step in steps]


def sections(recipe: Recipe) -> dict[str, Json]:
    """`prepend` and `append` as stages are handed them, see `steps.surrounding`; {} where there are none."""
    as_json = msgspec.to_builtins
    before = {
        name: {"name": one.name or name, "dtype": one.dtype, "axes": fed(one).shape, "steps": as_json(one.steps)}
        for name, one in recipe.prepend.items()
    }
    after = {
        name: {
            "dtype": one.dtype,
            "axes": taken(recipe.export, name, one).shape,
            "steps": as_json(one.steps),
            "outputs": names(name, one),
            "keep": one.keep or not one.steps,
        }
        for name, one in recipe.append.items()
    }
    return {"prepend": before, "append": after} if before or after else {}


def named(recipe: Recipe) -> dict[str, Path]:
    """The names of what is published that `export` does not have, each with where the recipe gives it."""
    found: dict[str, Path] = {one.name: ("prepend", key, "name") for key, one in recipe.prepend.items() if one.name}
    found |= {name: ("append", key, "outputs") for key, one in recipe.append.items() for name in one.outputs}
    for group, names in renames(recipe).items():
        found |= {new: (*naming.PLACE, group, old) for old, new in names.items()}
    return found


def renames(recipe: Recipe) -> dict[str, Json]:
    """`rename` as stages are handed it: {"inputs": {name: published name}, "outputs", "dims"}; {} where there is none."""
    options = naming.of(recipe.optimize)
    return {} if options is None else msgspec.to_builtins(options)
