"""The `export` stage: the model's source gives an ONNX model, which is normalised and kept, and beside it its line map.

The map is an output of its own, which no stage takes: where lines alone moved, nothing after the export runs.
"""

from __future__ import annotations

from pathlib import Path

from onnxbuild.contracts import Json, Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.system.capture import listening

VERSION = 3
PRELOAD = "torch"
DISTRIBUTIONS: tuple[str, ...] = ("onnx",)
TRAITS = frozenset({Trait.GRAPH, Trait.MAKES})
FIELDS: dict[str, tuple[str, ...]] = {"source": ("model",), "export": ("export",), "symbolics": ("symbolics",)}


def run(task: Task) -> Outcome:
    """Export, check that what ran is what was asked, keep the graph and its line map. Raises StageError."""
    from onnxbuild.graphs import interface, modelfile, notes
    from onnxbuild.graphs import lines as line_maps
    from onnxbuild.sources import SOURCES, lines
    from onnxbuild.store import objects

    (name,) = task.options["source"]
    source = SOURCES[name]
    with listening(Path(task.root), source.NOISE) as warnings:
        exported = source.export(task)
    own = notes.of(exported.model) if exported.authored else notes.NONE
    exporter = exported.facts["exporter"]
    found = lines.of(exported.model, exporter, Path(task.root), authored=exported.authored)  # before the notes go
    graph, refs = modelfile.save(exported.model, exported.folder, Path(task.objects), own)
    noted = objects.add_bytes(Path(task.objects), line_maps.to_json(found))
    signature = interface.signature(exported.model)
    asked = task.options["export"]
    got = interface.opset(exported.model)
    _require_opset(asked["opset"], got, exporter)
    fixed = source.remarks(warnings)
    facts: dict[str, Json] = {
        **exported.facts,
        "notes": [*exported.facts.get("notes", []), *fixed],
        "fixed": fixed,
        "opset": got,
        "ir_version": exported.model.ir_version,
        **signature,
    }
    return Outcome({"graph": graph, "lines": noted}, [graph, *refs, noted], facts, list(warnings))


def _require_opset(asked: int, got: int | None, exporter: str) -> None:
    if got in (asked, None):
        return  # a graph of another domain's operators alone has no default operator set
    if exporter == "none":
        raise StageError(f"the model is of opset {got}, the recipe says {asked}", f"set export.opset to {got}")
    raise StageError(f"the {exporter} exporter gave opset {got}, asked for {asked}", f"set export.opset to {got}")
