"""Values by names that depend on the graph alone: a converter's own may depend on what it converted before.

Inputs and outputs of the model keep theirs. Changes nothing that a runtime computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from onnxbuild.graphs import tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto


def number(model: ModelProto, taken: Iterable[str] = ()) -> None:
    """Name every inner value, in place, after the operator that makes or takes it and its number in the order of the file.

    None is given a name that is `taken`. Nodes lose their names. Of a model without local functions.
    """
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    _Numbering({*kept, *taken}).graph(model.graph, {name: name for name in kept})


def rename(model: ModelProto, new: Mapping[str, str]) -> None:
    """Give values of the main graph other names, in place. None may be one that another value has."""
    _whole(model.graph, new)


def names(model: ModelProto) -> set[str]:
    """Every name of a value or a node in the model, in subgraphs and functions too."""
    found: set[str] = set()
    for body in tensors.bodies(model):
        for node in body.node:
            found.update((node.name, *node.input, *node.output))
    for graph in tensors.graphs(model):
        found.update(value.name for value in (*graph.input, *graph.output, *graph.initializer))
        found.update(sparse.values.name for sparse in graph.sparse_initializer)
    return found - {""}


def make_room(model: ModelProto, wanted: Iterable[str]) -> dict[str, str]:
    """Give values that have the names `wanted` others, in place: in the main graph, whose old and new names are returned,
    and in its subgraphs, which see the main graph's and may have none of those.
    """
    taken, wanted = names(model), set(wanted)
    moved = {name: fresh(f"{name}/inner", taken) for name in sorted(wanted & taken)}
    _clear_inner(model.graph, wanted, taken)
    _whole(model.graph, moved)
    return moved


def rename_inner(graph: GraphProto, new: Callable[[str], str]) -> None:
    """Give every value that the subgraphs of a graph's nodes have of their own the name that `new` makes of it, in place."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in tensors.graphs_of(attribute):
                rename_inner(inner, new)
                _whole(inner, {name: new(name) for name in sorted(_own(inner) - {""})})


def fresh(name: str, taken: set[str]) -> str:
    """The name, or the same with a number where it is `taken`; it is taken from now on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _clear_inner(graph: GraphProto, wanted: set[str], taken: set[str]) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in tensors.graphs_of(attribute):
                _clear_inner(inner, wanted, taken)
                own = sorted(_own(inner) & wanted)
                _whole(inner, {name: fresh(f"{name}/inner", taken) for name in own})


def _own(graph: GraphProto) -> set[str]:
    """The values that a graph itself has, without what it sees of those around it."""
    found = {value.name for value in (*graph.input, *graph.initializer)}
    found |= {sparse.values.name for sparse in graph.sparse_initializer}
    return found | {name for node in graph.node for name in node.output}


def _whole(graph: GraphProto, new: Mapping[str, str]) -> None:
    """Give a graph's own values other names, wherever they stand."""
    _apply(graph, new)
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = new.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new.get(sparse.values.name, sparse.values.name)
    for quantized in graph.quantization_annotation:
        quantized.tensor_name = new.get(quantized.tensor_name, quantized.tensor_name)
        for entry in quantized.quant_parameter_tensor_names:
            entry.value = new.get(entry.value, entry.value)


def rename_made(graph: GraphProto, old: str, new: str) -> None:
    """Give a value that a node makes another name, where nodes take it too; a graph's output of the old name stays."""
    _apply(graph, {old: new})


def _apply(graph: GraphProto, new: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in tensors.graphs_of(attribute):
                hidden = _own(inner)
                _apply(inner, {old: name for old, name in new.items() if old not in hidden})
                for value in inner.output:
                    value.name = value.name if value.name in hidden else new.get(value.name, value.name)


class _Numbering:
    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._counts: Counter[str] = Counter()

    def graph(self, graph: GraphProto, outer: Mapping[str, str]) -> None:
        """Rename what is in a graph; `outer` has the new names of the values that are seen in it."""
        names = dict(outer)
        own = {tensor.name for tensor in graph.initializer} - outer.keys()
        for value in graph.input:
            names.setdefault(value.name, self._fresh("input"))
        for node in graph.node:
            for name in node.input:
                if name in own and name not in names:
                    names[name] = self._fresh(f"{node.op_type}_constant")
            for attribute in node.attribute:
                for inner in tensors.graphs_of(attribute):
                    self.graph(inner, names)
            for name in node.output:
                if name and name not in names:
                    names[name] = self._fresh(node.op_type)
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
            node.name = ""
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = names.get(value.name, value.name)
        del graph.value_info[:]

    def _fresh(self, kind: str) -> str:
        while True:
            name = f"{kind}_{self._counts[kind]}"
            self._counts[kind] += 1
            if name not in self._taken:
                return name
