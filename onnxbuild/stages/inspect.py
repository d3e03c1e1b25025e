"""The `inspect` stage: what a recipe for a model should say, found out by its source. It is in no plan: `init` runs it."""

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
    """Ask the model's source; the facts are an `Inspection` as JSON. Raises StageError."""
    from onnxbuild.sources import SOURCES

    (name,) = task.options["source"]
    source = SOURCES[name]
    with listening(Path(task.root), source.NOISE):
        inspection = source.inspect(task)
    return Outcome(facts=msgspec.to_builtins(inspection))
