"""Operators of ONNX that onnx2coreml 1.1 converts wrongly or not at all, each converted as ONNX has it.

They are registered by its own means for that, `Converter.register`. Imported by the conversion alone, since it loads
coremltools. Knows no options.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813  # coremltools' own idiom
from coremltools.converters.mil.mil import types
from onnx import helper


def register(converter: Any) -> None:
    """Let an onnx2coreml converter use the operators of this module."""
    for name, lowering in LOWERINGS.items():
        converter.register(name)(lowering)


def _attribute(node: Any, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def _reciprocal(context: Any, node: Any) -> Any:
    """MIL's `inverse` adds an epsilon of 1e-4 to its input."""
    x = context.values_map[node.input[0]]
    return mb.real_div(x=types.nptype_from_builtin(x.dtype)(1), y=x, name=node.output[0])


def _gelu(context: Any, node: Any) -> Any:
    """`approximate` is held as bytes, and taken for text: onnx2coreml never sees the approximation."""
    mode = "TANH_APPROXIMATION" if _attribute(node, "approximate", b"none") == b"tanh" else "EXACT"
    return mb.gelu(x=context.values_map[node.input[0]], mode=mode, name=node.output[0])


def _gather_nd(context: Any, node: Any) -> Any:
    """MIL gathers no truth values: they go through integers. Masks of attention are made so."""
    x, indices = (context.values_map[name] for name in node.input)
    batch = int(_attribute(node, "batch_dims", 0))
    more = {"batch_dims": batch} if batch else {}
    if x.dtype != types.bool:
        return mb.gather_nd(x=x, indices=indices, name=node.output[0], **more)
    found = mb.gather_nd(x=mb.cast(x=x, dtype="int32"), indices=indices, **more)
    return mb.cast(x=found, dtype="bool", name=node.output[0])


def _range(context: Any, node: Any) -> Any:
    """A range whose ends are known, as every one is that goes by the shape of an input."""
    ends = [context.values_map[name].val for name in node.input]
    if any(end is None for end in ends):
        raise ValueError("Range goes by what the model computes, and not by shapes alone")
    return mb.const(val=np.arange(*(np.asarray(end).item() for end in ends)).astype(ends[0].dtype), name=node.output[0])


def _where(context: Any, node: Any) -> Any:
    """The result's shape is taken from the values alone by coremltools: where the condition is wider, one is made so."""
    cond, a, b = (context.values_map[name] for name in node.input)
    whole = np.broadcast_shapes(cond.shape, a.shape, b.shape)
    if np.broadcast_shapes(a.shape, b.shape) != whole:
        if a.dtype == types.bool:
            a = mb.logical_or(x=a, y=mb.logical_and(x=cond, y=np.bool_(0)))
        else:
            kind = types.builtin_to_string(a.dtype)
            none = mb.mul(x=mb.cast(x=cond, dtype=kind), y=types.nptype_from_builtin(a.dtype)(0))
            a = mb.add(x=a, y=none)
    return mb.select(cond=cond, a=a, b=b, name=node.output[0])


LOWERINGS = {
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Range": _range,
    "Reciprocal": _reciprocal,
    "Where": _where,
}
