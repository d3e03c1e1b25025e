"""float16: weights and arithmetic in half precision, by onnxruntime's converter, whatever the model's size.

The converter sees the graph alone; the weights are converted piece by piece. Values that float16 can't hold are counted
and named, and an overflow fails: the float32 graph is run on the recipe's own cases, and, where onnx's reference evaluator
can, the converted one in true half precision. onnxruntime on a CPU would hide it: it keeps float32 between some nodes.
Knows nothing of stores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside, Problem

VERSION = 3
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "onnx", "numpy")
MEMORY = 1.2  # times the weights, for the session in which values are measured

Names = list[str]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxruntime.transformers.float16.convert_float_to_float16, with its defaults, but for keep_io_types.

    Inputs and outputs are published as the recipe declares them; `prepend` and `append` are where it declares others.
    """

    keep_io_types: Annotated[
        bool,
        Meta(
            description=(
                "Always true: inputs and outputs stay as declared. Where float16 is to be published, say so: prepend gives "
                "an input dtype: float16 and steps: [cast: float32], append an output steps: [cast: float16]; these casts "
                "fall away here."
            ),
        ),
    ] = True
    op_block_list: Annotated[
        Names | UnsetType,
        Meta(description="Operators to leave in float32, in place of the converter's own list."),
    ] = UNSET
    node_block_list: Annotated[
        Names,
        Meta(
            description="Nodes to leave in float32, by name or by a value that they make; of an If or a Loop, all in it."
        ),
    ] = []
    min_positive_val: Annotated[
        float, Meta(ge=5.96e-08, lt=1, description="Weights nearer to 0 become this, with their sign.")
    ] = 5.96e-08
    max_finite_val: Annotated[
        float, Meta(gt=1, le=65504, description="Weights further from 0 become this, with their sign.")
    ] = 65504.0
    force_fp16_initializers: Annotated[
        bool, Meta(description="Keep in float16 even the weights that float32 nodes alone read.")
    ] = False


def run(path: Path, options: Options, scratch: Path, beside: Beside | None = None) -> tuple[ModelProto, Path]:
    """Convert, and measure. Raises StageError where a listed node isn't there, and where float16 overflows."""
    from onnxbuild.passes import needs
    from onnxbuild.passes.float16 import converting, measuring

    before = modelfile.structure(path)
    if before.functions:
        fact = "float16: the model has functions of its own, which the converter would leave in float32"
        raise StageError(fact, "inline them first, with the pass onnxscript: {}")
    nodes.ensure_names(before)
    converting.leave_room(before)
    made = converting.convert(before, path.parent, options, scratch)
    if beside is not None:
        needs.require_memory("float16", path, MEMORY)
        beside.notes.extend(made.notes)
        if options.op_block_list is not UNSET:
            beside.notes.extend(nodes.absent(before, "op_block_list", options.op_block_list))
        beside.notes.extend(measuring.require_range(before, path.parent, made, beside.feeds, scratch))
    return made.model, scratch


def problems(options: Options) -> Iterator[Problem]:
    """See `passes.PROBLEMS`."""
    if not options.keep_io_types:
        hint = (
            "to publish float16, give an input under prepend dtype: float16 and steps: [cast: float32], "
            "and an output under append steps: [cast: float16]"
        )
        yield ("keep_io_types",), "inputs and outputs stay as the recipe declares them", hint


def data(options: Options) -> None:
    """The recipe's own cases."""


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # the protocol's
    """Nothing: how much precision may be lost, the recipe's author decides."""
    return None


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Sentences for the report."""
    return []
