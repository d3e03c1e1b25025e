"""Where nodes come from: the module's scope and the line of Python, as the exporter noted both, kept beside a graph.

A graph itself holds none of it, since a comment above a line would make it another graph. Passes rename, merge and drop
nodes; `Lines` has the one rule by which a node of a later graph is traced back. Knows no exporter and no store.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from onnxbuild.graphs import tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# What torch's dynamo exporter notes on a node, and ours on those of the TorchScript one: a list of names, the node's own
# last, and the frames of Python, as text.
SCOPES = "pkg.torch.onnx.name_scopes"
STACK = "pkg.torch.onnx.stack_trace"
NO_SCOPE = "_empty_nn_module_stack_from_metadata_hook"  # torch.fx's word for what no module does, such as sizes


class Noted(Struct, frozen=True, omit_defaults=True):
    """What is known of an exported node: the dotted or slashed scope of its module, and "models/net.py:12"."""

    op: str  # with its domain where that is not the default one
    outputs: list[str]
    scope: str = ""
    place: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.scope, self.place)))


class LineMap(Struct, frozen=True):
    """The sidecar of an exported graph: its nodes of which anything is known, in the graph's order."""

    exporter: str
    nodes: list[Noted]


def to_json(found: LineMap) -> bytes:
    """The same bytes for the same map."""
    return msgspec.json.encode(found, order="deterministic")


def from_json(data: bytes) -> LineMap:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=LineMap)


def op(node: NodeProto) -> str:
    """An operator's name, with its domain where that is not the default one."""
    return str(node.op_type) if tensors.is_standard(node.domain) else f"{node.domain}::{node.op_type}"


def note(node: NodeProto, key: str) -> str:
    """A note on a node, "" where there is none."""
    return next((str(entry.value) for entry in node.metadata_props if entry.key == key), "")


def scope(node: NodeProto) -> str:
    """The scope of the module that a node is from, by the exporter's note or the node's name; "" where neither tells."""
    if noted := note(node, SCOPES):
        return _innermost(noted)
    name = node.name.strip("/")
    return str(name.rpartition("/")[0])


def _innermost(noted: str) -> str:
    try:
        names = ast.literal_eval(noted)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    inner = [name for name in names[:-1] if isinstance(name, str) and name] if isinstance(names, list) else []
    return inner[-1] if inner and inner[-1] != NO_SCOPE else ""


class Lines:
    """Traces the nodes of a graph back to those that were exported.

    A node stands for the exported node that made the value which it makes, where that name is in every graph between; and
    for those before it up to the values that it takes itself, where all of these are known so too: they were merged into
    it. A node whose values got other names stands for none, unless two graphs differ in nothing but names. Names that two
    exported nodes make are not gone by.
    """

    def __init__(self, found: LineMap, chain: Sequence[ModelProto]) -> None:
        """`chain` are the exported graph, those of the passes after it, and last the one that is asked about."""
        self.exporter = found.exporter
        noted = {one.outputs[0]: one for one in found.nodes if one.outputs}
        self._inputs: dict[str, list[str]] = {}  # of exported nodes, by each value that they make
        self._noted: dict[str, Noted] = {}
        twice: set[str] = set()
        now = _names_now(chain)
        for node in _nodes(chain[0]):
            own = [name for name in node.output if name]
            known = noted.get(own[0]) if own else None
            for name in own:
                called = now[0][name]
                twice |= {called} & self._inputs.keys()
                self._inputs[called] = [now[0][value] for value in node.input if value in now[0]]
                self._noted[called] = known or Noted(op(node), own)
        self._kept = set.intersection(*({*names.values()} for names in now)) - twice

    def of(self, node: NodeProto) -> list[Noted]:
        """The exported nodes that a node of the last graph stands for: the one that made its value first."""
        made = next((name for name in node.output if name in self._kept and name in self._noted), "")
        return [self._noted[made], *self._merged(made, {*node.input})] if made else []

    def best(self, node: NodeProto) -> Noted | None:
        """Of these the one that does what the node does, else the first of which anything is known; None for none."""
        known = [one for one in self.of(node) if one.scope or one.place]
        return next((one for one in known if one.op == op(node)), next(iter(known), None))

    def _merged(self, made: str, taken: set[str]) -> list[Noted]:
        found: dict[int, Noted] = {}
        left, ends = [*self._inputs[made]], set()
        seen = set(left)
        while left:
            name = left.pop()
            if name in self._kept:
                ends.add(name)
            elif name in self._noted:
                one = self._noted[name]
                if one.op != "Constant" and one is not self._noted[made]:
                    found[id(one)] = one
                left += [value for value in self._inputs[name] if value not in seen]
                seen.update(self._inputs[name])
        return [*found.values()] if ends and ends <= taken else []


def _names_now(chain: Sequence[ModelProto]) -> list[dict[str, str]]:
    """Of each graph the values, weights left out, by their names: what they are called in the last graph. A value that is
    gone by then has a name that none there has.
    """
    now = {name: name for name in _values(chain[-1])}
    found = [now]
    for before, after in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
        renamed = _renamed(before, after)
        now = {name: now.get(renamed.get(name, name), f"\0{name}") for name in _values(before)}
        found.insert(0, now)
    return found


def _renamed(before: ModelProto, after: ModelProto) -> dict[str, str]:
    """The values that have another name in a graph which is the same but for names, and for Identities that it has more;
    {} where it is another graph.
    """
    pairs = [(one.name, other.name) for one, other in zip(before.graph.input, after.graph.input, strict=False)]
    bodies = [*tensors.bodies(before)], [*tensors.bodies(after)]
    if len(bodies[0]) != len(bodies[1]) or len(before.graph.input) != len(after.graph.input):
        return {}
    for one, other in zip(*bodies, strict=True):
        more = other.node[len(one.node) :]
        if len(other.node) < len(one.node) or any(node.op_type != "Identity" for node in more):
            return {}
        for old, new in zip(one.node, other.node, strict=False):
            ends = (*old.input, "", *old.output), (*new.input, "", *new.output)
            if op(old) != op(new) or len(old.input) != len(new.input) or len(ends[0]) != len(ends[1]):
                return {}
            pairs += zip(*ends, strict=True)
    weights = {tensor.name for tensor in after.graph.initializer}
    found = dict(pairs)
    one_to_one = all(found[old] == new for old, new in pairs) and len({*found.values()}) == len(found)
    if not one_to_one or any(old != new and {old, new} <= weights for old, new in pairs):
        return {}
    return {old: new for old, new in found.items() if old != new}


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for body in tensors.bodies(model):
        yield from body.node


def _values(model: ModelProto) -> set[str]:
    """The values that nodes make, and those that are given."""
    weights = {tensor.name for tensor in model.graph.initializer}
    given: set[Any] = {value.name for value in model.graph.input} - weights
    return given.union(*(node.output for node in _nodes(model))) - {""}
