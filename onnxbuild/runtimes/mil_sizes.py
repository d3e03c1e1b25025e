"""A MIL program with open sizes, interpreted as it is at given ones: coremltools' own pass brings it to these.

Knows no files but those of a package.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.runtimes import mil
from onnxbuild.system import capture

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays

_AT_SIZES = "common::materialize_symbolic_shape_program"
_HERE = "at_given_sizes"
_TYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}  # coremltools' names of others are numpy's


class Program:
    """The `main` of a package's program. `weights` is the folder that its weights are relative to."""

    def __init__(self, spec: Any, weights: Path) -> None:
        mil.library()
        from coremltools.converters.mil.frontend.milproto.load import load

        self._program = _quietly(lambda: load(spec, spec.specificationVersion, str(weights / "weights")))

    def at(self, sizes: Mapping[str, tuple[int, ...]]) -> tuple[Callable[[Arrays], Arrays], str]:
        """What computes it at these shapes of its inputs, and why that can't be ("" where it can).

        What can't be brought to these shapes (a size that was baked in) raises ValueError.
        """
        from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline, PassPipelineManager

        pipeline = PassPipeline([_AT_SIZES], "at given sizes")
        pipeline.set_options(_AT_SIZES, {"function_name_to_materialization_map": {_HERE: dict(sizes)}})
        try:
            _quietly(lambda: PassPipelineManager.apply_pipeline(self._program, pipeline))
            return _interpreted(self._program.functions[_HERE])
        finally:
            self._program.functions.pop(_HERE, None)


def _quietly(call: Callable[[], Any]) -> Any:
    with tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return capture.output_to(log, call)


def _interpreted(function: Any) -> tuple[Callable[[Arrays], Arrays], str]:
    made = [out for one in function.operations for out in one.outputs]
    constants = {out.name: _values(out, {}) for out in made if _constant(out) is not None}
    operations = [one for one in function.operations if any(out.name not in constants for out in one.outputs)]
    lacking = dict.fromkeys(filter(None, (_lacking(one) for one in operations)))

    def call(feed: Arrays) -> Arrays:
        known = {
            name: mil.given(name, feed[name], list(var.shape), _dtype(var)) for name, var in function.inputs.items()
        }
        for one in operations:
            given = {key: _values(value, known) for key, value in one.inputs.items() if value is not None}
            outputs = [(out.name, list(out.shape), _dtype(out)) for out in one.outputs]
            known.update(mil.computed(one.op_type, given, outputs))
        return {out.name: _values(out, known).numpy() for out in function.outputs}

    return call, f"the interpreter of MIL has no {', no '.join(lacking)}" if lacking else ""


def _lacking(operation: Any) -> str:
    from onnxbuild.runtimes import mil_ops

    known = {key: _values(var, {}) for key, var in operation.inputs.items() if _constant(var) is not None}
    return mil_ops.unsupported(operation.op_type, known)


def _constant(var: Any) -> Any:
    """The value that a variable has whatever goes in; None where there is no such one."""
    return None if var is None or isinstance(var, tuple | list) else var.val


def _values(var: Any, known: Mapping[str, Any]) -> Any:
    """A tensor, a text, or a list of tensors."""
    import numpy as np
    import torch

    if isinstance(var, tuple | list):
        return [_values(one, known) for one in var]
    if var.name in known:
        return known[var.name]
    value = _constant(var)
    if isinstance(value, str):
        return value
    return mil.typed(torch.from_numpy(np.array(value)), _dtype(var))


def _dtype(var: Any) -> str:
    from coremltools.converters.mil.mil import types

    name: str = types.builtin_to_string(var.dtype)
    return _TYPES.get(name, name)
