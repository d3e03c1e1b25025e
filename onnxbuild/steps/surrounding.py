"""A model with the definitions of its steps around it, in numpy: what a graph with the same steps is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnxbuild.contracts import Json
from onnxbuild.errors import StageError
from onnxbuild.graphs.dimensions import renamed
from onnxbuild.steps import chains
from onnxbuild.steps.interface import Tensor, shown

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays
    from onnxbuild.steps.interface import Array


def of_model(options: Mapping[str, Json]) -> dict[str, Json]:
    """The inputs, outputs and cases as the model itself has them; `options` are those of a stage that runs it.

    `options["model"]` are its inputs and outputs, `prepend` {input: {"name", "dtype", "axes", "steps"}} and `append`
    {output: {"dtype", "axes", "steps", "outputs", "keep"}} the steps, `axes` being sizes and names of dimensions. `renames`
    are the names by which the results are published in turn, where those are others: {"inputs", "outputs", "dims"}.
    """
    return {**options["model"], "cases": [_case(case, options) for case in options["cases"]]}


def input_fed(options: Mapping[str, Json], name: str) -> str:
    """The published input that an input of the model is made of."""
    before = options.get("prepend", {})
    made = before[name]["name"] if name in before else name
    called: str = options.get("renames", {}).get("inputs", {}).get(made, made)
    return called


def output_called(options: Mapping[str, Json], name: str) -> str:
    """What an output is called where it is published; `name` is that of the model with its steps."""
    called: str = options.get("renames", {}).get("outputs", {}).get(name, name)
    return called


def as_exported(
    options: Mapping[str, Json], cases: Sequence[Mapping[str, Json]]
) -> tuple[dict[str, dict[str, str]], dict[str, str], list[dict[str, Json]]]:
    """The axes that are declared of the outputs, the dimensions that are expressions of others, and cases with the outputs
    that they gave, by the names before any are renamed: what is wrong with them is to be mended where those are written.
    """
    outputs, dims = _before_renames(options, "outputs"), _before_renames(options, "dims")
    axes = {
        outputs.get(name, name): {axis: dims.get(dim, dim) for axis, dim in own.items()}
        for name, own in options["axes"].items()
    }
    related = {dims.get(name, name): renamed(text, dims) for name, text in options.get("related", {}).items()}
    before = [
        {
            **case,
            "dims": sizes_as_exported(options, case["dims"]),
            "outputs": {outputs.get(name, name): one for name, one in case["outputs"].items()},
        }
        for case in cases
    ]
    return axes, related, before


def sizes_as_exported(options: Mapping[str, Json], sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of dimensions, by the names before any are renamed."""
    dims = _before_renames(options, "dims")
    return {dims.get(name, name): size for name, size in sizes.items()}


def _before_renames(options: Mapping[str, Json], group: str) -> dict[str, str]:
    return {new: old for old, new in options.get("renames", {}).get(group, {}).items()}


def call(model: Callable[[Arrays], Arrays], options: Mapping[str, Json]) -> Callable[[Arrays], Arrays]:
    """The model from the published inputs to `options["outputs"]`, the published outputs.

    A call raises StageError where an output of the model is not of the dtype and the shape that `append` says.
    """
    before, after = options.get("prepend", {}), options.get("append", {})
    inputs, outputs = options["model"]["inputs"], options["model"]["outputs"]
    fed_by = {name: chains.read(one["steps"]) for name, one in before.items()}
    taken_by = {name: chains.read(one["steps"]) for name, one in after.items()}

    own = _before_renames(options, "outputs")

    def feed(given: Arrays, name: str) -> Array:
        array = given[input_fed(options, name)]
        return _prepared(array, fed_by[name]) if name in before else array

    def call(given: Arrays) -> Arrays:
        made = model({name: feed(given, name) for name in inputs})
        for output, declared in after.items():
            _require(made[output], output, declared)
        known = dict(made)
        for output in chains.in_order(taken_by, outputs):
            results = chains.compute(made[output], taken_by[output], known)
            known |= dict(zip(after[output]["outputs"], results, strict=True))
        return {name: known[own.get(name, name)] for name in options["outputs"]}

    return call


def _prepared(array: Array, steps: chains.Steps) -> Array:
    """What the model is fed: laid out in memory as its own input would be."""
    import numpy as np

    return np.asarray(chains.compute(array, steps, {})[0], order="C")


def _require(array: Array, output: str, declared: Mapping[str, Json]) -> None:
    from onnxbuild.parity.arrays import dtype_name

    axes, dtype = declared["axes"], dtype_name(array)
    fits = len(axes) == array.ndim and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, array.shape, strict=True)
    )
    if dtype != declared["dtype"] or not fits:
        got = shown(Tensor(dtype, [*array.shape]))
        fact = f"output '{output}' of the model is {got}, and append says {shown(Tensor(declared['dtype'], axes))}"
        raise StageError(fact, f"write its dtype and shape as they are under append.{output}")


def _case(case: Mapping[str, Json], options: Mapping[str, Json]) -> dict[str, Json]:
    """A case with the shapes that the steps make of the published inputs'."""
    shapes: dict[str, Json] = {}
    dynamic: dict[str, Json] = {}
    for name in options["model"]["inputs"]:
        one = options.get("prepend", {}).get(name)
        called = input_fed(options, name)
        if one is None:
            shapes[name], axes = case["shapes"][called], case["dynamic"].get(called, [])
        else:
            steps = chains.read(one["steps"])
            shapes[name] = chains.gives(Tensor(one["dtype"], case["shapes"][called]), steps, {}, {})[0].shape
            named = chains.gives(Tensor(one["dtype"], one["axes"]), steps, {}, {})[0].shape
            axes = [axis for axis, size in enumerate(named) if isinstance(size, str)]
        dynamic |= {name: axes} if axes else {}
    return {**case, "shapes": shapes, "dynamic": dynamic, "data": {}}
