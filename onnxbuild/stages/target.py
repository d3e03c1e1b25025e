"""The target stage: the final graph as the files that another runtime loads. Which targets there are, `targets` knows."""

from __future__ import annotations

from pathlib import Path

import msgspec

from onnxbuild.contracts import Outcome, Shapes, Task, Trait

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.MAKES, Trait.TARGETS})
FIELDS: dict[str, tuple[str, ...]] = {}


def run(task: Task) -> Outcome:
    """Build the target `task.options["target"]` from the graph, and keep its files, each an output by its own name.

    Facts: {"target": name, "runtime": what runs it, "files": [{"path": in the output folder, "sha256", "bytes"}],
    "notes"}. Raises StageError where the converter refuses.
    """
    from onnxbuild.store import objects
    from onnxbuild.targets import TARGETS

    name = task.options["target"]
    module = TARGETS[name]
    options = msgspec.convert(task.options["options"], module.Options)
    shapes = msgspec.convert(task.options.get("shapes", {}), Shapes)
    made, notes = module.build(Path(task.inputs["graph"]), options, Path(task.scratch), shapes)
    sizes = {file: path.stat().st_size for file, path in made.items()}
    outputs = {file: objects.add_file(Path(task.objects), path) for file, path in made.items()}
    files = [
        {"path": f"{name}/{file}", "sha256": objects.digest_of(ref), "bytes": sizes[file]}
        for file, ref in outputs.items()
    ]
    facts = {"target": name, "runtime": module.RUNTIME, "files": files, "notes": list(notes)}
    return Outcome(outputs, list(outputs.values()), facts)
