"""From a graph, or from a program of torch.export, to a Core ML model: what calls coremltools. Writes no package's names.

onnx2coreml takes one shape of each input: several sizes become as many functions of one package, which share their weights.
coremltools itself takes a program with dynamic axes, by a list of shapes or by a range.
"""

from __future__ import annotations

import re
import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError
from onnxbuild.system import capture, oserrors
from onnxbuild.targets import coreml_package as package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json, Shapes

SMALLER = {"float64": "float32", "int64": "int32"}  # Core ML's inputs have no 64 bits
OTHERWISE = "write the model with other operators, or take coreml out of targets"


def of_graph(path: Path, options: Any, scratch: Path, shapes: Shapes) -> tuple[Any, list[list[str]]]:
    """The model of a graph in the store's form, and the names of its inputs and of its outputs, in order.

    Raises StageError where onnx2coreml can't convert it.
    """
    from onnxbuild.graphs import modelfile
    from onnxbuild.runtimes import mil

    coremltools = mil.library()
    variants = shapes.variants or [{"dims": {}, "shapes": {key: spec["shape"] for key, spec in shapes.inputs.items()}}]
    names: list[list[str]] = []
    made: dict[str, Any] = {}
    for number, variant in enumerate(variants):
        graph = modelfile.load(path)
        names = _bind(graph, variant["shapes"])
        folder = scratch / f"converted-{number}"
        folder.mkdir()
        made[called(variant["dims"])] = _quietly(scratch, partial(_from_onnx, graph, options, folder))
    if len(made) == 1:
        return next(iter(made.values())), names
    return _quietly(scratch, lambda: _joined(coremltools, made, scratch)), names


def of_program(program: Any, options: Any, scratch: Path, shapes: Shapes) -> tuple[Any, list[list[str]]]:
    """As `of_graph`, of a torch.export.ExportedProgram. Raises StageError where coremltools can't convert it."""
    from onnxbuild.runtimes import mil

    coremltools = mil.library()
    (scratch / "converted").mkdir()
    model = _quietly(scratch, lambda: _from_program(coremltools, program, options, scratch, shapes))
    return model, [list(shapes.inputs), list(shapes.outputs)]


def called(dims: Mapping[str, int]) -> str:
    """The name of the function for these sizes: "batch_1_sequence_128"."""
    name = "_".join(f"{re.sub(r'[^0-9A-Za-z_]', '_', dim)}_{size}" for dim, size in dims.items())
    return name if name[:1].isalpha() else f"main_{name}"


def _quietly(scratch: Path, call: Callable[[], Any]) -> Any:
    """What a call gives; what is said meanwhile is kept from the log."""
    with open(scratch / "said", "w+b") as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return capture.output_to(log, call)


def _bind(graph: ModelProto, shapes: Mapping[str, Sequence[int]]) -> list[list[str]]:
    """Give the inputs their one shape, and take away what is said of all others; the inputs' and outputs' names in order."""
    held = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in held]
    for value in inputs:
        kept = value.type.tensor_type
        kept.ClearField("shape")
        for size in shapes[value.name]:
            kept.shape.dim.add().dim_value = size
    for value in graph.graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.graph.value_info[:]
    return [[value.name for value in inputs], [value.name for value in graph.graph.output]]


def _from_onnx(graph: ModelProto, options: Any, folder: Path) -> Any:
    """The model as coremltools has it. onnx2coreml's own `convert` would put its author into it as the model's."""
    import coremltools as ct
    from onnx2coreml import Converter, UnsupportedOpError

    from onnxbuild.targets import coreml_lowerings

    oldest = ct.target[options.minimum_deployment_target]
    precision = ct.precision[options.compute_precision]
    try:
        converter = Converter()
        coreml_lowerings.register(converter)
        program = converter.to_mil(graph, target=oldest, precision=precision)
        return ct.convert(program, **_settings(ct, options, folder))
    except UnsupportedOpError as error:
        lacking = ", ".join(f"{kind} ({nodes[0]})" for kind, nodes in sorted(error.missing.items()))
        raise StageError(f"onnx2coreml has no {lacking}", OTHERWISE) from error
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # coremltools leaves it to them to remove its temporary folders
        raise StageError(f"onnx2coreml can't convert the graph: {oserrors.said(error)}", OTHERWISE) from error


def _settings(ct: Any, options: Any, folder: Path) -> dict[str, Any]:
    return {
        "convert_to": "mlprogram",
        "minimum_deployment_target": ct.target[options.minimum_deployment_target],
        "compute_precision": ct.precision[options.compute_precision],
        "skip_model_load": True,
        "package_dir": str(folder / package.PACKAGE),  # else it is left behind in the system's temporary folder
    }


def _joined(ct: Any, made: Mapping[str, Any], scratch: Path) -> Any:
    """One model with a function for each of these, which share the weights; the first is the one that is run by itself."""
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, model in made.items():
        descriptor.add_function(model.package_path, "main", name)
    descriptor.default_function_name = next(iter(made))
    path = str(scratch / "joined" / package.PACKAGE)
    (scratch / "joined").mkdir()
    ct.utils.save_multifunction(descriptor, path)
    return ct.models.MLModel(path, skip_model_load=True)


def _from_program(ct: Any, program: Any, options: Any, scratch: Path, shapes: Shapes) -> Any:
    """Decomposed as little as can be first: what stays whole is converted to Core ML's own operator for it."""
    from onnxbuild.targets import coreml_torch

    coreml_torch.register()
    tables: tuple[dict[Any, Any] | None, ...] = ({}, None)
    failed: Exception = ValueError("there is no way to decompose it")
    for number, table in enumerate(tables):
        folder = scratch / "converted" / str(number)
        folder.mkdir()
        try:
            plain = program.run_decompositions(table)
            return ct.convert(
                plain,
                inputs=_inputs(ct, options, shapes),
                outputs=_outputs(ct, plain, shapes),
                **_settings(ct, options, folder),
            )
        except Exception as error:  # noqa: BLE001  # coremltools' errors share no class
            traceback.clear_frames(error.__traceback__)  # see above
            failed = error
    fact = f"coremltools can't convert the program of torch.export: {oserrors.said(failed)}"
    raise StageError(fact, OTHERWISE) from failed


def _inputs(ct: Any, options: Any, shapes: Shapes) -> list[Any]:
    import numpy as np

    return [
        ct.TensorType(
            name=name,
            shape=_shape(ct, name, options, shapes),
            dtype=np.dtype(SMALLER.get(spec["dtype"], spec["dtype"])),
        )
        for name, spec in shapes.inputs.items()
    ]


def _shape(ct: Any, name: str, options: Any, shapes: Shapes) -> Any:
    """An input's shape: one, one of several, or with a range on some axes."""
    own: list[Json] = list(shapes.inputs[name]["shape"])
    several = list(dict.fromkeys(tuple(variant["shapes"][name]) for variant in shapes.variants))
    if len(several) > 1:
        if len(flexible(shapes)) > 1:  # as many for each input, the first with the first
            several = [tuple(variant["shapes"][name]) for variant in shapes.variants]
        return ct.EnumeratedShapes(several, default=tuple(own))
    for axis, dim in shapes.dynamic_axes.get(name, {}).items():
        if options.dims.get(dim) == "from_dims":
            limits = shapes.dims[dim]
            own[int(axis)] = ct.RangeDim(limits.get("min", 1), limits["max"], default=own[int(axis)])
    return tuple(own)


def flexible(shapes: Shapes) -> list[str]:
    """The inputs that have several shapes."""
    return [name for name in shapes.inputs if len({tuple(one["shapes"][name]) for one in shapes.variants}) > 1]


def _outputs(ct: Any, program: Any, shapes: Shapes) -> list[Any]:
    """The outputs, floating-point ones in their own type: at half precision they would come out in that."""
    import numpy as np

    nodes = {node.name: node for node in program.graph.nodes}
    kinds = [str(nodes[name].meta["val"].dtype).removeprefix("torch.") for name in program.graph_signature.user_outputs]
    taken = {"float16": np.float16, "float32": np.float32, "float64": np.float32}
    return [
        ct.TensorType(name=name, **({"dtype": taken[kind]} if kind in taken else {}))
        for name, kind in zip(shapes.outputs, kinds, strict=True)
    ]
