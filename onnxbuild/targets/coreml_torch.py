"""Operators of torch that coremltools 9.0 converts wrongly where sizes are left open, each as torch has it.

They are registered by its own means for that. Imported by the conversion alone, since it loads coremltools.
"""

from __future__ import annotations

from typing import Any

from coremltools.converters.mil.frontend.torch import register_torch_op
from coremltools.converters.mil.frontend.torch.ops import _get_inputs
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813  # coremltools' own idiom
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.ops.defs._utils import promote_input_dtypes

_where = _TORCH_OPS_REGISTRY.get_func("where")


def where(context: Any, node: Any) -> None:
    """The result's shape is taken from the values alone by coremltools: where the condition is another, one is made so."""
    inputs = _get_inputs(context, node)
    if len(inputs) != 3:  # of a condition alone: the places where it holds
        _where(context, node)
        return
    cond, a, b = inputs
    a, b = promote_input_dtypes([a, b])
    cond = cond if types.is_bool(cond.dtype) else mb.cast(x=cond, dtype="bool")
    if tuple(cond.shape) not in (tuple(a.shape), tuple(b.shape)):
        if types.is_bool(a.dtype):
            a = mb.logical_or(x=a, y=mb.logical_and(x=cond, y=False))
        else:
            kind = types.builtin_to_string(a.dtype)
            none = mb.mul(x=mb.cast(x=cond, dtype=kind), y=types.nptype_from_builtin(a.dtype)(0))
            a = mb.add(x=a, y=none)
    context.add(mb.select(cond=cond, a=a, b=b, name=node.name))


def register() -> None:
    """Let coremltools use the operators of this module."""
    register_torch_op(where, torch_alias=["where.self", "where.scalarself"], override=True)
