"""The nodes of a graph that a lossy pass would change: what `tune` chooses from. Runs no pass."""

from __future__ import annotations

import msgspec

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.graphs import modelfile
from onnxbuild.passes import PASSES, excluding

VERSION = 2
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS: frozenset[Trait] = frozenset()
FIELDS: dict[str, tuple[str, ...]] = {}


def run(task: Task) -> Outcome:
    """Facts: `nodes`, by the name that the pass's options list them by, each with its operator, in the graph's order.

    Raises StageError where the options list a node that isn't there.
    """
    name = task.options["pass"]
    options = msgspec.convert(task.options["options"], PASSES[name].Options)
    found = excluding.candidates(name, options, modelfile.structure(task.inputs["graph"]))
    return Outcome(facts={"nodes": [[node, operator] for node, operator in found.items()]})
