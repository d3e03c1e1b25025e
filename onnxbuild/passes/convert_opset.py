"""convert_opset: another version of the default operator set, by ONNX's own version converter, checked.

The converter works on the graph alone; the weights stay where they are. What it would pass over in silence, or make
something else of, is refused by the operator's name, see `graphs.opsets`. Other domains are left as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, opsets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnx",)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnx.version_converter.convert_version."""

    target_version: Annotated[
        int,
        Meta(ge=7, le=28, description="The opset to bring the graph to. The passes after this one are checked by it."),
    ]


def run(
    path: Path,
    options: Options,
    scratch: Path,  # noqa: ARG001  # the protocol's
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Convert. Raises StageError, with the operator's name, where that can't be done or would change the results."""
    try:
        return opsets.convert(modelfile.structure(path), options.target_version), path.parent
    except StageError as error:
        raise StageError(f"convert_opset: {error.fact}", error.hint) from error


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """The one that is asked for."""
    return options.target_version


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # the protocol's
    """Nothing: which opset is wanted, nobody knows but the recipe's author."""
    return None


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Sentences for the report."""
    return []
