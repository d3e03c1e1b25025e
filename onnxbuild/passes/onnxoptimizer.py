"""onnxoptimizer: the graph rewrites of the ONNX project, each one by name, in the recipe's order.

Passes that never look at a tensor's values run on the graph alone, whatever its size, and leave the weights where they
are. The others need the weights in memory, and so a model below protobuf's 2 GiB. Knows nothing of stores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, protobuf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.passes.beside import Beside


VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxoptimizer", "onnx")

Name = Literal[
    "adjust_add", "adjust_slice_and_matmul", "eliminate_common_subexpression",
    "eliminate_consecutive_idempotent_ops", "eliminate_deadend", "eliminate_duplicate_initializer",
    "eliminate_identity", "eliminate_if_with_const_cond", "eliminate_nop_cast", "eliminate_nop_concat",
    "eliminate_nop_dropout", "eliminate_nop_expand", "eliminate_nop_flatten", "eliminate_nop_monotone_argmax",
    "eliminate_nop_pad", "eliminate_nop_reshape", "eliminate_nop_split", "eliminate_nop_transpose",
    "eliminate_nop_with_unit", "eliminate_shape_gather", "eliminate_shape_op", "eliminate_slice_after_shape",
    "eliminate_unused_initializer", "extract_constant_to_initializer", "fuse_add_bias_into_conv",
    "fuse_bn_into_conv", "fuse_concat_into_reshape", "fuse_consecutive_concats", "fuse_consecutive_log_softmax",
    "fuse_consecutive_reduce_unsqueeze", "fuse_consecutive_slices", "fuse_consecutive_squeezes",
    "fuse_consecutive_transposes", "fuse_consecutive_unsqueezes", "fuse_matmul_add_bias_into_gemm",
    "fuse_pad_into_conv", "fuse_pad_into_pool", "fuse_qkv", "fuse_transpose_into_gemm", "lift_lexical_references",
    "nop", "rename_input_output", "replace_einsum_with_matmul", "rewrite_input_dtype", "rewrite_where",
    "set_unique_name_for_nodes", "split_init", "split_predict",
]  # fmt: skip
Options = Annotated[
    list[Name], Meta(min_length=1, description="onnxoptimizer's passes, by name, run once each in this order.")
]

# By onnxoptimizer 0.4.2's sources, these match on operators, attributes, types and shapes and never fetch a tensor's
# data. A test runs them with and without the data.
STRUCTURAL = frozenset({
    "eliminate_consecutive_idempotent_ops", "eliminate_deadend", "eliminate_identity", "eliminate_nop_cast",
    "eliminate_nop_concat", "eliminate_nop_dropout", "eliminate_nop_monotone_argmax", "eliminate_nop_transpose",
    "eliminate_unused_initializer", "fuse_consecutive_concats", "fuse_consecutive_log_softmax",
    "fuse_consecutive_transposes", "fuse_matmul_add_bias_into_gemm", "fuse_transpose_into_gemm", "nop",
    "replace_einsum_with_matmul", "rewrite_where", "set_unique_name_for_nodes",
})  # fmt: skip
LIMIT = protobuf.LIMIT
# By the operators that a graph must have for them to do anything.
_PROPOSED = {
    "eliminate_identity": ("Identity",),
    "eliminate_nop_dropout": ("Dropout",),
    "fuse_consecutive_transposes": ("Transpose",),
    "fuse_bn_into_conv": ("BatchNormalization", "Conv"),
}


def run(
    path: Path,
    options: Sequence[str],
    scratch: Path,  # noqa: ARG001  # the protocol's
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Run the passes. Raises StageError where one needs weights past 2 GiB, or the library refuses the model."""
    import onnxoptimizer
    from onnx import shape_inference

    model = modelfile.structure(path)
    reading = [name for name in options if name not in STRUCTURAL]
    if reading and modelfile.total_bytes(model) + model.ByteSize() > LIMIT:
        raise StageError(
            f"onnxoptimizer: {', '.join(reading)} would read the weights, which are past protobuf's 2 GiB",
            f"Leave them out or use onnxsim; of these passes, any size will do: {', '.join(sorted(STRUCTURAL))}.",
        )
    # several passes match on shapes and types, which the store's form leaves out
    model = shape_inference.infer_shapes(model)
    if reading:
        modelfile.read_in(model, path.parent)
    try:
        return onnxoptimizer.optimize(model, list(options)), path.parent
    except Exception as error:
        raise StageError(f"onnxoptimizer: {type(error).__name__}: {error}") from error


def opset(options: Sequence[str], before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[list[str], str] | None:
    """The passes whose operators the graph has, of those that only remove what does nothing, or fuse what is equal."""
    names = [name for name, needed in _PROPOSED.items() if set(needed) <= set(operators)]
    return (["eliminate_deadend", *names], "removes and fuses nodes") if names else None


def notes(options: Sequence[str]) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """Sentences for the report."""
    return []
