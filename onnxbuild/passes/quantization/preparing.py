"""What every quantizer needs before it is called, and what has to be put right afterwards.

They write beside the model that they read, append to files that are there, add metadata and operator sets that nothing
uses, and leave files in the current folder: all of it in a scratch folder here.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from onnxbuild.errors import RefusalError, StageError
from onnxbuild.graphs import interface, modelfile, nodes, tensors
from onnxbuild.runtimes.onnxruntime import first_line
from onnxbuild.text.wording import nearest, some

if TYPE_CHECKING:
    from onnx import ModelProto

LARGE = 3 << 29  # bytes of weights from which files of their own are used: protobuf's limit is 2 GiB
# By which the libraries know a model that was pre-processed; without it each of them logs advice to do so.
MARK = ("onnx.quant.pre_process", "onnxruntime.quant")
FEW = 4  # operators that are all named
_IN_SUBGRAPHS = "quantize_4bit"  # the pass that goes there by itself


class Prepared(Struct):
    """A model that stands alone: its file, and the names that its nodes got. `before` is the graph as it was."""

    path: Path
    given: set[str]
    before: ModelProto
    large: bool


def require_opset(name: str, path: Path, least: int, why: str) -> None:
    """Raises StageError where the graph is of an opset in which its result can't be said."""
    opset = interface.opset(modelfile.structure(path))
    if opset is not None and opset < least:
        hint = f"put convert_opset: {{target_version: {least}}} before it, or export it so"
        raise StageError(f"{name}: {why} opset {least}; the graph is of opset {opset}", hint)


def prepared(path: Path, folder: Path) -> Prepared:
    """A graph of the store as a model that stands alone in an empty folder, each of its nodes with a name."""
    model = modelfile.structure(path)
    before = type(model)()
    before.CopyFrom(model)
    given = nodes.ensure_names(model)
    model.graph.ClearField("value_info")  # a quantizer that turns a weight around keeps the shape that stands there
    model.metadata_props.add(key=MARK[0], value=MARK[1])
    folder.mkdir()
    large = modelfile.total_bytes(model) > LARGE
    modelfile.write_model(model, path.parent, folder / "model.onnx", external_data=large)
    return Prepared(folder / "model.onnx", given, before, large)


def finished(made: Path, source: Prepared) -> ModelProto:
    """What a quantizer wrote, less what it left in it that is not of the graph."""
    model = modelfile.structure(made)
    model.graph.ClearField("value_info")
    written = {(entry.key, entry.value) for entry in source.before.metadata_props}
    kept = [entry for entry in model.metadata_props if (entry.key, entry.value) in written]
    model.ClearField("metadata_props")
    model.metadata_props.extend(kept)
    for field in ("producer_name", "producer_version"):
        model.ClearField(field)
        if source.before.HasField(field):
            setattr(model, field, getattr(source.before, field))
    for graph in tensors.graphs(model):
        _one_of_each(graph.initializer, lambda weight: (weight.name,))
        _one_of_each(graph.node, lambda node: tuple(node.output))
    nodes.prune_imports(model, (entry.domain for entry in source.before.opset_import))
    nodes.forget_names(model, source.given)
    nodes.sort(model.graph)
    return model


def _one_of_each(messages: Any, names: Callable[[Any], tuple[str, ...]]) -> None:
    """Drop the second one of a name, which is the same again: two nodes that share a weight were quantized one by one."""
    seen: set[tuple[str, ...]] = set()
    again = []
    for number, message in enumerate(messages):
        if names(message) in seen:
            again.append(number)
        seen.add(names(message))
    for number in reversed(again):
        del messages[number]


@contextmanager
def library(name: str, scratch: Path) -> Iterator[None]:
    """Call the library within it: in the scratch folder, silent, its exceptions as StageError."""
    try:
        with contextlib.chdir(scratch), contextlib.redirect_stdout(io.StringIO()):
            yield
    except StageError:
        raise
    except Exception as error:
        raise StageError(f"{name}: {type(error).__name__}: {first_line(error)}") from error


def listed(
    source: Path, lists: Mapping[str, Sequence[str]], operators: Mapping[str, Iterable[str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """The nodes that options list, by the names that they have in a model, and notes on operators that it has none of.

    Raises StageError where a node isn't there.
    """
    model = modelfile.structure(source)
    found = nodes.require(model, lists)
    return found, [note for option, names in operators.items() for note in nodes.absent(model, option, names)]


def require_changed(name: str, model: ModelProto, before: ModelProto, wanted: Collection[str]) -> None:
    """Raises RefusalError where nothing was quantized; `wanted` are the operators that should be."""
    if _on_integers(model) != _on_integers(before):
        return
    main, *inner = ({node.op_type for node in graph.node} for graph in tensors.graphs(before))
    inside = set().union(*inner)
    fact, hint = f"{name}: nothing was quantized", "look at its lists of operators and nodes, or take it out"
    if not {*wanted} & (main | inside):
        fact += f": the graph has no {some([*wanted]) if len(wanted) <= FEW else 'operator that it can'}"
        hint = nearest(next(iter(wanted)), main | inside) or hint
    elif not {*wanted} & main and name != _IN_SUBGRAPHS:
        fact += f": its {some(sorted({*wanted} & inside))} are all in branches and loops"
        hint = "use quantize_dynamic: {extra_options: {EnableSubgraph: true}}, which goes there"
    raise RefusalError(fact, hint)


def require_types(name: str, model: ModelProto) -> None:
    """Raises StageError where the library has put operators that want float32 behind values in float16."""
    import onnx

    try:
        onnx.shape_inference.infer_shapes(model, check_type=True)
    except Exception as error:
        if "float16" in str(error):
            fact = f"{name}: float16 can't be made integers of here: {first_line(error)}"
            raise StageError(
                fact, "quantize a graph in float32, and put float16 after it, which leaves in float32 what has to be"
            ) from error


def _on_integers(model: ModelProto) -> int:
    """How many nodes compute on quantized numbers, make them, or take them, by their operators' names."""
    every = (node for graph in tensors.graphs(model) for node in graph.node)
    return sum(re.search("[Qq]uant|Integer|NBits|^Q[A-Z]", node.op_type) is not None for node in every)
