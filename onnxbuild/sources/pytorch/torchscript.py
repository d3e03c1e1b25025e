"""Exports through torch.onnx.export(dynamo=False), which is TorchScript. Imports torch at module level."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from onnxbuild.sources.pytorch import lines

if TYPE_CHECKING:
    import onnx

    from onnxbuild.sources.pytorch.adapter import Adapter


def export(
    model: Adapter,
    example: tuple[torch.Tensor, ...],
    options: Mapping[str, Any],
    custom_opsets: Mapping[str, int],
    scratch: Path,
) -> tuple[onnx.ModelProto, Path]:
    """The model and the folder that its external tensors, if it has any, are relative to: one in `scratch`.

    `options` is the recipe's `export` section. Past protobuf's 2 GiB the exporter itself writes one file per tensor.
    """
    import onnx

    folder = scratch / "torchscript"
    folder.mkdir()
    path = folder / "model.onnx"
    traced: Any = model
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        # The exporter's own tracer doesn't know a scripted module inside another one; torch.jit.trace does.
        traced = torch.jit.trace(model, example, check_trace=False)
    with lines.listening() as heard:
        torch.onnx.export(
            traced,
            example,
            str(path),
            dynamo=False,
            verbose=False,
            opset_version=options["opset"],
            input_names=list(options["inputs"]),
            output_names=list(options["outputs"]),
            dynamic_axes={
                name: {int(axis): dim for axis, dim in axes.items()}
                for name, axes in options.get("dynamic_axes", {}).items()
            },
            custom_opsets=dict(custom_opsets) or None,
        )
    proto = onnx.load(path, load_external_data=False)
    lines.note(proto, heard)
    _restore_inputs(proto, options)
    return proto, folder


def _restore_inputs(proto: onnx.ModelProto, options: Mapping[str, Any]) -> None:
    """Put back inputs that the model never reads: the exporter drops them, the dynamo one and callers do not."""
    from onnx.helper import make_tensor_value_info, np_dtype_to_tensor_dtype

    from onnxbuild.parity.samples import dtype_of

    kept = {value.name: value for value in proto.graph.input}
    if all(name in kept for name in options["inputs"]):
        return
    values = []
    for name, spec in options["inputs"].items():
        axes = options.get("dynamic_axes", {}).get(name, {})
        shape = [axes.get(str(axis), size) for axis, size in enumerate(spec["shape"])]
        dtype = np_dtype_to_tensor_dtype(dtype_of(spec["dtype"]))
        values.append(kept.pop(name, None) or make_tensor_value_info(name, dtype, shape))
    values += kept.values()
    del proto.graph.input[:]
    proto.graph.input.extend(values)
