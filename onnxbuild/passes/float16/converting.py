"""The conversion of a graph and its weights to float16: onnxruntime's converter, and what it leaves to be mended.

The converter puts one Cast for each node that wants it under one and the same name, all of them in the main graph and at
its end, and casts to float16 and back between two float32 nodes. Here those are one each, where their input is made, in
order, and none between two float32 nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import UNSET, Struct

from onnxbuild.graphs import modelfile, nodes, renaming, tensors
from onnxbuild.text import units
from onnxbuild.text.wording import some

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

    from onnxbuild.passes.float16 import Options

WEIGHTS = "weights.bin"
_ITS_NODES = r"^graph_(in|out)put_cast\d+$|_cast_to_fp(16|32)_node$"
_ITS_VALUES = r"^graph_(in|out)put_cast_\d+$|_cast_to_fp(16|32)$"


class Converted(Struct):
    """The model; `halves` are the values of the main graph that are float16 in it, by the names that they had before;
    `clamped` the weights some of whose values are `most` now, with their sign; `blocked` the nodes that stay.
    """

    model: Any
    halves: set[str]
    clamped: set[str]
    most: float
    blocked: set[str]
    notes: list[str]


def convert(before: ModelProto, folder: Path, options: Options, scratch: Path) -> Converted:
    """Convert a model whose nodes all have names; its weights, which lie in `folder`, go to a file in `scratch`.

    Raises StageError where a listed node isn't there.
    """
    import onnx
    from onnxruntime.transformers import float16

    model = type(before)()
    model.CopyFrom(before)
    listed = nodes.require(model, {"node_block_list": options.node_block_list})["node_block_list"]
    _constants_as_tensors(model)
    _own_names(model)
    model = onnx.shape_inference.infer_shapes(model)
    aside = [*_emptied(model)]
    floats = _of_type(model, 1)
    operators = float16.DEFAULT_OP_BLOCK_LIST if options.op_block_list is UNSET else list(options.op_block_list)
    known = {node.name for graph in tensors.graphs(model) for node in graph.node}
    io = [value.name for value in model.graph.output]
    float16.convert_float_to_float16(
        model,
        min_positive_val=options.min_positive_val,
        max_finite_val=options.max_finite_val,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=operators,
        node_block_list=listed,
        force_fp16_initializers=options.force_fp16_initializers,
    )
    with (scratch / WEIGHTS).open("wb") as file:
        filling = _Filling(file, folder, options)
        for tensor, old in aside:
            filling.put(tensor, old)
        for tensor in tensors.large_candidates(model):
            filling.move(tensor)
    halves = _of_type(model, tensor_half())
    mend(model, known)
    halves &= {name for node in model.graph.node for name in node.output}
    was = {f"graph_output_cast_{number}": name for number, name in enumerate(io)}
    was |= {f"graph_input_cast_{number}": value.name for number, value in enumerate(before.graph.input)}
    blocked = {node.name for graph in tensors.graphs(before) for node in graph.node if node.op_type in operators} | {
        *listed
    }
    halves = {was.get(name, name) for name in halves} & floats
    return Converted(model, halves, filling.too_large, options.max_finite_val, blocked, filling.notes())


def _of_type(model: ModelProto, element: int) -> set[str]:
    """The values of the main graph that are known to be of an element type."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == element}


def tensor_half() -> int:
    """ONNX's number of float16."""
    from onnx import TensorProto

    return int(TensorProto.FLOAT16)


def _constants_as_tensors(model: ModelProto) -> None:
    """Give Constant nodes their floats as a tensor, in place: the converter would leave the others in float32."""
    from onnx import helper

    for graph in tensors.graphs(model):
        for node in graph.node:
            if node.op_type != "Constant" or not tensors.is_standard(node.domain):
                continue
            (one,) = node.attribute
            if one.name in ("value_float", "value_floats"):
                values = [one.f] if one.name == "value_float" else list(one.floats)
                shape = [] if one.name == "value_float" else [len(values)]
                tensor = helper.make_tensor("", 1, shape, values)
                one.CopyFrom(helper.make_attribute("value", tensor))


def leave_room(model: ModelProto) -> None:
    """Take names away, in place, that the converter gives: a graph that it was run on before has them."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    for graph in tensors.graphs(model):
        for node in graph.node:
            if re.search(_ITS_NODES, node.name):
                node.name = f"{node.name} before"
            for name in [*node.output]:
                if re.search(_ITS_VALUES, name) and name not in ends:
                    renaming.rename_made(graph, name, f"{name} before")


def _own_names(model: ModelProto) -> None:
    """Give weights of subgraphs names that no weight elsewhere has, in place: the converter knows them by name alone."""
    seen: set[str] = set()
    for graph in tensors.graphs(model):
        for tensor in graph.initializer:
            name, number = tensor.name, 0
            while name in seen:
                number += 1
                name = f"{tensor.name}_{number}"
            if name != tensor.name:
                renaming.rename_made(graph, tensor.name, name)
                tensor.name = name
            seen.add(name)


def _emptied(model: ModelProto) -> Iterator[tuple[TensorProto, TensorProto]]:
    """Every float32 weight, emptied in place, and as it was: the converter needs to know its type only."""
    for tensor in tensors.large_candidates(model):
        if tensor.data_type == tensor.FLOAT:
            old = type(tensor)()
            old.CopyFrom(tensor)
            tensors.set_inline(tensor, b"")
            tensor.dims[:] = [0]
            yield tensor, old


class _Filling:
    """Puts weights into a file, in float16 where that is their type now, and counts what float16 can't hold."""

    def __init__(self, file: BinaryIO, folder: Path, options: Options) -> None:
        self._file = file
        self._folder = folder
        self._least, self._most = options.min_positive_val, options.max_finite_val
        self._large: dict[str, tuple[int, float]] = {}
        self._small: dict[str, tuple[int, float]] = {}

    def put(self, tensor: TensorProto, old: TensorProto) -> None:
        """Give a weight that was emptied its values again."""
        half = tensor.data_type == tensor.FLOAT16
        tensor.dims[:] = old.dims
        if not half:
            name = tensor.name
            tensor.CopyFrom(old)
            tensor.name = name
            return
        start = self._file.tell()
        self._file.writelines(self._half(old.name, chunk) for chunk in tensors.chunks(old, self._folder))
        self._place(tensor, start)

    def move(self, tensor: TensorProto) -> None:
        """Bring a weight that lies elsewhere into the file, as it is."""
        if tensors.is_external(tensor) and tensors.location(tensor) != WEIGHTS:
            start = self._file.tell()
            self._file.writelines(tensors.chunks(tensor, self._folder))
            self._place(tensor, start)

    def _place(self, tensor: TensorProto, start: int) -> None:
        if self._file.tell() - start >= modelfile.INLINE_BELOW:
            tensors.set_external(tensor, WEIGHTS, start)
            return
        self._file.flush()
        with open(self._file.name, "rb") as file:
            file.seek(start)
            tensors.set_inline(tensor, file.read())
        self._file.seek(start)
        self._file.truncate()

    @property
    def too_large(self) -> set[str]:
        """The weights some of whose values are too large."""
        return {*self._large}

    def _half(self, name: str, chunk: bytes) -> bytes:
        """Float32 values as float16, as the converter has them."""
        import numpy as np

        values = np.frombuffer(chunk, "<f4")
        size = np.abs(values)
        large = np.isfinite(size) & (size > self._most)
        small = (size > 0) & (size < self._least)
        for found, where, worst in ((self._large, large, np.max), (self._small, small, np.min)):
            if where.any():
                count, before = found.get(name, (0, float(worst(size[where]))))
                found[name] = (count + int(where.sum()), float(worst([before, worst(size[where])])))
        values = np.where(large, np.copysign(np.float32(self._most), values), values)
        values = np.where(small, np.copysign(np.float32(self._least), values), values)
        return values.astype("<f2").tobytes()

    def notes(self) -> list[str]:
        """What float16 can't hold, in sentences."""
        said = []
        for found, what, limit in ((self._large, "too large", self._most), (self._small, "too small", self._least)):
            if found:
                shown = [
                    f"{name} ({units.plural(count, 'value')}, {worst:.3g})" for name, (count, worst) in found.items()
                ]
                said.append(f"clamped to ±{limit:g}, weights {what} for float16: {some(shown)}")
        return said


def mend(model: ModelProto, known: set[str]) -> None:
    """Bring the Casts that the converter added, the nodes that are not `known`, into order, in place."""
    _one_each(model.graph, known)
    _where_made(model)
    for graph in tensors.graphs(model):
        _cancel(graph, known)
    _drop_unused(model, known)
    nodes.sort(model.graph)
    model.graph.ClearField("value_info")


def _is_cast(node: NodeProto, known: set[str], to: int) -> bool:
    return node.op_type == "Cast" and node.name not in known and node.attribute[0].i == to


def _one_each(graph: GraphProto, known: set[str]) -> None:
    """Drop the second and further Casts of the same name."""
    seen: set[str] = set()
    for number, node in [*enumerate(graph.node)]:
        if node.name not in known and node.output[0] in seen:
            graph.node[number].op_type = ""
        seen.update(node.output)
    _keep(graph, lambda node: bool(node.op_type))


def _keep(graph: GraphProto, wanted: Any) -> None:
    for number in reversed(range(len(graph.node))):
        if not wanted(graph.node[number]):
            del graph.node[number]


def _where_made(model: ModelProto) -> None:
    """Move Casts of what a subgraph makes into that subgraph."""
    inside: dict[str, list[GraphProto]] = {}
    for graph in [*tensors.graphs(model)][1:]:
        for name in _made(graph):
            inside.setdefault(name, []).append(graph)
    main = _made(model.graph)
    for number in reversed(range(len(model.graph.node))):
        node = model.graph.node[number]
        homes = inside.get(node.input[0], []) if node.op_type == "Cast" else []
        if homes and node.input[0] not in main:
            for home in homes:
                home.node.add().CopyFrom(node)
            del model.graph.node[number]


def _made(graph: GraphProto) -> set[str]:
    return {value.name for value in graph.input} | {name for node in graph.node for name in node.output}


def _cancel(graph: GraphProto, known: set[str]) -> None:
    """Take float32 values as they are where they were cast to float16 and back."""
    down = {node.output[0]: node.input[0] for node in graph.node if _is_cast(node, known, tensor_half())}
    made = {name for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for node in [*graph.node]:
        whole = down.get(node.input[0]) if _is_cast(node, known, 1) else None
        if whole is None:
            continue
        if node.output[0] not in outputs:
            renaming.rename_made(graph, node.output[0], whole)
            node.output[0] = f"{whole}, unused"
        elif whole in made and whole not in outputs:
            name = node.output[0]
            node.output[0] = f"{whole}, unused"
            renaming.rename_made(graph, whole, name)
            down = {half: name if of == whole else of for half, of in down.items()}


def _drop_unused(model: ModelProto, known: set[str]) -> None:
    """Drop Casts that the converter added and whose result nothing takes any more."""
    while True:
        used = {value.name for graph in tensors.graphs(model) for value in graph.output}
        used |= {name for graph in tensors.graphs(model) for node in graph.node for name in node.input}
        unused = [
            (graph, number)
            for graph in tensors.graphs(model)
            for number, node in enumerate(graph.node)
            if node.op_type == "Cast" and node.name not in known and node.output[0] not in used
        ]
        if not unused:
            return
        for graph, number in reversed(unused):
            del graph.node[number]
