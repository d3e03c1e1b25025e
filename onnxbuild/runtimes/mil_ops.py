"""The operators of Core ML's MIL programs, each as a function of torch tensors in float32, int64 and bool.

What each computes is in coremltools' documentation of the operator
(apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html). The caller rounds results to the types
that the program gives them. Knows no files and no programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom

from onnxbuild.runtimes import mil_layers as layers
from onnxbuild.runtimes import mil_moves as moves
from onnxbuild.runtimes.mil_layers import Op, Tensor

Function: TypeAlias = Callable[[Op], "Tensor | Sequence[Tensor]"]


def _unary(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda op: function(op.x)


def _binary(function: Callable[[Any, Any], Tensor]) -> Function:
    return lambda op: function(op.x, op.given["y"])


def _reduced(function: Callable[[Tensor, list[int]], Tensor]) -> Function:
    """A reduction; `function` takes and keeps the axes."""

    def call(op: Op) -> Tensor:
        axes = [axis % op.x.ndim for axis in op.ints("axes", range(op.x.ndim))]
        return function(op.x, axes).reshape(op.shapes[0])

    return call


def _each(function: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, list[int]], Tensor]:
    """A reduction of one axis after the other."""

    def call(x: Tensor, axes: list[int]) -> Tensor:
        for axis in axes:
            x = function(x, axis)
        return x

    return call


def _placed(function: Callable[[Tensor, int, bool], Tensor]) -> Function:
    return lambda op: function(op.x, int(op.number("axis", -1)), op.flag("keep_dims", default=True))


def _matmul(op: Op) -> Tensor:
    x, y = op.x, op.given["y"]
    x = x.transpose(-1, -2) if op.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if op.flag("transpose_y") else y)


def _gelu(op: Op) -> Tensor:
    mode = op.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return op.x * torch.sigmoid(1.702 * op.x)
    return F.gelu(op.x, approximate="none" if mode == "EXACT" else "tanh")


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(1, -1, *[1] * (x.ndim - 2))


def _cumsum(op: Op) -> Tensor:
    axis = int(op.number("axis"))
    x = op.x.flip(axis) if op.flag("reverse") else op.x
    made = x.cumsum(axis)
    made = made - x if op.flag("exclusive") else made
    return made.flip(axis) if op.flag("reverse") else made


def _attention(op: Op) -> Tensor:
    return F.scaled_dot_product_attention(
        op.given["query"], op.given["key"], op.given["value"], op.given.get("attn_mask")
    )


def _reshaped(op: Op) -> Tensor:
    return op.x.reshape(op.shapes[0])


def unsupported(kind: str, known: Mapping[str, Any]) -> str:
    """What of an operation is not interpreted, "" where all of it is; `known` are its parameters that are constants."""
    if kind not in OPS:
        return kind
    if kind == "lstm" and known.get("direction") == "reverse":
        return "lstm with direction reverse"  # in which order it gives its steps, the documentation does not say
    activations = [known[name] for name in known if name.endswith("activation")]
    if kind == "lstm" and (unknown := [name for name in activations if name not in layers.ACTIVATIONS]):
        return f"lstm with {unknown[0]}"
    if kind == "resample" and known.get("coordinates_mode") != "normalized_minus_one_to_one":
        return f"resample with {known.get('coordinates_mode', 'other coordinates')}"
    return f"{kind} with batch_dims" if int(known.get("batch_dims", 0)) else ""


OPS: dict[str, Function] = {
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "add": _binary(torch.add),
    "argsort": lambda op: op.x.argsort(int(op.number("axis", -1)), descending=not op.flag("ascending"), stable=True),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "avg_pool": layers.pool,
    "batch_norm": layers.batch_norm,
    "cast": lambda op: op.x.trunc() if op.x.is_floating_point() and "int" in op.text("dtype") else op.x,
    "ceil": _unary(torch.ceil),
    "clamped_relu": lambda op: F.leaky_relu(op.x, op.number("alpha")).clamp(max=op.number("beta")),
    "clip": lambda op: op.x.clamp(op.number("alpha"), op.number("beta")),
    "concat": moves.concat,
    "conv": layers.conv,
    "conv_transpose": layers.conv_transpose,
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "cumsum": _cumsum,
    "depth_to_space": moves.depth_to_space,
    "einsum": lambda op: torch.einsum(op.text("equation"), *op.given["values"]),
    "elu": lambda op: F.elu(op.x, op.number("alpha", 1.0)),
    "equal": _binary(torch.eq),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "expand_dims": _reshaped,
    "fill": lambda op: op.given["value"].reshape(()).expand(op.shapes[0]),
    "fill_like": lambda op: op.given["value"].reshape(()).expand(op.shapes[0]),
    "floor": _unary(torch.floor),
    "floor_div": _binary(torch.floor_divide),
    "gather": moves.gather,
    "gather_along_axis": moves.along,
    "gather_nd": moves.gather_nd,
    "gelu": _gelu,
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "identity": _unary(torch.clone),
    "instance_norm": layers.instance_norm,
    "inverse": lambda op: 1 / (op.x + op.number("epsilon", 1e-4)),
    "l2_norm": layers.l2_norm,
    "l2_pool": layers.pool,
    "layer_norm": layers.layer_norm,
    "leaky_relu": lambda op: F.leaky_relu(op.x, op.number("alpha", 0.01)),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "linear": lambda op: F.linear(op.x, op.given["weight"], op.given.get("bias")),
    "linear_activation": lambda op: op.x * op.number("alpha") + op.number("beta"),
    "local_response_norm": layers.local_response_norm,
    "log": lambda op: torch.log(op.x + op.number("epsilon", 1e-45)),
    "logical_and": _binary(torch.logical_and),
    "logical_not": _unary(torch.logical_not),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "lstm": layers.lstm,
    "matmul": _matmul,
    "max_pool": layers.pool,
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mod": _binary(torch.remainder),
    "mul": _binary(torch.mul),
    "not_equal": _binary(torch.ne),
    "pad": moves.pad,
    "pixel_shuffle": lambda op: F.pixel_shuffle(op.x, int(op.number("upscale_factor"))),
    "pow": _binary(torch.pow),
    "prelu": lambda op: torch.where(op.x > 0, op.x, op.x * _per_channel(op.given["alpha"], op.x)),
    "real_div": _binary(torch.true_divide),
    "reduce_argmax": _placed(torch.argmax),
    "reduce_argmin": _placed(torch.argmin),
    "reduce_l1_norm": _reduced(lambda x, axes: x.abs().sum(axes, keepdim=True)),
    "reduce_l2_norm": _reduced(lambda x, axes: x.square().sum(axes, keepdim=True).sqrt()),
    "reduce_log_sum": _reduced(lambda x, axes: x.sum(axes, keepdim=True).log()),
    "reduce_log_sum_exp": _reduced(lambda x, axes: x.logsumexp(axes, keepdim=True)),
    "reduce_max": _reduced(lambda x, axes: x.amax(axes, keepdim=True)),
    "reduce_mean": _reduced(lambda x, axes: x.float().mean(axes, keepdim=True)),
    "reduce_min": _reduced(lambda x, axes: x.amin(axes, keepdim=True)),
    "reduce_prod": _reduced(_each(lambda x, axis: x.prod(axis, keepdim=True))),
    "reduce_sum": _reduced(lambda x, axes: x.sum(axes, keepdim=True)),
    "reduce_sum_square": _reduced(lambda x, axes: x.square().sum(axes, keepdim=True)),
    "relu": _unary(torch.relu),
    "relu6": _unary(F.relu6),
    "resample": layers.resample,
    "reshape": _reshaped,
    "resize_bilinear": layers.bilinear,
    "resize_nearest_neighbor": layers.nearest,
    "reverse": lambda op: op.x.flip(op.ints("axes", range(op.x.ndim))),
    "round": _unary(torch.round),
    "rsqrt": lambda op: 1 / (op.x + op.number("epsilon", 1e-12)).sqrt(),
    "scaled_dot_product_attention": _attention,
    "scaled_tanh": lambda op: op.number("alpha") * torch.tanh(op.x * op.number("beta")),
    "scatter_along_axis": moves.scatter_along,
    "scatter_nd": moves.scatter_nd,
    "select": lambda op: torch.where(op.given["cond"], op.given["a"], op.given["b"]),
    "sigmoid": _unary(torch.sigmoid),
    "sigmoid_hard": lambda op: (op.x * op.number("alpha", 0.2) + op.number("beta", 0.5)).clamp(0, 1),
    "sign": _unary(torch.sign),
    "silu": _unary(F.silu),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "slice_by_index": moves.sliced,
    "slice_by_size": moves.slice_by_size,
    "softmax": lambda op: op.x.softmax(int(op.number("axis", -1))),
    "softplus": _unary(lambda x: torch.logaddexp(x, torch.zeros(()))),
    "softsign": _unary(F.softsign),
    "space_to_depth": moves.space_to_depth,
    "split": moves.split,
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "squeeze": _reshaped,
    "stack": lambda op: torch.stack(op.given["values"], int(op.number("axis"))),
    "sub": _binary(torch.sub),
    "tan": _unary(torch.tan),
    "tanh": _unary(torch.tanh),
    "threshold": lambda op: op.x.clamp(min=op.number("alpha")),
    "thresholded_relu": lambda op: torch.where(op.x >= op.number("alpha", 1.0), op.x, 0.0),
    "tile": lambda op: op.x.tile(op.ints("reps")),
    "topk": moves.topk,
    "transpose": lambda op: op.x.permute(op.ints("perm")),
    "upsample_bilinear": layers.bilinear,
    "upsample_nearest_neighbor": layers.nearest,
}
