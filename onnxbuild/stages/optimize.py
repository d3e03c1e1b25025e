"""The optimize stage: one optimizer pass over a graph of the store. Which passes there are, `passes` knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.graphs import modelfile, notes
from onnxbuild.passes import PASSES, Beside
from onnxbuild.system.capture import listening, printing, scrub
from onnxbuild.text import units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto

    from onnxbuild.contracts import Arrays

VERSION = 1
LARGER = 20  # one part of so many is worth a note
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.GRAPH, Trait.MAKES})
FIELDS: dict[str, tuple[str, ...]] = {
    "inputs": ("export", "inputs"),
    "cases": ("export", "dims"),
    "seed": ("parity", "seed"),
}


def run(task: Task) -> Outcome:
    """Run the pass `task.options["pass"]` with its options on the graph, and keep the result.

    Facts: {"pass": name, "notes": [sentences for the report], "modified": whether the graph differs from the one
    before}. Raises StageError where the library refuses.
    """
    name = task.options["pass"]
    module = PASSES[name]
    options = msgspec.convert(task.options["options"], module.Options)
    source, scratch, root = Path(task.inputs["graph"]), Path(task.scratch), Path(task.root)
    beside = Beside(lambda: _feeds(task))
    with listening(root) as warnings, printing(scratch / "said") as said:
        model, folder = module.run(source, options, _empty(scratch), beside)
    before = modelfile.structure(source)
    graph, refs = modelfile.save(model, folder, Path(task.objects), notes.of(before))
    return Outcome(
        outputs={"graph": graph},
        objects=[graph, *refs],
        facts={
            "pass": name,
            "notes": [*module.notes(options), *beside.notes, *_told(before, model)],
            "modified": graph != source.name,
        },
        warnings=list(dict.fromkeys([*warnings, *(scrub(line, root) for line in said)])),
    )


def _empty(scratch: Path) -> Path:
    """A folder in which nothing lies: libraries append to files that they find."""
    folder = scratch / "pass"
    folder.mkdir()
    return folder


def _feeds(task: Task) -> Iterator[Arrays]:
    """The data that the pass's options name, else the recipe's own cases, in order; none for a pass that takes no data."""
    from onnxbuild.parity import datasets, samples
    from onnxbuild.sources import factories

    options, root = task.options, Path(task.root)
    if data := options["options"].get("data") if "cases" not in options and "inputs" in options else None:
        yield from datasets.feeds(data, options["inputs"], task.inputs, lambda named: factories.samples(named, root))
        return
    for case in options.get("cases", []):
        if not case.get("optional"):  # the model itself may fail there
            yield samples.make(options["inputs"], case, options["seed"], root)


def _told(before: ModelProto, after: ModelProto) -> list[str]:
    """What of the author's the pass dropped, and whether it made the model larger; both are in the store's form."""
    was, now = modelfile.standalone_bytes(before), modelfile.standalone_bytes(after)
    larger = [f"made the model larger: {units.size(was)} -> {units.size(now)}"] if now > was + was // LARGER else []
    return [*notes.changes(before, after), *larger]
