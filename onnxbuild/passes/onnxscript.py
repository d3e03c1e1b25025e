"""onnxscript: the optimizer of the ONNX Script project, which torch's dynamo exporter runs too.

It works on an intermediate representation whose tensors stay in their files until a value is needed, so memory does
not grow with the weights. Knows nothing of stores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.passes.beside import Beside

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxscript", "onnx-ir", "onnx", "numpy")

Size = Annotated[int, Meta(ge=0)]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxscript.optimizer.optimize, with its defaults."""

    num_iterations: Annotated[int, Meta(ge=1, description="How often the optimization loop is repeated.")] = 2
    onnx_shape_inference: Annotated[bool, Meta(description="Infer shapes node by node on the way.")] = True
    stop_if_no_change: Annotated[bool, Meta(description="Stop the loop when an iteration changed nothing.")] = True
    input_size_limit: Annotated[Size, Meta(description="Fold no node with an input of more bytes than this.")] = 8192
    output_size_limit: Annotated[Size, Meta(description="Fold no node whose output has more bytes than this.")] = 262144
    inline: Annotated[bool, Meta(description="Inline the model's own functions.")] = True


def run(
    path: Path,
    options: Options,
    scratch: Path,  # noqa: ARG001  # the protocol's
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Optimize. Raises StageError where the library refuses the model."""
    import onnx_ir
    import onnxscript.optimizer

    try:
        model = onnx_ir.load(path)
        onnxscript.optimizer.optimize(model, **msgspec.structs.asdict(options))
        return onnx_ir.serde.serialize_model(model), path.parent
    except Exception as error:
        raise StageError(f"onnxscript: {type(error).__name__}: {error}") from error


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> None:
    """Nothing: the dynamo exporter has run it already."""


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """Sentences for the report."""
    return []
