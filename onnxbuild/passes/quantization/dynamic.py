"""quantize_dynamic: weights as 8-bit integers, activations as such from run to run, by onnxruntime's quantizer.

No data is needed. What the library can't do within the memory that is free is refused before it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.passes import excluding, needs
from onnxbuild.passes.quantization import preparing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside

VERSION = 2
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "onnx", "numpy")
MEMORY = 3.3  # times the weights: 6.7 GiB of 2.19 were measured
_NAME = "quantize_dynamic"


class DynamicExtraOptions(Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", omit_defaults=True):
    """The library's extra_options; what is left out is as it has it."""

    activation_symmetric: Annotated[bool, Meta(description="Zero points of activations are 0.")] | UnsetType = UNSET
    weight_symmetric: Annotated[bool, Meta(description="Zero points of weights are 0.")] | UnsetType = UNSET
    enable_subgraph: Annotated[bool, Meta(description="Quantize in subgraphs, too.")] | UnsetType = UNSET
    force_quantize_no_input_check: (
        Annotated[bool, Meta(description="Operators that only move values, also where their input is no integer.")]
        | UnsetType
    ) = UNSET
    mat_mul_const_b_only: (
        Annotated[bool, Meta(description="MatMul only where its second input is a weight.")] | UnsetType
    ) = UNSET


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxruntime.quantization.quantize_dynamic, with its defaults."""

    op_types_to_quantize: Annotated[
        list[str], Meta(description="Operators to quantize; all that the library can if left out.")
    ] = []
    per_channel: Annotated[bool, Meta(description="A scale for each channel of a weight.")] = False
    reduce_range: Annotated[bool, Meta(description="Weights in 7 bits, for processors without VNNI.")] = False
    weight_type: Annotated[Literal["QInt8", "QUInt8"], Meta(description="What weights are kept as.")] = "QInt8"
    nodes_to_quantize: Annotated[
        list[str], Meta(description="Quantize these alone, by name or by a value that they make.")
    ] = []
    nodes_to_exclude: Annotated[
        list[str], Meta(description="Leave these as they are, by name or by a value that they make.")
    ] = []
    extra_options: DynamicExtraOptions = DynamicExtraOptions()


def run(path: Path, options: Options, scratch: Path, beside: Beside | None = None) -> tuple[ModelProto, Path]:
    """Quantize. Raises StageError where a listed node isn't there, nothing is quantized, or the library can't."""
    from onnxruntime import quantization

    preparing.require_opset(_NAME, path, 13 if options.per_channel else 11, "integers take")
    needs.require_memory(_NAME, path, MEMORY)
    source = preparing.prepared(path, scratch / "in")
    lists: dict[str, Any] = {name: getattr(options, name) for name in ("nodes_to_quantize", "nodes_to_exclude")}
    lists, notes = preparing.listed(source.path, lists, {"op_types_to_quantize": options.op_types_to_quantize})
    out = scratch / "out"
    out.mkdir()
    with preparing.library(_NAME, scratch):
        quantization.quantize_dynamic(
            source.path,
            out / "model.onnx",
            op_types_to_quantize=list(options.op_types_to_quantize),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            weight_type=quantization.QuantType[options.weight_type],
            use_external_data_format=source.large,
            extra_options=msgspec.to_builtins(options.extra_options),
            **lists,
        )
    model = preparing.finished(out / "model.onnx", source)
    preparing.require_changed(_NAME, model, source.before, excluding.touched(_NAME, options))
    preparing.require_types(_NAME, model)
    if beside is not None:
        beside.notes.extend(notes)
    return model, out


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # the protocol's
    """Nothing: how much precision may be lost, the recipe's author decides."""
    return None


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Sentences for the report."""
    return []
