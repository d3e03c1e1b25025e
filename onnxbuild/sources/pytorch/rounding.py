"""How much of a model's outputs is rounding: its own result against that of a copy that computes in float64.

Imports torch at module level; knows nothing of recipes.
"""

from __future__ import annotations

import copy
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

import torch

from onnxbuild.sources.pytorch.adapter import Adapter
from onnxbuild.sources.pytorch.trials import Trials, tensors

SAFETY = 32  # times what was measured: another runtime rounds otherwise, and larger inputs more
LEAST = 1e-4  # relative; what float32 kernels of two libraries agree on anyway
ULPS = 16  # of the largest value, that atol leaves at least


def tolerances(trials: Trials) -> tuple[float, float, str]:
    """Proposed rtol and atol, one digit each, and a sentence; zeros where it can't be measured."""
    inputs = trials.drawn(trials.sizes)
    try:
        with torch.no_grad():
            single = tensors(trials.adapter.result(*inputs))
            exact = tensors(_doubled(trials)(*(one.double() if one.is_floating_point() else one for one in inputs)))
    except Exception as error:  # noqa: BLE001  # a model's code may raise anything
        return 0.0, 0.0, f"rounding not measured, since the model does not run in float64: {type(error).__name__}"
    relative = absolute = scale = 0.0
    step = 0.0
    for name, one in single.items():
        other = exact.get(name)
        if other is None or other.shape != one.shape or not one.is_floating_point() or not one.numel():
            continue
        step = max(step, torch.finfo(one.dtype).eps)
        off, size = (one.double() - other.double()).abs(), other.double().abs()
        if not bool(torch.isfinite(off).all()):
            return 0.0, 0.0, f"rounding not measured: {name} has NaN or infinities"
        large = size >= size.square().mean().sqrt().clamp(min=torch.finfo(torch.float64).tiny)
        relative = max(relative, float((off[large] / size[large]).max()) if bool(large.any()) else 0.0)
        absolute, scale = max(absolute, float(off.max())), max(scale, float(size.max()))
    if not step:
        return 0.0, 0.0, "rounding not measured: no output is a floating-point number"
    rtol, atol = _up(max(SAFETY * relative, LEAST)), _up(max(SAFETY * absolute, ULPS * step * scale))
    told = f"against float64 the outputs are at most {absolute:.2g} off, of values up to {scale:.3g}"
    return rtol, atol, f"{told}: rtol {rtol:g} and atol {atol:g} leave {SAFETY} times that"


def _doubled(trials: Trials) -> Any:
    """The model's call, in a copy of it that computes in float64."""
    double = copy.deepcopy(trials.model).double()
    return Adapter(double, list(trials.example.inputs), (), trials.example.arguments).result


def _up(value: float) -> float:
    """The next number of one digit."""
    return float(Context(prec=1, rounding=ROUND_CEILING).create_decimal(Decimal(value)))
