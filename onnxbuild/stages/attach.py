"""The attach stage: the exported graph with the steps before and after the model. Which steps there are, `steps` knows."""

from __future__ import annotations

from pathlib import Path

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.graphs import modelfile, notes

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("numpy", "onnx", "protobuf")
TRAITS = frozenset({Trait.GRAPH, Trait.MAKES})
FIELDS: dict[str, tuple[str, ...]] = {"prepend": ("prepend",), "append": ("append",)}


def run(task: Task) -> Outcome:
    """Add the steps to the graph, and keep the result. No weight is read. Raises StageError where a function of the recipe's
    does not fit the graph.
    """
    from onnxbuild.steps import attaching

    source = Path(task.inputs["graph"])
    model = modelfile.structure(source)
    attaching.attach(model, task.options["prepend"], task.options["append"])
    graph, refs = modelfile.save(model, source.parent, Path(task.objects), notes.of(model))
    return Outcome({"graph": graph}, [graph, *refs])
