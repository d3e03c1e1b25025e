"""The `describe` stage: what a model says of its own inputs and outputs, asked before there is anything to plan.

It is in no plan: what a recipe leaves out is asked where the recipe is read, see `queries.describing`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.system.capture import listening

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ()
TRAITS: frozenset[Trait] = frozenset()
FIELDS: dict[str, tuple[str, ...]] = {"source": ("model",)}


def run(task: Task) -> Outcome:
    """Ask the model's source; the facts are an `Interface` as JSON. Raises StageError where it says nothing."""
    from onnxbuild.sources import SOURCES

    (name,) = task.options["source"]
    source = SOURCES[name]
    with listening(Path(task.root), source.NOISE):
        interface = source.describe(task)
    return Outcome(facts=msgspec.to_builtins(interface))
