"""Runs a Core ML package: by Core ML itself on macOS, elsewhere by interpreting its MIL program with torch.

The interpreter reads the program and the weights as they lie in the package, and takes nothing from the graph that they
were made of. Knows no recipes and no tolerances.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.contracts import Opened
from onnxbuild.errors import StageError
from onnxbuild.system import capture
from onnxbuild.system.hidden import hidden

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Arrays, Json

NATIVE = sys.platform == "darwin"
DISTRIBUTIONS: tuple[str, ...] = ("coremltools", "numpy") if NATIVE else ("coremltools", "numpy", "torch")
FACETS: tuple[str, ...] = ("system", "cpu") if NATIVE else ("cpu_flags",)
BOUNDS = (
    ""
    if NATIVE
    else "Core ML runs on macOS alone: here its program was interpreted with torch, each operator in float32 and its result "
    "rounded to the type that the program gives it. This bounds what the conversion and the rounding of weights and results "
    "change, not the arithmetic of a device"
)
# Libraries that coremltools imports where they are there, for converters of its own: seconds, and chatter.
OPTIONAL = (
    "tensorflow", "torch", "torchvision", "torchaudio", "torchao", "executorch", "transformers", "sklearn", "xgboost",
    "libsvm",
)  # fmt: skip
_DTYPES = {
    "BOOL": "bool", "FLOAT16": "float16", "FLOAT32": "float32", "FLOAT64": "float64", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32",
}  # fmt: skip
_HEADER = 64  # bytes before a tensor in weight.bin: a mark, its type, its size and where it is
_MARK = 0xDEADBEEF


def missing(root: Path) -> str:  # noqa: ARG001  # the protocol's
    """Nothing: what reads a package is what the target needs anyway."""
    return ""


def open(folder: Path, runtime: Json, outputs: list[str]) -> Opened:  # noqa: A001, ARG001  # the protocol's
    """The model in a target's folder, each call by the function that takes its sizes. Raises StageError where its files do
    not fit each other.
    """
    (package,) = folder.glob("*.mlpackage")
    spec = _read(package / "Data" / "com.apple.CoreML" / "model.mlmodel")
    described = list(spec.description.functions) or [spec.description]
    functions = [_function(spec, package, one) for one in described]
    refused = next((one.refused for one in functions if one.refused), "")

    def run(feed: Arrays) -> Arrays:
        results = _for(functions, feed).call(feed)
        return {name: results[name] for name in outputs}

    if refused:
        return Opened(run, [], refused=refused)
    provider = "Core ML" if NATIVE else "an interpreter of MIL, with torch"
    return Opened(run, [provider], few_types=True)


class Function(NamedTuple):
    """A function of a package; `shapes` are what the package says of its inputs, by the names of the graph's."""

    shapes: dict[str, Any]
    call: Callable[[Arrays], Arrays]
    refused: str


def _for(functions: Sequence[Function], feed: Arrays) -> Function:
    """The function that takes these sizes. Raises StageError where there is none, as Core ML does."""
    for one in functions:
        if all(_takes(shape, feed[name].shape) for name, shape in one.shapes.items()):
            return one
    name = next(name for name, shape in functions[0].shapes.items() if not _takes(shape, feed[name].shape))
    bound = " or ".join(dict.fromkeys(text for one in functions for text in _told(one.shapes[name])))
    raise StageError(f"input '{name}' is bound to {bound}, and was given {list(feed[name].shape)}")


def _takes(shape: Any, sizes: Sequence[int]) -> bool:
    """Whether an input takes these sizes: those of one shape, of a list of shapes, or within ranges."""
    kind = shape.WhichOneof("ShapeFlexibility")
    if kind == "enumeratedShapes":
        return list(sizes) in [list(one.shape) for one in shape.enumeratedShapes.shapes]
    if kind == "shapeRange":
        ranges = shape.shapeRange.sizeRanges
        return len(ranges) == len(sizes) and all(
            one.lowerBound <= size <= one.upperBound for one, size in zip(ranges, sizes, strict=True)
        )
    return list(shape.shape) == list(sizes)


def _told(shape: Any) -> list[str]:
    kind = shape.WhichOneof("ShapeFlexibility")
    if kind == "enumeratedShapes":
        return [str(list(one.shape)) for one in shape.enumeratedShapes.shapes]
    if kind == "shapeRange":
        ends = ((one.lowerBound, one.upperBound) for one in shape.shapeRange.sizeRanges)
        return [f"[{', '.join(str(low) if low == high else f'{low} to {high}' for low, high in ends)}]"]
    return [str(list(shape.shape))]


def _function(spec: Any, package: Path, described: Any) -> Function:
    """One function, by what the model says of its inputs and outputs."""
    own = getattr(described, "name", "") or "main"
    names = {feature.name: called(feature) for feature in (*described.input, *described.output)}
    function = spec.mlProgram.functions[own]
    block = function.block_specializations[function.opset]
    types = {value.name: value.type.tensorType for one in block.operations for value in one.outputs}
    types |= {value.name: value.type.tensorType for value in function.inputs}
    shapes = {names[one.name]: one.type.multiArrayType for one in described.input}
    is_open = any(one.WhichOneof("ShapeFlexibility") for one in shapes.values())
    weights = package / "Data" / "com.apple.CoreML"
    if NATIVE:
        call, refused = _native(package, own if spec.description.functions else None), ""
    elif is_open:
        default = {one.name: tuple(one.type.multiArrayType.shape) for one in described.input}
        call, refused = _at_any_size(spec, weights, default)
    else:
        call, refused = _interpreted(function.inputs, block, weights)

    def run(feed: Arrays) -> Arrays:
        results = call({inner: feed[outer] for inner, outer in names.items() if outer in feed})
        return {names[inner]: array.astype(_dtype(types[inner])) for inner, array in results.items()}

    return Function(shapes, run, refused)


def _at_any_size(
    spec: Any, weights: Path, default: dict[str, tuple[int, ...]]
) -> tuple[Callable[[Arrays], Arrays], str]:
    """As `_interpreted`, of a program with open sizes: as it is at the sizes of each call."""
    from onnxbuild.runtimes import mil_sizes

    program = mil_sizes.Program(spec, weights)

    def call(feed: Arrays) -> Arrays:
        made, refused = program.at({name: array.shape for name, array in feed.items()})
        if refused:
            raise StageError(refused)
        return made(feed)

    return call, program.at(default)[1]


def called(feature: Any) -> str:
    """What an input or output of a package is called in the graph that it was made of."""
    return str(feature.shortDescription or feature.name)


def library() -> Any:
    """coremltools, less its bridges to the libraries in OPTIONAL, and without what it says of their versions."""
    import importlib
    import logging
    import tempfile
    import warnings

    with hidden(OPTIONAL), tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = capture.output_to(log, lambda: importlib.import_module("coremltools"))
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    return found


def _read(path: Path) -> Any:
    library()
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString(path.read_bytes())


def _native(package: Path, function: str | None) -> Callable[[Arrays], Arrays]:
    import numpy as np

    model = library().models.MLModel(str(package), function_name=function)
    narrow = {np.dtype("int64"): np.int32, np.dtype("float64"): np.float32}

    def call(feed: Arrays) -> Arrays:
        given = {name: array.astype(narrow.get(array.dtype, array.dtype)) for name, array in feed.items()}
        return {name: np.asarray(value) for name, value in model.predict(given).items()}

    return call


def _interpreted(inputs: Sequence[Any], block: Any, folder: Path) -> tuple[Callable[[Arrays], Arrays], str]:
    """What computes the one block of a function, and why that can't be ("" where it can)."""
    constants = {
        operation.outputs[0].name: _value(operation.attributes["val"], folder)
        for operation in block.operations
        if operation.type == "const"
    }
    rest = [operation for operation in block.operations if operation.type != "const"]
    lacking = _lacking(rest, constants)

    def call(feed: Arrays) -> Arrays:
        known = dict(constants)
        for value in inputs:
            of = value.type.tensorType
            known[value.name] = given(value.name, feed[value.name], _shape(of), _dtype(of))
        for operation in rest:
            _run(operation, known, folder)
        return {name: known[name].numpy() for name in block.outputs}

    refused = f"the interpreter of MIL has no {', no '.join(lacking)}" if lacking else ""
    return call, refused


def _lacking(operations: Sequence[Any], constants: Mapping[str, Any]) -> list[str]:
    from onnxbuild.runtimes import mil_ops

    found: dict[str, None] = {}
    for operation in operations:
        bound = {key: argument.arguments[0] for key, argument in operation.inputs.items() if argument.arguments}
        known = {key: constants[one.name] for key, one in bound.items() if one.name in constants}
        if wrong := mil_ops.unsupported(operation.type, known):
            found[wrong] = None
    return list(found)


def _run(operation: Any, known: dict[str, Any], folder: Path) -> None:
    """One operation: its outputs are added to what is known."""
    given = {}
    for key, argument in operation.inputs.items():
        values = [known[one.name] if one.name else _value(one.value, folder) for one in argument.arguments]
        given[key] = values if key == "values" else values[0]
    types = [(value.name, value.type.tensorType) for value in operation.outputs]
    known |= computed(operation.type, given, [(name, _shape(of), _dtype(of)) for name, of in types])


def computed(kind: str, given: dict[str, Any], outputs: list[tuple[str, list[int], str]]) -> dict[str, Any]:
    """What an operation gives, by name, in the types that the program says. Raises StageError for other shapes."""
    from onnxbuild.runtimes import mil_ops
    from onnxbuild.runtimes.mil_layers import Op

    made = mil_ops.OPS[kind](Op(kind, given, [shape for _, shape, _ in outputs]))
    known = {}
    for (name, shape, dtype), result in zip(outputs, made if isinstance(made, list | tuple) else [made], strict=True):
        if list(result.shape) != shape:
            raise StageError(f"{kind} '{name}' has the shape {list(result.shape)}, the program says {shape}")
        known[name] = typed(result, dtype)
    return known


def given(name: str, array: np.ndarray[Any, Any], shape: list[int], dtype: str) -> Any:
    """An input as a tensor. Raises StageError for another shape than the program's, and for numbers beyond its type."""
    import numpy as np
    import torch

    if list(array.shape) != shape:
        raise StageError(f"input '{name}' is bound to {shape}, and was given {list(array.shape)}")
    if array.dtype.kind in "iu" and array.size and not np.array_equal(array.astype(dtype).astype(array.dtype), array):
        raise StageError(f"input '{name}' is {dtype}, and was given numbers beyond it")
    return typed(torch.from_numpy(np.ascontiguousarray(array)), dtype)


def typed(tensor: Any, dtype: str) -> Any:
    """A tensor as values of a type are held here: floats in float32, rounded to the type; integers in int64."""
    import torch

    if dtype == "float16":
        return tensor.to(torch.float16).to(torch.float32)
    if dtype.startswith("float"):
        return tensor.to(torch.float32)
    return tensor.to(torch.bool if dtype == "bool" else torch.int64)


def _dtype(tensor_type: Any) -> str:
    from coremltools.proto import MIL_pb2

    name: str = MIL_pb2.DataType.Name(tensor_type.dataType)
    return _DTYPES.get(name, name.lower())


def _shape(tensor_type: Any) -> list[int]:
    return [dimension.constant.size for dimension in tensor_type.dimensions]


def _value(value: Any, folder: Path) -> Any:
    """A constant of the program: a tensor, or a text."""
    import numpy as np
    import torch

    tensor_type = value.type.tensorType
    dtype, shape = _dtype(tensor_type), _shape(tensor_type)
    if value.WhichOneof("value") == "blobFileValue":
        found = _stored(folder, value.blobFileValue, dtype, shape)
    else:
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "strings":
            return tensor.strings.values[0]
        values = getattr(tensor, kind).values
        found = np.frombuffer(values, dtype) if kind == "bytes" else np.array(values, dtype)
    return typed(torch.from_numpy(np.array(found.reshape(shape))), dtype)


def _stored(folder: Path, place: Any, dtype: str, shape: list[int]) -> np.ndarray[Any, Any]:
    """A tensor of weight.bin. Raises StageError where there is none of its type's size."""
    import numpy as np

    path = folder / place.fileName.removeprefix("@model_path/")
    mark, _ = np.fromfile(path, "<u4", 2, offset=place.offset)
    size, start = np.fromfile(path, "<u8", 2, offset=place.offset + 8)
    count = int(np.prod(shape))
    if mark != _MARK or int(size) != count * np.dtype(dtype).itemsize:
        raise StageError(f"{path.name} has no {dtype} tensor of the shape {shape} at {place.offset}")
    return np.fromfile(path, np.dtype(dtype).newbyteorder("<"), count, offset=int(start))
