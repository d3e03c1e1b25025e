"""The passes that cost precision: which of their options lists nodes to leave as they are, and which nodes they touch.

Which of those should be listed is for others to find out. Runs no pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

from onnxbuild.graphs import nodes, tensors

if TYPE_CHECKING:
    from onnx import ModelProto


class Excluding(Struct, frozen=True):
    """`option` lists the nodes that stay, `only` those that alone do not, "" where there is none.

    `operators` are the op types that the pass changes under its options; with a "not" first, those that it leaves.
    """

    option: str
    only: str
    operators: Callable[[Any], Collection[str]]
    others: bool = False  # `operators` are those that stay
    stay: Callable[[ModelProto], Collection[str]] = lambda _: ()  # nodes that do so whatever the options say, by name


def _dynamic(options: Any) -> Collection[str]:
    from onnxruntime.quantization import registry

    return options.op_types_to_quantize or list(registry.IntegerOpsRegistry)


def _static(options: Any) -> Collection[str]:
    from onnxruntime.quantization import registry

    known = registry.QDQRegistry if options.quant_format == "QDQ" else registry.QLinearOpsRegistry
    return options.op_types_to_quantize or list(known)


def _blocks(options: Any) -> Collection[str]:
    found: Collection[str] = options.op_types_to_quantize
    return found


def _halves(options: Any) -> Collection[str]:
    from onnxruntime.transformers import float16

    blocked = float16.DEFAULT_OP_BLOCK_LIST if options.op_block_list is UNSET else options.op_block_list
    return {*blocked, "Constant"}


def _float32_only(model: ModelProto) -> Collection[str]:
    from onnxbuild.passes.float16 import refusing

    return refusing.float32_only(model)


EXCLUDING: dict[str, Excluding] = {
    "float16": Excluding("node_block_list", "", _halves, others=True, stay=_float32_only),
    "quantize_static": Excluding("nodes_to_exclude", "nodes_to_quantize", _static),
    "quantize_dynamic": Excluding("nodes_to_exclude", "nodes_to_quantize", _dynamic),
    "quantize_4bit": Excluding("nodes_to_exclude", "nodes_to_include", _blocks),
}


def touched(name: str, options: Any) -> list[str]:
    """The operators that a quantizer changes under its options, sorted."""
    return sorted(EXCLUDING[name].operators(options))


def candidates(name: str, options: Any, model: ModelProto) -> dict[str, str]:
    """The nodes that a pass would change in a graph, by the name that its options list them by, each with its operator.

    In the graph's order. A node without a name of its own goes by the one that every pass gives it: that of the first value
    that it makes, with a number where another node has that name.
    """
    one = EXCLUDING[name]
    nodes.ensure_names(model)
    listed = {*nodes.require(model, {"": getattr(options, one.option)})[""], *one.stay(model)}
    only = nodes.require(model, {"": getattr(options, one.only)})[""] if one.only else []
    operators = {*one.operators(options)}
    found = {}
    for graph in tensors.graphs(model):
        for node in graph.node:
            touched = (node.op_type in operators) != one.others and node.name not in listed
            bodied = bool(tensors.within(node))  # computes nothing itself
            if touched and not bodied and (not only or node.name in only):
                found[node.name] = node.op_type
    return found
