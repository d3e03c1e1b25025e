"""onnxruntime: its own graph optimizations, applied offline and written back as a model.

`basic` keeps to standard operators. The levels above it fuse into operators that only onnxruntime has, some of them
chosen for the processor at hand, so the file is bound to this hardware and onnxruntime. Knows nothing of stores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, nodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.passes.beside import Beside

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "numpy")


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Of onnxruntime.SessionOptions and InferenceSession, by their own names."""

    graph_optimization_level: Annotated[
        Literal["basic", "extended", "layout", "all"],
        Meta(description="Levels above basic bind the file to this hardware and onnxruntime."),
    ] = "basic"
    disabled_optimizers: Annotated[
        list[str], Meta(description="Graph transformers to leave out, by onnxruntime's names.")
    ] = []


def run(
    path: Path,
    options: Options,
    scratch: Path,
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Let onnxruntime's CPU provider optimize and write the model. Raises StageError where it can't load it."""
    from onnxbuild.runtimes import onnxruntime as sessions

    optimized = scratch / "optimized.onnx"
    entries = {
        "session.optimized_model_external_initializers_file_name": "optimized.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(modelfile.INLINE_BELOW),
        "session.disable_prepacking": "1",  # packed copies of the weights would only cost memory: nothing is run
    }
    level, disabled = options.graph_optimization_level, options.disabled_optimizers
    try:
        sessions.on_cpu(path, level, written=optimized, entries=entries, disabled=disabled)
    except Exception as error:
        raise StageError(f"onnxruntime: {error}") from error
    model = modelfile.structure(optimized)
    nodes.prune_imports(model, (entry.domain for entry in modelfile.structure(path).opset_import))
    return model, scratch


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> None:
    """Nothing: a session does the same when it loads the model."""


def notes(options: Options) -> Sequence[str]:
    """Sentences for the report."""
    level = options.graph_optimization_level
    return [] if level == "basic" else [f"{level}: bound to this hardware and this onnxruntime version"]
