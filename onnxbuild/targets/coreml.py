"""`coreml`: an ML Program that Core ML loads, as a package of macOS (a folder): made by onnx2coreml and coremltools.

It is made of the final graph or, where the recipe says so, of the source's own model as torch.export has it. Which sizes
its inputs take is said before anything is built. Knows no store.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from onnxbuild.graphs import dimensions
from onnxbuild.targets import coreml_conversion as conversion
from onnxbuild.targets import coreml_package as package

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from onnxbuild.contracts import Shapes

VERSION = 2
DISTRIBUTIONS: tuple[str, ...] = ("coremltools", "onnx2coreml", "onnxruntime", "numpy")  # onnxruntime folds constants
RUNTIME = "mil"
FILES = package.FILES
SHAPED = True
MOST_AXES = 5  # of a tensor in Core ML
MOST_SHAPES = 128  # of an input in Core ML, where they are listed
_TAKEN = ("float16", "float32", "float64", "int32", "int64")  # of inputs; Core ML has none but these, 64 bits become 32
# The systems that have functions in a package, and lists of shapes for more than one input.
_NEWER = ("iOS18", "iOS26", "macOS15", "macOS26", "watchOS11", "watchOS26", "tvOS18", "tvOS26")
_SINCE = (
    "give minimum_deployment_target: iOS18, macOS15, watchOS11, tvOS18 or a later one, or one size of each dimension"
)
_Size = Annotated[int, Meta(ge=1)]
_SIZES = "a size, a list of sizes, or from_dims"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of coremltools.convert, by its own names and with the defaults of an ML Program."""

    minimum_deployment_target: Annotated[
        Literal[
            "iOS15", "iOS16", "iOS17", "iOS18", "iOS26", "macOS12", "macOS13", "macOS14", "macOS15", "macOS26",
            "watchOS8", "watchOS9", "watchOS10", "watchOS11", "watchOS26", "tvOS15", "tvOS16", "tvOS17", "tvOS18", "tvOS26",
        ],
        Meta(description="The oldest system that has to load it; newer ones have more operators."),
    ] = "iOS17"  # fmt: skip
    compute_precision: Annotated[
        Literal["FLOAT16", "FLOAT32"],
        Meta(description="What weights and results are kept in; inputs and outputs keep their own type."),
    ] = "FLOAT16"
    dims: Annotated[
        dict[str, Annotated[_Size | list[_Size] | Literal["from_dims"], Meta(description=_SIZES)]],
        Meta(
            description="Sizes of the inputs' dynamic dimensions, the example's where left out: one; a list of them, the "
            "first being the default; or from_dims, all that export.dims declares (with source: program alone)."
        ),
    ] = {}
    source: Annotated[
        Literal["graph", "program"],
        Meta(
            description="What it is made of: the final graph, or the PyTorch model itself as torch.export has it, with "
            "no pass of `optimize` in it."
        ),
    ] = "graph"


def files(options: Options) -> tuple[str, ...]:  # noqa: ARG001  # the protocol's
    """All of the package, always: where no weight is large enough for a file of its own, an empty one is written."""
    return FILES


def requires(options: Options) -> Mapping[str, str]:
    """The converter, and what it converts with."""
    return {"coremltools": "coreml"} | ({} if of_program(options) else {"onnx2coreml": "coreml"})


def of_program(options: Options) -> bool:
    """Whether it is made of the source's own model."""
    return options.source == "program"


def wrong(options: Options, shapes: Shapes) -> Iterable[tuple[str, str, str]]:
    """Inputs that Core ML has no type or no shape for, and sizes that a converter can't leave open."""
    for name, spec in shapes.inputs.items():
        if spec["dtype"] not in _TAKEN:
            fact = f"Core ML takes no input of {spec['dtype']}, as '{name}' is"
            yield "", fact, f"it takes {', '.join(_TAKEN)}: convert inside the model, or take coreml out of targets"
        if not 1 <= len(spec["shape"]) <= MOST_AXES:
            fact = f"Core ML takes inputs of 1 to {MOST_AXES} axes, '{name}' has {len(spec['shape'])}"
            yield "", fact, "reshape inside the model, or take coreml out of targets"
        elif 0 in spec["shape"]:
            yield "", f"Core ML takes no empty input, as '{name}' is", "give an example without a size of 0"
    yield from _wrong_sizes(options, shapes)
    yield from _of_converter(options, shapes)


def _wrong_sizes(options: Options, shapes: Shapes) -> Iterator[tuple[str, str, str]]:
    """Lists of sizes that are none, and ranges that have no end."""
    lists = {dim: sizes for dim, sizes in options.dims.items() if isinstance(sizes, list)}
    ranges = [dim for dim, sizes in options.dims.items() if sizes == "from_dims"]
    for dim, sizes in lists.items():
        if not sizes or len({*sizes}) < len(sizes):
            fact = f"the sizes {sizes} of '{dim}' are {'none' if not sizes else 'not all different'}"
            yield f"dims.{dim}", fact, "give each size once"
    if prod(map(len, lists.values())) > MOST_SHAPES:
        fact = f"the sizes come to {prod(map(len, lists.values()))} shapes, and Core ML takes {MOST_SHAPES}"
        yield "dims", fact, "give fewer sizes"
    if lists and ranges:
        fact = f"'{next(iter(lists))}' has listed sizes and '{ranges[0]}' a range, and Core ML takes one or the other"
        yield "dims", fact, "list the sizes of all dimensions, or of none"
    for dim in ranges:
        limits = shapes.dims.get(dim, {})
        if isinstance(limits, dict) and "max" not in limits:
            yield (
                f"export.dims.{dim}",
                f"Core ML takes no size without an end, as '{dim}' is",
                f"say {dim}: {{max: 64}}",
            )
        if isinstance(limits, dict) and limits.get("min") == 0:
            fact = f"Core ML takes no empty input, and the sizes of '{dim}' start at 0"
            yield f"export.dims.{dim}", fact, "let them start at 1, or list the sizes"


def _of_converter(options: Options, shapes: Shapes) -> Iterator[tuple[str, str, str]]:
    """What the way of making it can't leave open."""
    several = [dim for dim, sizes in options.dims.items() if isinstance(sizes, list) and len(sizes) > 1]
    ranges = [dim for dim, sizes in options.dims.items() if sizes == "from_dims"]
    old = options.minimum_deployment_target not in _NEWER
    if not of_program(options):
        for dim in ranges:
            fact = f"onnx2coreml takes no range of sizes, as of '{dim}'"
            yield "dims", fact, "list its sizes; or give source: program, for a PyTorch model"
        if several and old:
            fact = f"several sizes become functions, which {options.minimum_deployment_target} has not"
            yield "minimum_deployment_target", fact, _SINCE
        return
    inputs = [
        name for name, axes in shapes.dynamic_axes.items() if name in shapes.inputs and {*axes.values()} & {*several}
    ]
    if len(inputs) > 1 and old:
        fact = (
            f"{options.minimum_deployment_target} takes listed sizes of one input, and {' and '.join(inputs)} have them"
        )
        yield "minimum_deployment_target", fact, _SINCE
    shown = {dim for name in shapes.inputs for dim in shapes.dynamic_axes.get(name, {}).values()}
    for dim in (*several, *ranges):
        limits = shapes.dims.get(dim, {})
        following = [other for other in sorted(shown) if dim in _follows(shapes.dims.get(other))]
        why = f"that others are computed of, as '{following[0]}' is of '{dim}'" if following else ""
        if isinstance(limits, dict) and limits.get("multiple_of", 1) > 1:
            why = f"that has steps, as '{dim}' does"
        if why:
            fact = f"coremltools leaves no dimension open {why}"
            yield "dims", fact, "give one size of it, or source: graph with a list of its sizes"


def _follows(said: Any) -> Sequence[str]:
    """The dimensions that one is an expression of."""
    expression = dimensions.known(said) if isinstance(said, str) else None
    return () if expression is None else list(dimensions.names(expression))


def fixed(options: Options) -> Mapping[str, Sequence[int]]:
    """The sizes that are asked for; the example's for the other dimensions."""
    return {
        dim: [] if isinstance(sizes, str) else [sizes] if isinstance(sizes, int) else sizes
        for dim, sizes in options.dims.items()
    }


def facets(options: Options) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """Constants are folded by onnxruntime or torch, whose sums go by the processor."""
    return ("cpu_flags",)


def notes(options: Options) -> Sequence[str]:
    """What is known before the conversion."""
    return ["made from the source model: the passes of `optimize` are not in it"] if of_program(options) else []


def build(path: Path, options: Options, scratch: Path, shapes: Shapes) -> tuple[Mapping[str, Path], Sequence[str]]:
    """Convert a graph at the shapes that are declared; gives the files of the package, and notes on what changed.

    `path` is a graph in the store's form, `scratch` an empty folder. Raises StageError where the converter can't.
    """
    converted, names = conversion.of_graph(path, options, scratch, shapes)
    return _packaged(converted, names, options, scratch, shapes)


def build_from(
    program: Any, options: Options, scratch: Path, shapes: Shapes
) -> tuple[Mapping[str, Path], Sequence[str]]:
    """As `build`, of a torch.export.ExportedProgram of the same inputs and outputs."""
    converted, names = conversion.of_program(program, options, scratch, shapes)
    return _packaged(converted, names, options, scratch, shapes)


def _packaged(
    converted: Any, names: list[list[str]], options: Options, scratch: Path, shapes: Shapes
) -> tuple[Mapping[str, Path], Sequence[str]]:
    spec = converted.get_spec()
    told = [*_bound(options, shapes), *_renamed(spec, names), *_narrowed(shapes)]
    weights = Path(converted.weights_dir or scratch) / "weight.bin"
    return package.write(spec, weights, scratch), told


def _bound(options: Options, shapes: Shapes) -> list[str]:
    """What the inputs are bound to, where the recipe says that they vary."""
    ranges = [dim for dim, sizes in options.dims.items() if sizes == "from_dims"]
    if ranges:
        limits = (f"{dim} {shapes.dims[dim].get('min', 1)} to {shapes.dims[dim]['max']}" for dim in ranges)
        return [f"takes a range of sizes: {', '.join(limits)}"]
    if shapes.variants and not of_program(options):
        names = [conversion.called(variant["dims"]) for variant in shapes.variants]
        return [f"has a function for each size, of which {names[0]} is the default: {', '.join(names)}"]
    told = []
    for name, spec in shapes.inputs.items():
        several = dict.fromkeys(tuple(variant["shapes"][name]) for variant in shapes.variants) or [spec["shape"]]
        if shapes.dynamic_axes.get(name):
            told.append(f"{name} is {' or '.join(str(list(shape)) for shape in several)}")
    return [f"takes {'these shapes' if shapes.variants else 'one shape'}: {', '.join(told)}"] if told else []


def _renamed(spec: Any, names: list[list[str]]) -> list[str]:
    """Inputs and outputs whose names Core ML does not take, each with the name that it has; noted in the package, too."""
    told: dict[str, None] = {}
    for one in package.descriptions(spec):
        for features, own in zip((one.input, one.output), names, strict=True):
            for feature, name in zip(features, own, strict=True):
                if feature.name != name:
                    feature.shortDescription = name
                    told[f"{name} is called {feature.name} in Core ML, which takes no such name"] = None
    return list(told)


def _narrowed(shapes: Shapes) -> list[str]:
    return [
        f"input {name} is {conversion.SMALLER[spec['dtype']]}, the model's is {spec['dtype']}"
        for name, spec in shapes.inputs.items()
        if spec["dtype"] in conversion.SMALLER
    ]
