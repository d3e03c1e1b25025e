"""quantize_4bit: weights of MatMul, and of Gather, as 4- or 8-bit integers in blocks, by onnxruntime's quantizer.

MatMulNBits is onnxruntime's own operator; with quant_format QDQ there are standard ones alone. Activations stay floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from onnxbuild.graphs import modelfile, tensors
from onnxbuild.passes import excluding, needs
from onnxbuild.passes.quantization import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside, Problem

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "onnx", "onnx-ir", "numpy")
MEMORY = 1.4  # times the weights: 2.74 GiB of 2.19 were measured
_NAME = "quantize_4bit"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxruntime.quantization.matmul_nbits_quantizer.MatMulNBitsQuantizer, with its defaults."""

    bits: Annotated[Literal[4, 8], Meta(description="Of a weight.")] = 4
    block_size: Annotated[
        Literal[16, 32, 64, 128, 256], Meta(description="Weights of one column that share a scale.")
    ] = 128
    is_symmetric: Annotated[bool, Meta(description="Without zero points.")] = False
    accuracy_level: Annotated[
        Literal[0, 1, 2, 3, 4],
        Meta(description="Least type to compute in: 1 float32, 2 float16, 3 bfloat16, 4 int8; 0 leaves it open."),
    ] = 0
    nodes_to_exclude: Annotated[
        list[str], Meta(description="Leave these as they are, by name or by a value that they make.")
    ] = []
    nodes_to_include: Annotated[
        list[str], Meta(description="Quantize these alone, by name or by a value that they make.")
    ] = []
    quant_format: Annotated[
        Literal["QOperator", "QDQ"], Meta(description="MatMulNBits, or DequantizeLinear before MatMul (opset 21).")
    ] = "QOperator"
    op_types_to_quantize: Annotated[
        list[Literal["MatMul", "Gather"]], Meta(min_length=1, description="Gather takes opset 21.")
    ] = field(default_factory=lambda: ["MatMul"])
    channel_wised_quantize: Annotated[
        bool | UnsetType, Meta(description="One block for a column; with quant_format QDQ alone.")
    ] = UNSET


def run(path: Path, options: Options, scratch: Path, beside: Beside | None = None) -> tuple[ModelProto, Path]:
    """Quantize. Raises StageError where a listed node isn't there, nothing is quantized, or it can't."""
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    if options.quant_format == "QDQ" or "Gather" in options.op_types_to_quantize:
        preparing.require_opset(_NAME, path, 21, "4-bit integers of standard operators take")
    needs.require_memory(_NAME, path, MEMORY)
    source = preparing.prepared(path, scratch / "in")
    lists, notes = preparing.listed(
        source.path,
        {"nodes_to_exclude": options.nodes_to_exclude, "nodes_to_include": options.nodes_to_include},
        {"op_types_to_quantize": options.op_types_to_quantize},
    )
    out = scratch / "out"
    out.mkdir()
    with preparing.library(_NAME, scratch):
        quantizer = MatMulNBitsQuantizer(
            str(source.path),
            bits=options.bits,
            block_size=options.block_size,
            is_symmetric=options.is_symmetric,
            accuracy_level=options.accuracy_level,
            nodes_to_exclude=[*lists["nodes_to_exclude"], *_others(source.path, lists["nodes_to_include"])],
            quant_format=QuantFormat[options.quant_format],
            op_types_to_quantize=tuple(options.op_types_to_quantize),
            channel_wised_quantize=options.channel_wised_quantize is True,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(out / "model.onnx"), source.large)
    model = preparing.finished(out / "model.onnx", source)
    preparing.require_changed(_NAME, model, source.before, excluding.touched(_NAME, options))
    if beside is not None:
        beside.notes.extend(notes)
    return model, out


def problems(options: Options) -> Iterator[Problem]:
    """See `passes.PROBLEMS`: where the library would stop at an assertion, or pass over an option."""
    if options.quant_format == "QDQ" and options.bits != 4:
        yield ("bits",), "quant_format QDQ has 4 bits alone", "set bits: 4, or quant_format: QOperator"
    if options.quant_format == "QDQ" and options.accuracy_level:
        yield (
            ("accuracy_level",),
            "quant_format QDQ has no accuracy_level",
            "set quant_format: QOperator, or leave it out",
        )
    if options.quant_format == "QOperator" and options.channel_wised_quantize is True:
        yield (
            ("channel_wised_quantize",),
            "channel_wised_quantize is for quant_format QDQ alone",
            "set quant_format: QDQ",
        )


def _others(path: Path, wanted: list[str]) -> list[str]:
    """The nodes that are not among those; none where there are none: the library's own list only adds to its operators."""
    graphs = tensors.graphs(modelfile.structure(path))
    return [node.name for graph in graphs for node in graph.node if node.name not in wanted] if wanted else []


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # the protocol's
    """Nothing: how much precision may be lost, the recipe's author decides."""
    return None


def notes(options: Options) -> Sequence[str]:
    """Sentences for the report."""
    return [] if options.quant_format == "QDQ" else ["MatMulNBits is onnxruntime's own operator: others can't load it"]
