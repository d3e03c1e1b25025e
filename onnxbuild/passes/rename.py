"""rename: other names for the model's inputs, outputs and dimensions.

It comes first, right after the export and its steps: from there on, and everywhere else in the recipe, the published names
hold. Which they are, `recipe.naming` knows; how a graph gets them, `graphs.publishing`. No weight is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, publishing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnx",)

_Name = Annotated[str, Meta(min_length=1)]
_Dimension = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)",
        extra_json_schema={"x-expected": "letters, digits and '_', not starting with a digit"},
    ),
]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Other names, by those before. First of all passes: what follows, parity and targets too, uses the new names."""

    inputs: Annotated[dict[_Name, _Name], Meta(description="What inputs are called from here on.")] = {}
    outputs: Annotated[dict[_Name, _Name], Meta(description="What outputs are called from here on.")] = {}
    dims: Annotated[
        dict[_Dimension, _Dimension],
        Meta(description="What dimensions are called from here on; expressions of them follow."),
    ] = {}


def run(
    path: Path,
    options: Options,
    scratch: Path,  # noqa: ARG001  # the protocol's
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Rename. Raises StageError where the graph has no such input or output."""
    model = modelfile.structure(path)
    if missing := publishing.rename(model, options.inputs, options.outputs, options.dims):
        fact = f"the graph has no input or output {', '.join(map(repr, missing))}"
        raise StageError(f"rename: {fact}", "the names on the left are those that the graph has before this pass")
    return model, path.parent


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """The one before."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # ditto
    """Nothing: what a model should be called by, nobody knows but the recipe's author."""
    return None


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Sentences for the report."""
    return []
