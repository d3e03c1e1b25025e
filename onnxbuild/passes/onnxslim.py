"""onnxslim: simplifies a graph by constant folding and fusions of its own. An extra: pip install 'onnxbuild[onnxslim]'.

Its check of the result, which makes dynamic axes 1 and gives nothing where it fails, is not among the options: the parity
stage that follows every pass compares at more sizes. Nor is its conversion to half precision, which leaves some Casts as
they were: float16 is a pass. Knows nothing of stores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, protobuf, tensors
from onnxbuild.text.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxslim", "onnx", "onnxruntime", "numpy")

_SAME = "subexpression_elimination"
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxslim.slim, with its defaults."""

    skip_optimizations: Annotated[
        list[
            Literal[
                "constant_folding",
                "graph_fusion",
                "dead_node_elimination",
                "subexpression_elimination",
                "weight_tying",
            ]
        ],
        Meta(description="Steps to leave out."),
    ] = []
    skip_fusion_patterns: Annotated[list[str], Meta(description="Fusions to leave out, by onnxslim's names.")] = []
    no_shape_infer: Annotated[bool, Meta(description="Infer no shapes on the way.")] = False
    size_threshold: Annotated[int, Meta(ge=1, description="Fold no constant of more bytes than this.")] | UnsetType = (
        UNSET
    )


def run(
    path: Path,
    options: Options,
    scratch: Path,  # noqa: ARG001  # the protocol's
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Simplify. Raises StageError where the weights don't fit one message, or two random nodes would be taken for one."""
    import onnxslim

    model = modelfile.structure(path)
    if modelfile.total_bytes(model) + model.ByteSize() > protobuf.LIMIT:
        fact = "onnxslim: it takes the weights in one message, and they are past protobuf's 2 GiB"
        raise StageError(fact, "use onnxsim or onnxscript in its place")
    drawn = sorted({node.op_type for body in tensors.bodies(model) for node in body.node} & _RANDOM)
    if drawn and _SAME not in options.skip_optimizations:
        fact = f"onnxslim: it takes two nodes of {', '.join(drawn)} for one, whose numbers are then the same"
        raise StageError(fact, f"set skip_optimizations: [{_SAME}]")
    _know(options)
    modelfile.read_in(model, path.parent)
    threshold = {} if options.size_threshold is UNSET else {"size_threshold": options.size_threshold}
    try:
        made = onnxslim.slim(
            model,
            skip_optimizations=list(options.skip_optimizations),
            skip_fusion_patterns=list(options.skip_fusion_patterns),
            no_shape_infer=options.no_shape_infer,
            **threshold,
        )
    except Exception as error:
        raise StageError(f"onnxslim: {type(error).__name__}: {error}") from error
    return made, path.parent


def _know(options: Options) -> None:
    """Refuse names that onnxslim would pass over in silence."""
    from onnxslim.core.pattern.registry import DEFAULT_FUSION_PATTERNS

    known = [*DEFAULT_FUSION_PATTERNS]
    for name in options.skip_fusion_patterns:
        if name not in known:
            fact = f"onnxslim knows no fusion pattern '{name}'"
            raise StageError(fact, nearest(name, known) or f"known: {', '.join(known)}")


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[Json, str] | None:  # noqa: ARG001  # the protocol's
    """Nothing: onnxsim does the same, and is always there."""
    return None


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Sentences for the report."""
    return []
