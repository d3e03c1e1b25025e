"""The conversion of a graph to float16 by onnxruntime's converter, and of its weights, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import UNSET, Struct

from onnxbuild.graphs import modelfile, nodes, renaming, tensors
from onnxbuild.passes.float16 import casts, refusing
from onnxbuild.text import units
from onnxbuild.text.wording import some

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

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
    from onnxruntime.transformers import float16

    model = type(before)()
    model.CopyFrom(before)
    listed = nodes.require(model, {"node_block_list": options.node_block_list})["node_block_list"]
    listed = list(dict.fromkeys([*listed, *refusing.float32_only(model)]))
    _constants_as_tensors(model)
    _own_names(model)
    model = refusing.inferred(model)
    aside = [*_emptied(model)]
    floats = _of_type(model, 1)
    operators = float16.DEFAULT_OP_BLOCK_LIST if options.op_block_list is UNSET else list(options.op_block_list)
    listed, operators = _inside(model, listed, operators)
    known = {node.name for graph in tensors.graphs(model) for node in graph.node}
    io = [value.name for value in model.graph.output]
    float16.convert_float_to_float16(
        model,
        min_positive_val=options.min_positive_val,
        max_finite_val=options.max_finite_val,
        keep_io_types=options.keep_io_types,
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
    halves = _of_type(model, casts.half())
    casts.mend(model, known, halves)
    halves &= {name for node in model.graph.node for name in node.output}
    was = {f"graph_output_cast_{number}": name for number, name in enumerate(io)}
    was |= {f"graph_input_cast_{number}": value.name for number, value in enumerate(before.graph.input)}
    blocked = {node.name for graph in tensors.graphs(before) for node in graph.node if node.op_type in operators} | {
        *listed
    }
    halves = {was.get(name, name) for name in halves} & floats
    return Converted(model, halves, filling.too_large, options.max_finite_val, blocked, filling.notes())


def _inside(model: ModelProto, listed: list[str], operators: list[str]) -> tuple[list[str], list[str]]:
    """The nodes, and the operators, that stay: in place of a branch or a loop, which computes nothing, all that is in it."""
    names, bodied = dict.fromkeys(listed), set()
    for graph in tensors.graphs(model):  # from the outside in
        for node in graph.node:
            inner = tensors.within(node)
            bodied |= {node.op_type} if inner else set()
            if inner and (node.name in names or node.op_type in operators):
                names.pop(node.name, None)
                names |= dict.fromkeys(one.name for body in inner for one in body.node)
    return [*names], [name for name in operators if name not in bodied]


def _of_type(model: ModelProto, element: int) -> set[str]:
    """The values of the main graph that are known to be of an element type."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == element}


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
