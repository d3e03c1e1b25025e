"""function: an ONNX function, written as text in the recipe. Its definition is onnx's own reference evaluator.

In the graph stand its nodes, and no call of it, so that passes and other runtimes need not know of functions.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.steps.interface import Tensor, UnfitError, fits, nothing_else, shown

if TYPE_CHECKING:
    from onnx import FunctionProto

    from onnxbuild.steps.building import Builder
    from onnxbuild.steps.interface import Array

VERSION = 2
DISTRIBUTIONS: tuple[str, ...] = ("onnx",)
takes = nothing_else
FORM = '<domain: "steps", opset_import: ["" : 18]> gamma (x) => (y) { y = Sqrt (x) }'
# The head is looked at without onnx, which no command imports that only reads recipes.
_HEAD = re.compile(r"<[^>]*>\s*[\w.]+\s*(?:<[^>]*>\s*)?\(([^()]*)\)\s*=>\s*\(([^()]*)\)\s*\{.*\}", re.DOTALL)

_OPSET = re.compile(r"""^\s*<[^>]*opset_import\s*:\s*\[[^]]*"(?:ai\.onnx)?"\s*:\s*(\d+)""")
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|#[^\n]*')  # or a text in quotes, which may hold what a comment starts with
LONGEST = 200  # characters of what the parser says

Gives = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]+\[[A-Za-z0-9_, ]*\]$(?!\n)",
        extra_json_schema={"x-expected": "a dtype and a shape, such as float32[batch, 3]"},
    ),
]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """An ONNX function as text. What it computes is what onnx's reference evaluator says."""

    text: Annotated[str, Meta(min_length=1, description="onnx.parser's form: one input, standard operators.")]
    gives: Annotated[
        list[Gives],
        Meta(description="Dtype and shape of each result, as float32[batch, 3]; as what goes in where left out."),
    ] = []


def gives(taken: Sequence[Tensor], options: Options, least: Mapping[str, int]) -> list[Tensor]:  # noqa: ARG001  # the protocol's
    """What the recipe says of it. Raises UnfitError where that, or the function's head, can't be read."""
    head = _HEAD.fullmatch(_uncommented(options.text).strip())
    if head is None:
        raise UnfitError("its text is no function", f"such as {FORM}")
    inputs, outputs = ([name for name in text.split(",") if name.strip()] for text in head.groups())
    if len(inputs) != 1 or len(outputs) != max(len(options.gives), 1):
        fact = f"it has {len(inputs)} inputs and {len(outputs)} outputs, and gives names {max(len(options.gives), 1)}"
        raise UnfitError(fact, "a function here takes one value; say the dtype and shape of each result under gives")
    return [_tensor(text) for text in options.gives] or [taken[0]]


def compute(taken: Sequence[Array], options: Options) -> list[Array]:
    """By onnx's reference evaluator. Raises StageError where that can't."""
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    function = parsed(options.text, max(len(options.gives), 1))
    try:
        made = ReferenceEvaluator(function).run(None, dict(zip(function.input, taken, strict=True)), {})
    except Exception as error:
        raise StageError(
            f"function '{function.name}' can't be run: {error}",
            "run it by onnx.reference.ReferenceEvaluator, which is its definition",
        ) from error
    return [*_held(function.name, [np.asarray(array) for array in made], taken[0], options)]


def _held(name: str, made: Sequence[Array], taken: Array, options: Options) -> Iterator[Array]:
    """Arrays, held against what the recipe says of them. Raises StageError."""
    wanted = [_tensor(text) for text in options.gives] or [Tensor(taken.dtype.name, [*taken.shape])]
    said = "gives says" if options.gives else "without gives it is to be as what goes in,"
    for array, one in zip(made, wanted, strict=True):
        if not fits(array, one):
            sizes = ", ".join(map(str, array.shape))
            fact = f"function '{name}' gives {array.dtype.name} [{sizes}], and {said} {shown(one)}"
            raise StageError(
                fact, f"write gives: ['{array.dtype.name}[{sizes}]'], with the names of axes that are dynamic"
            )
        yield array


def opset(options: Options) -> int | None:
    """The opset of ONNX's own operators that the text says, None where it says none."""
    head = _OPSET.search(_uncommented(options.text))
    return int(head[1]) if head else None


def nodes(graph: Builder, taken: Sequence[str], tensors: Sequence[Tensor], options: Options) -> list[str]:  # noqa: ARG001  # the protocol's
    """The function's own nodes under names of their own. Raises StageError where it is of another opset than the graph."""
    import onnx

    from onnxbuild.graphs import renaming

    function = parsed(options.text, max(len(options.gives), 1))
    wanted = next((entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")), graph.opset)
    if wanted != graph.opset:
        fact = f"function '{function.name}' is of opset {wanted}, the graph of {graph.opset}"
        raise StageError(fact, f'write opset_import: ["" : {graph.opset}]')
    body = onnx.ModelProto()
    body.graph.node.extend(function.node)
    own = dict.fromkeys(name for node in function.node for name in (*node.input, *node.output) if name)
    new = {name: graph.fresh(f"{graph.stem}/{function.name}/{name}") for name in own if name not in function.input}
    renaming.rename_inner(body.graph, lambda name: graph.fresh(f"{graph.stem}/{function.name}/{name}"))
    renaming.rename(body, {**new, **dict(zip(function.input, taken, strict=True))})
    for node in body.graph.node:
        node.name = graph.fresh(f"{graph.stem}/{function.name}/{node.op_type}")
    graph.made.extend(body.graph.node)
    return [new[name] for name in function.output]


def _uncommented(text: str) -> str:
    return _COMMENT.sub(lambda found: found[1] or "", text)


@functools.lru_cache
def parsed(text: str, outputs: int) -> FunctionProto:
    """The function that a text is. Raises StageError where it is none, or not one of a single input and so many outputs."""
    import onnx

    from onnxbuild.graphs import tensors

    try:
        function = onnx.parser.parse_function(text)
    except onnx.parser.ParseError as error:
        raise StageError(f"the text of a function can't be read: {_said(error)}", f"such as {FORM}") from error
    made = {name for node in function.node for name in node.output}
    whole = onnx.ModelProto(functions=[function])
    foreign = sorted({node.domain for body in tensors.bodies(whole) for node in body.node} - {"", "ai.onnx"})
    own = any(entry.domain in ("", "ai.onnx") for entry in function.opset_import)
    wrong = [
        *([f"has {len(function.input)} inputs, and a step takes one"] if len(function.input) != 1 else []),
        *(
            [f"has attributes: {', '.join(function.attribute)}"]
            if function.attribute or function.attribute_proto
            else []
        ),
        *([f"has {len(function.output)} outputs, and gives says {outputs}"] if len(function.output) != outputs else []),
        *([] if own else ["does not say of which opset its operators are"]),
        *([f"uses operators of {', '.join(foreign)}"] if foreign else []),
        *([f"gives '{name}', which no node makes" for name in function.output if name not in made]),
    ]
    if wrong:
        raise StageError(f"function '{function.name}' {'; '.join(wrong)}", f"such as {FORM}")
    return function


def _said(error: Exception) -> str:
    """What the parser says, and where, less the text itself."""
    told = error.args[0] if error.args else error
    text = " ".join((told.decode(errors="replace") if isinstance(told, bytes) else str(told)).split())
    at, why = re.search(r"\(line: (\d+) column: (\d+)\)", text), text.rpartition("} ")[2] or text
    return f"at line {at[1]}, column {at[2]}: {why[:LONGEST]}" if at else why[:LONGEST]


def _tensor(text: str) -> Tensor:
    from onnxbuild.steps.cast import Name

    dtype, _, rest = text.removesuffix("]").partition("[")
    axes: list[Any] = [part.strip() for part in rest.split(",")] if rest.strip() else []
    if dtype not in Name.__args__ or not all(re.fullmatch(r"[0-9]+|[A-Za-z_]\w*", axis) for axis in axes):  # type: ignore[attr-defined]
        raise UnfitError(f"'{text}' is no dtype and shape", "such as float32[batch, 3]")
    return Tensor(dtype, [int(axis) if axis.isdecimal() else axis for axis in axes])
