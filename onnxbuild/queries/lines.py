"""Where the nodes of a built graph come from: the line map beside the exported one, followed through the passes.

The graphs are read from the store; imports onnx.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.graphs import lines, modelfile, tensors
from onnxbuild.graphs.lines import Lines

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnxbuild.contracts import Outcome
    from onnxbuild.store.interface import Store

# How messages, onnxruntime's own among them, name a node.
NAMED = re.compile(r"(?:\bnode |\bnode with name |\bName: ?)'([^'\n]+)'")


def traced(store: Store, outcomes: Iterable[Outcome]) -> tuple[ModelProto, Lines] | None:
    """The last graph that these stages gave, and what traces its nodes back; None where the store lacks any of it.

    `outcomes` are those of a recipe's stages in their order, up to the one whose graph is asked about.
    """
    from google.protobuf.message import DecodeError

    made = [outcome.outputs for outcome in outcomes if "graph" in outcome.outputs]
    if not made or "lines" not in made[0]:
        return None
    try:
        found = lines.from_json(store.path(made[0]["lines"]).read_bytes())
        chain = [modelfile.structure(store.path(ref)) for ref in dict.fromkeys(one["graph"] for one in made)]
        last = modelfile.structure(store.path(made[-1]["graph"]))
    except (OSError, DecodeError, msgspec.DecodeError):  # lost or damaged: what is asked is no reason to build anything
        return None
    return last, Lines(found, chain)


def told(text: str, graph: ModelProto, known: Lines) -> str:
    """A message with the scope and the line of each node that it names, as far as they are known."""
    nodes = {node.name: node for body in tensors.bodies(graph) for node in body.node if node.name}

    def placed(found: re.Match[str]) -> str:
        one = known.best(nodes[found[1]]) if found[1] in nodes else None
        return f"{found[0]} ({one})" if one else found[0]

    return NAMED.sub(placed, text)
