"""`coreml`: an ML Program that Core ML loads, as a package of macOS (a folder): made by onnx2coreml and coremltools.

Its inputs have one shape each: onnx2coreml takes no other. What two conversions differ by is taken out of the package:
random identifiers, the date, numbers in made-up names. See coremltools' "Core ML model format". Knows no store.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.system import capture, oserrors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Shapes

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("coremltools", "onnx2coreml", "onnxruntime", "numpy")  # onnxruntime folds constants
RUNTIME = "mil"
PACKAGE = "model.mlpackage"
INNER = "com.apple.CoreML"
MODEL = f"{PACKAGE}/Data/{INNER}/model.mlmodel"
WEIGHTS = f"{PACKAGE}/Data/{INNER}/weights/weight.bin"
MANIFEST = f"{PACKAGE}/Manifest.json"
FILES: tuple[str, ...] = (MODEL, WEIGHTS, MANIFEST)
SHAPED = True
MOST_AXES = 5  # of a tensor in Core ML
# A weight.bin that holds nothing: how many tensors, the version of its format, and 56 bytes for later.
EMPTY = (0).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(56)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, INNER)
_TAKEN = ("float16", "float32", "float64", "int32", "int64")  # of inputs; Core ML has none but these, 64 bits become 32
_SMALLER = {"float64": "float32", "int64": "int32"}


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
        dict[str, Annotated[int, Meta(ge=1)]],
        Meta(description="Sizes that the inputs' dynamic dimensions are fixed at; the example's where left out."),
    ] = {}


def files(options: Options) -> tuple[str, ...]:  # noqa: ARG001  # the protocol's
    """All of the package, always: where no weight is large enough for a file of its own, an empty one is written."""
    return FILES


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """The converter, and what it converts with."""
    return {"coremltools": "coreml", "onnx2coreml": "coreml"}


def wrong(options: Options, shapes: Shapes) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Inputs that Core ML has no type or no shape for."""
    for name, spec in shapes.inputs.items():
        if spec["dtype"] not in _TAKEN:
            fact = f"Core ML takes no input of {spec['dtype']}, as '{name}' is"
            yield "", fact, f"it takes {', '.join(_TAKEN)}: convert inside the model, or take coreml out of targets"
        if not 1 <= len(spec["shape"]) <= MOST_AXES:
            fact = f"Core ML takes inputs of 1 to {MOST_AXES} axes, '{name}' has {len(spec['shape'])}"
            yield "", fact, "reshape inside the model, or take coreml out of targets"
        elif 0 in spec["shape"]:
            yield "", f"Core ML takes no empty input, as '{name}' is", "give an example without a size of 0"


def fixed(options: Options) -> Mapping[str, int] | None:
    """The sizes that are asked for; the example's for the other dimensions."""
    return options.dims


def facets(options: Options) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """Constants are folded by onnxruntime, whose sums go by the processor."""
    return ("cpu_flags",)


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Nothing that is known before the conversion."""
    return []


def build(path: Path, options: Options, scratch: Path, shapes: Shapes) -> tuple[Mapping[str, Path], Sequence[str]]:
    """Convert a graph at the shapes that are declared; gives the files of the package, and notes on what changed.

    `path` is a graph in the store's form, `scratch` an empty folder. Raises StageError where the converter can't.
    """
    from onnxbuild.graphs import modelfile
    from onnxbuild.runtimes import mil

    mil.library()
    (scratch / "converted").mkdir()
    graph = modelfile.load(path)
    names = _bind(graph, shapes)
    with open(scratch / "said", "w+b") as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = capture.output_to(log, lambda: _convert(graph, options, scratch))
    spec = converted.get_spec()
    told = [*_bound(shapes), *_renamed(spec, names), *_narrowed(shapes)]
    canonical(spec)
    found = {file: scratch / file for file in FILES}
    found[WEIGHTS].parent.mkdir(parents=True)
    found[MODEL].write_bytes(spec.SerializeToString(deterministic=True))
    found[MANIFEST].write_text(_manifest(), "utf-8")
    weights = Path(converted.weights_dir or scratch) / "weight.bin"
    if weights.is_file():
        shutil.copyfile(weights, found[WEIGHTS])
    else:
        found[WEIGHTS].write_bytes(EMPTY)
    return found, told


def _bind(graph: ModelProto, shapes: Shapes) -> list[list[str]]:
    """Give the inputs their one shape, and take away what is said of all others; the inputs' and outputs' names in order."""
    held = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in held]
    for value in inputs:
        kept = value.type.tensor_type
        kept.ClearField("shape")
        for size in shapes.inputs[value.name]["shape"]:
            kept.shape.dim.add().dim_value = size
    for value in graph.graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.graph.value_info[:]
    return [[value.name for value in inputs], [value.name for value in graph.graph.output]]


def _convert(graph: ModelProto, options: Options, scratch: Path) -> Any:
    """The model as coremltools has it. onnx2coreml's own `convert` would put its author into it as the model's."""
    import coremltools as ct
    from onnx2coreml import Converter, UnsupportedOpError

    from onnxbuild.targets import coreml_lowerings

    oldest = ct.target[options.minimum_deployment_target]
    precision = ct.precision[options.compute_precision]
    hint = "write the model with other operators, or take coreml out of targets"
    try:
        converter = Converter()
        coreml_lowerings.register(converter)
        program = converter.to_mil(graph, target=oldest, precision=precision)
        return ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=oldest,
            compute_precision=precision,
            skip_model_load=True,
            package_dir=str(scratch / "converted" / PACKAGE),  # else it is left behind in the system's temporary folder
        )
    except UnsupportedOpError as error:
        lacking = ", ".join(f"{kind} ({nodes[0]})" for kind, nodes in sorted(error.missing.items()))
        raise StageError(f"onnx2coreml has no {lacking}", hint) from error
    except Exception as error:
        raise StageError(f"onnx2coreml can't convert the graph: {oserrors.said(error)}", hint) from error


def _bound(shapes: Shapes) -> list[str]:
    """What the inputs are bound to, where the recipe says that they vary."""
    found = [f"{name} is {spec['shape']}" for name, spec in shapes.inputs.items() if shapes.dynamic_axes.get(name)]
    return [f"takes one shape: {', '.join(found)}"] if found else []


def _renamed(spec: Any, names: list[list[str]]) -> list[str]:
    """Inputs and outputs whose names Core ML does not take, each with the name that it has; noted in the package, too."""
    told = []
    for features, own in zip((spec.description.input, spec.description.output), names, strict=True):
        for feature, name in zip(features, own, strict=True):
            if feature.name != name:
                feature.shortDescription = name
                told.append(f"{name} is called {feature.name} in Core ML, which takes no such name")
    return told


def _narrowed(shapes: Shapes) -> list[str]:
    return [
        f"input {name} is {_SMALLER[spec['dtype']]}, the model's is {spec['dtype']}"
        for name, spec in shapes.inputs.items()
        if spec["dtype"] in _SMALLER
    ]


def canonical(spec: Any) -> None:
    """Take out of a model what two conversions of the same graph differ by: the date, and numbers in made-up names.

    An operation's name refers to nothing; those that were made up (`cast_26`) are numbered anew, in order.
    """
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            counted: dict[str, int] = {}
            for operation in block.operations:
                name = operation.attributes["name"].immediateValue.tensor.strings
                if re.fullmatch(rf"{operation.type}_\d+", name.values[0]):
                    counted[operation.type] = counted.get(operation.type, -1) + 1
                    name.values[0] = f"{operation.type}_{counted[operation.type]}"


def _manifest() -> str:
    """What a package lists of itself: each part by an identifier, of which the model's is the root."""
    parts = {"model.mlmodel": "CoreML Model Specification", "weights": "CoreML Model Weights"}
    keys = {name: str(uuid.uuid5(_NAMESPACE, name)) for name in parts}
    entries = {
        keys[name]: {"author": INNER, "description": text, "name": name, "path": f"{INNER}/{name}"}
        for name, text in parts.items()
    }
    whole = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": keys["model.mlmodel"]}
    return json.dumps(whole, indent=4, sort_keys=True) + "\n"
