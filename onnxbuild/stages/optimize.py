"""The optimize stage: one optimizer pass over a graph of the store. Which passes there are, `passes` knows."""

from __future__ import annotations

from pathlib import Path

import msgspec

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.graphs import modelfile
from onnxbuild.passes import PASSES
from onnxbuild.system.capture import listening, printing, scrub

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.MAKES})
FIELDS: dict[str, tuple[str, ...]] = {}


def run(task: Task) -> Outcome:
    """Run the pass `task.options["pass"]` with its options on the graph, and keep the result.

    Facts: {"pass": name, "notes": [sentences for the report], "modified": whether the graph differs from the one
    before}. Raises StageError where the library refuses.
    """
    name = task.options["pass"]
    module = PASSES[name]
    options = msgspec.convert(task.options["options"], module.Options)
    source, scratch, root = Path(task.inputs["graph"]), Path(task.scratch), Path(task.root)
    with listening(root) as warnings, printing(scratch / "said") as said:
        model, folder = module.run(source, options, scratch)
    graph, refs = modelfile.save(model, folder, Path(task.objects))
    return Outcome(
        outputs={"graph": graph},
        objects=[graph, *refs],
        facts={"pass": name, "notes": list(module.notes(options)), "modified": graph != source.name},
        warnings=list(dict.fromkeys([*warnings, *(scrub(line, root) for line in said)])),
    )
