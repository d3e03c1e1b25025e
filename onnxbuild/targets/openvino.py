"""`openvino`: OpenVINO's intermediate representation, a file for the graph and one for its weights.

OpenVINO reads ONNX itself; here it does so once, with the bounds that are declared of the axes, and its own names in an
order that no earlier conversion in the process can move. Knows no device: the runtime does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.system import oserrors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnxbuild.contracts import Shapes

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("openvino",)
RUNTIME = "openvino"
MODEL = "model.xml"
WEIGHTS = "model.bin"
FILES: tuple[str, ...] = (MODEL, WEIGHTS)
SHAPED = True
NARROWED = {"i64": "int64 in 32 bits", "u64": "uint64 in 32 bits", "f64": "float64 in 32 bits"}


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """What the weights are kept in."""

    precision: Annotated[
        Literal["fp32", "fp16"],
        Meta(
            description="fp16 halves the weights' file (openvino.save_model's compress_to_fp16); what it costs in accuracy, "
            "targets.openvino.parity has to allow. Inputs and outputs keep their dtypes."
        ),
    ] = "fp32"


def files(options: Options) -> tuple[str, ...]:  # noqa: ARG001  # the protocol's
    """Both, always."""
    return FILES


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """OpenVINO."""
    return {"openvino": "openvino"}


def wrong(options: Options, shapes: Shapes) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Strings: OpenVINO computes nothing of them without an extension."""
    for name, declared in shapes.inputs.items():
        if declared["dtype"] == "string":
            fact = f"input '{name}' holds strings, of which OpenVINO computes nothing"
            yield "", fact, "look words up before the graph, or take openvino out of targets"


def fixed(options: Options) -> None:  # the protocol's
    """Nothing: the files take every size that is declared."""


def facets(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Nothing of the machine: the files are the same on each."""
    return ()


def notes(options: Options) -> Sequence[str]:
    """Sentences for the report."""
    return ["the weights are kept in float16"] if options.precision == "fp16" else []


def build(path: Path, options: Options, scratch: Path, shapes: Shapes) -> tuple[Mapping[str, Path], Sequence[str]]:
    """Convert a graph; gives the files by the name they are published under, and notes.

    `path` is a graph in the store's form, `scratch` an empty folder. Raises StageError where OpenVINO can't read the graph,
    and where it can't have the axes that are declared.
    """
    from onnxbuild.graphs import modelfile
    from onnxbuild.runtimes.openvino import library, plain

    openvino = library()
    *_, written = modelfile.write(path, scratch / "model.onnx")
    try:
        model = openvino.Core().read_model(written)
        _bound(model, shapes)
    except Exception as error:
        raise StageError(f"OpenVINO can't read the graph: {plain(error)}", _remedy(error)) from error
    _name(model)
    openvino.save_model(model, scratch / MODEL, compress_to_fp16=options.precision == "fp16")
    return {name: scratch / name for name in FILES}, _narrowed(model)


def _remedy(error: Exception) -> str:
    if "No conversion rule found" not in oserrors.said(error):
        return ""
    return "export the graph without these operators, or take openvino out of targets"


def _bound(model: Any, shapes: Shapes) -> None:
    """Give the inputs' axes the bounds that are declared, by which a device may plan its memory."""
    from onnxbuild.runtimes.openvino import library
    from onnxbuild.targets import ranges

    openvino = library()
    declared = ranges.of_inputs(shapes)
    wanted = {}
    for port in model.inputs:
        for name in port.get_names() & declared.keys():
            sizes = [openvino.Dimension(one.least, -1 if one.most is None else one.most) for one in declared[name]]
            wanted[name] = openvino.PartialShape(sizes)
    if wanted:
        model.reshape(wanted)


def _name(model: Any) -> None:
    """Name what has no name of its own by its type and place; OpenVINO counts such names through the whole process."""
    taken = {op.get_friendly_name() for op in model.get_ordered_ops()}
    numbers: dict[str, int] = {}
    for op in model.get_ordered_ops():
        for body in _bodies(op):
            _name(body)
        if op.get_friendly_name() != op.get_name():
            continue
        kind = op.get_type_name()
        name = ""
        while not name or name in taken:
            numbers[kind] = numbers.get(kind, -1) + 1
            name = f"{kind}_{numbers[kind]}"
        op.set_friendly_name(name)


def _bodies(op: Any) -> list[Any]:
    """The graphs inside an If, a Loop or the like."""
    kind = op.get_type_name()
    if kind == "If":
        return [op.get_function(0), op.get_function(1)]
    return [op.get_function()] if kind in ("Loop", "TensorIterator") else []


def _narrowed(model: Any) -> list[str]:
    """What OpenVINO's processor device computes in fewer bits than the graph says."""
    kinds = {port.get_element_type().get_type_name() for port in (*model.inputs, *model.outputs)}
    told = [words for kind, words in NARROWED.items() if kind in kinds]
    words = " and ".join(told)
    return [f"OpenVINO's CPU device computes {words}"] if told else []
