"""quantize_static: weights and activations as integers, with ranges measured on data, by onnxruntime's quantizer.

The ranges are taken one run of the model at a time, so that no more than one run's values are held at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from onnxbuild.errors import StageError
from onnxbuild.parity.datasets import Dataset
from onnxbuild.passes import needs
from onnxbuild.passes.quantization import preparing
from onnxbuild.text.wording import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Arrays, Json
    from onnxbuild.passes.beside import Beside, Problem
    from onnxbuild.passes.quantization.preparing import Prepared

VERSION = 2
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "onnx", "numpy")
MEMORY = 5.0  # times the weights: the model before and after, in Python and in a session
WIDE = 1e6  # a range of this size leaves nothing of ordinary values
_NAME = "quantize_static"
_BINS = {"Entropy": 512, "Percentile": 2048}  # of the library's own 128 for Entropy, all are kept whatever the values
_OF_METHODS = {"percentile": ["Percentile"], "num_bins": ["Entropy", "Percentile"], "moving_average": ["MinMax"]}
_OF_METHODS = {"percentile": ["Percentile"], "num_bins": ["Entropy", "Percentile"], "moving_average": ["MinMax"]}
_OF_FORMATS = {
    "quantize_bias": "QDQ", "add_qdq_pair_to_weight": "QDQ", "dedicated_qdq_pair": "QDQ",
    "qdq_keep_removable_activations": "QDQ", "mat_mul_const_b_only": "QOperator",
}  # fmt: skip
_QUANTIZED_BINS = 128  # the library's own


class PreProcess(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxruntime.quantization.shape_inference.quant_pre_process, with its defaults."""

    skip_optimization: Annotated[bool, Meta(description="Without onnxruntime's basic graph optimizations.")] = False
    skip_onnx_shape: Annotated[bool, Meta(description="Without onnx's shape inference.")] = False
    skip_symbolic_shape: Annotated[bool, Meta(description="Without onnxruntime's own shape inference.")] = False
    auto_merge: Annotated[bool, Meta(description="Take dynamic axes that meet for one.")] = False


class StaticExtraOptions(Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", omit_defaults=True):
    """The library's extra_options; what is left out is as it has it."""

    activation_symmetric: Annotated[bool, Meta(description="Zero points of activations are 0.")] | UnsetType = UNSET
    weight_symmetric: Annotated[bool, Meta(description="Zero points of weights are 0.")] | UnsetType = UNSET
    quantize_bias: Annotated[bool, Meta(description="Biases, too.")] | UnsetType = UNSET
    force_quantize_no_input_check: (
        Annotated[bool, Meta(description="Operators that only move values, also where their input is no integer.")]
        | UnsetType
    ) = UNSET
    mat_mul_const_b_only: (
        Annotated[bool, Meta(description="MatMul only where its second input is a weight.")] | UnsetType
    ) = UNSET
    add_qdq_pair_to_weight: (
        Annotated[bool, Meta(description="Weights stay floats behind a QuantizeLinear of their own.")] | UnsetType
    ) = field(name="AddQDQPairToWeight", default=UNSET)
    dedicated_qdq_pair: Annotated[bool, Meta(description="A pair for each node that takes a value.")] | UnsetType = (
        field(name="DedicatedQDQPair", default=UNSET)
    )
    minimum_real_range: Annotated[float, Meta(gt=0, description="Widen narrower ranges to this.")] | UnsetType = UNSET
    qdq_keep_removable_activations: (
        Annotated[bool, Meta(description="Clip and Relu, though their ranges say as much.")] | UnsetType
    ) = field(name="QDQKeepRemovableActivations", default=UNSET)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxruntime.quantization.quantize_static, with its defaults, and of its calibrators."""

    data: Annotated[Dataset, Meta(description="What the ranges of activations are measured on.")]
    quant_format: Annotated[
        Literal["QDQ", "QOperator"], Meta(description="QuantizeLinear and DequantizeLinear, or operators on integers.")
    ] = "QDQ"
    op_types_to_quantize: Annotated[
        list[str], Meta(description="Operators to quantize; all that the library can if left out.")
    ] = []
    per_channel: Annotated[bool, Meta(description="A scale for each channel of a weight.")] = False
    reduce_range: Annotated[bool, Meta(description="Weights in 7 bits, for processors without VNNI.")] = False
    activation_type: Annotated[
        Literal["QInt8", "QUInt8", "QInt16", "QUInt16"], Meta(description="Those of 16 bits take opset 21.")
    ] = "QInt8"
    weight_type: Annotated[
        Literal["QInt8", "QUInt8", "QInt16", "QUInt16"], Meta(description="Those of 16 bits take opset 21.")
    ] = "QInt8"
    nodes_to_quantize: Annotated[
        list[str], Meta(description="Quantize these alone, by name or by a value that they make.")
    ] = []
    nodes_to_exclude: Annotated[
        list[str], Meta(description="Leave these as they are, by name or by a value that they make.")
    ] = []
    calibrate_method: Annotated[
        Literal["MinMax", "Entropy", "Percentile"], Meta(description="How a range is made of the values seen.")
    ] = "MinMax"
    percentile: Annotated[
        float, Meta(gt=50, le=100, description="Percentile: how much of the values lies within the range.")
    ] = 99.999
    num_bins: (
        Annotated[int, Meta(ge=129, description="Entropy (512), Percentile (2048): parts that values are counted in.")]
        | UnsetType
    ) = UNSET
    symmetric: Annotated[
        bool | UnsetType, Meta(description="Ranges as far below 0 as above it; Percentile alone does so by itself.")
    ] = UNSET
    moving_average: Annotated[bool, Meta(description="MinMax: the ranges' moving average in place of the widest.")] = (
        False
    )
    averaging_constant: Annotated[float, Meta(ge=0, le=1, description="Of the moving average.")] = 0.01
    pre_process: Annotated[PreProcess | UnsetType, Meta(description="Run the library's pre-processing first.")] = UNSET
    extra_options: StaticExtraOptions = StaticExtraOptions()


def run(path: Path, options: Options, scratch: Path, beside: Beside | None = None) -> tuple[ModelProto, Path]:
    """Measure and quantize. Raises StageError where there is no data, a listed node isn't there, or the library can't."""
    from onnxruntime import quantization

    _require_fitting(options, path)
    needs.require_memory(_NAME, path, MEMORY)
    source = preparing.prepared(path, scratch / "in")
    with preparing.library(f"{_NAME}: pre-processing", scratch):
        model = _pre_processed(source, options, scratch)
    lists: dict[str, Any] = {name: getattr(options, name) for name in ("nodes_to_quantize", "nodes_to_exclude")}
    lists, notes = preparing.listed(model, lists, {"op_types_to_quantize": options.op_types_to_quantize})
    out = scratch / "out"
    out.mkdir()
    with preparing.library(_NAME, scratch):
        ranges = scratch / "ranges.json"
        notes += _calibrated(model, options, source, beside.feeds if beside is not None else lambda: iter(()), ranges)
        quantization.quantize_static(
            model,
            out / "model.onnx",
            calibration_cache_path=ranges,
            quant_format=quantization.QuantFormat[options.quant_format],
            op_types_to_quantize=list(options.op_types_to_quantize),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            activation_type=quantization.QuantType[options.activation_type],
            weight_type=quantization.QuantType[options.weight_type],
            use_external_data_format=source.large,
            calibrate_method=quantization.CalibrationMethod[options.calibrate_method],
            extra_options=msgspec.to_builtins(options.extra_options),
            **lists,
        )
    made = preparing.finished(out / "model.onnx", source)
    preparing.require_changed(_NAME, made, source.before)
    if beside is not None:
        beside.notes.extend(notes)
    return made, out


def _require_fitting(options: Options, path: Path) -> None:
    """Raises StageError where the library would raise the opset."""
    sixteen = any("16" in one for one in (options.activation_type, options.weight_type))
    least = 21 if sixteen else 13 if options.per_channel or options.quant_format == "QDQ" else 11
    preparing.require_opset(_NAME, path, least, "integers of this kind take")


def _pre_processed(source: Prepared, options: Options, scratch: Path) -> Path:
    """The model after the library's pre-processing, where it is asked for."""
    if options.pre_process is UNSET:
        return source.path
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = scratch / "pre"
    folder.mkdir()
    where = {"all_tensors_to_one_file": True, "external_data_location": "model.onnx.data"} if source.large else {}
    try:
        quant_pre_process(
            source.path,
            folder / "model.onnx",
            **msgspec.to_builtins(options.pre_process),
            save_as_external_data=source.large,
            **where,
        )
    except Exception as error:
        if "symbolic" not in str(error).lower():
            raise
        hint = "set pre_process: {skip_symbolic_shape: true}"
        raise StageError(f"{_NAME}: pre-processing: {error}", hint) from error
    return folder / "model.onnx"


class _One:
    """A data reader of the library's that gives one feed."""

    def __init__(self, feed: Arrays) -> None:
        self._feed: Arrays | None = feed

    def get_next(self) -> Arrays | None:
        """The feed, once."""
        feed, self._feed = self._feed, None
        return feed


def _calibrated(
    model: Path, options: Options, source: Prepared, feeds: Callable[[], Iterator[Arrays]], ranges: Path
) -> list[str]:
    """Measure the ranges of activations into a file of the library's; notes on them. Raises StageError without data."""
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    method = options.calibrate_method
    calibrator = create_calibrator(
        model,
        list(options.op_types_to_quantize) or sorted({*QLinearOpsRegistry, *QDQRegistry}),
        augmented_model_path=str(ranges.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod[method],
        use_external_data_format=source.large,
        extra_options=_how(options),
    )
    takes = {value.name for value in calibrator.infer_session.get_inputs()}
    number = 0
    for feed in feeds():
        number += 1
        calibrator.collect_data(_One({name: array for name, array in feed.items() if name in takes}))
    if not number:
        raise StageError(f"{_NAME}: there is no data to measure ranges on", "give it data: {npz: {path: …}}")
    found = calibrator.compute_data()
    save_tensors_data(found, ranges)
    wide = [
        f"'{name}' ({most:.3g})"
        for name, one in sorted(found.data.items())
        if (most := max(float(np.max(np.abs(side))) for side in one.range_value)) >= WIDE
    ]
    said = [f"ranges of activations measured in {number} runs, {method}"]
    return [*said, f"ranges so wide that small values are lost: {some(wide)}; exclude their nodes"] if wide else said


def _how(options: Options) -> dict[str, Any]:
    """A calibrator's own options."""
    symmetric = {} if options.symmetric is UNSET else {"symmetric": options.symmetric}
    if options.calibrate_method == "MinMax":
        average = {"moving_average": options.moving_average, "averaging_constant": options.averaging_constant}
        return {**average, **symmetric}
    bins = _BINS[options.calibrate_method] if options.num_bins is UNSET else options.num_bins
    if options.calibrate_method == "Entropy":
        return {"num_bins": bins, "num_quantized_bins": _QUANTIZED_BINS, **symmetric}
    return {"num_bins": bins, "percentile": options.percentile, **symmetric}


def problems(options: Options) -> Iterator[Problem]:
    """See `passes.PROBLEMS`: types that the library refuses together, and options that it would pass over."""
    types = {"activation_type": options.activation_type, "weight_type": options.weight_type}
    if (*types.values(),) == ("QInt8", "QUInt8"):
        yield ("weight_type",), "weights are no QUInt8 where activations are QInt8", "set weight_type: QInt8"
    if options.quant_format == "QOperator" and (wide := next((key for key, one in types.items() if "16" in one), "")):
        yield (wide,), "16 bits are for quant_format QDQ alone", "set quant_format: QDQ"
    defaults = {one.name: one.default for one in msgspec.structs.fields(Options)}
    for key, methods in _OF_METHODS.items():
        if options.calibrate_method not in methods and getattr(options, key) != defaults[key]:
            hint = f"set calibrate_method: {methods[-1]}, or leave {key} out"
            yield (key,), f"calibrate_method {options.calibrate_method} has no {key}", hint
    if options.averaging_constant != defaults["averaging_constant"] and not options.moving_average:
        hint = "set moving_average: true, or leave averaging_constant out"
        yield ("averaging_constant",), "without moving_average nothing is averaged", hint
    for extra in msgspec.structs.fields(StaticExtraOptions):
        wanted = _OF_FORMATS.get(extra.name, options.quant_format)
        if wanted != options.quant_format and getattr(options.extra_options, extra.name) is not UNSET:
            key = extra.encode_name
            hint = f"set quant_format: {wanted}, or leave {key} out"
            yield ("extra_options", key), f"{key} is for quant_format {wanted} alone", hint


def data(options: Options) -> Dataset:
    """What the ranges are measured on."""
    return options.data


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # the protocol's
    """Nothing: it takes data, and how much precision may be lost the recipe's author decides."""
    return None


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """Sentences for the report."""
    return ["ranges are as this machine's processor rounds"]
