"""The `export` stage: the model's source gives an ONNX model, which is normalised and kept."""

from __future__ import annotations

from pathlib import Path

from onnxbuild.contracts import Json, Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.system.capture import listening

VERSION = 2
PRELOAD = "torch"
DISTRIBUTIONS: tuple[str, ...] = ("onnx",)
TRAITS = frozenset({Trait.GRAPH, Trait.MAKES})
FIELDS: dict[str, tuple[str, ...]] = {"source": ("model",), "export": ("export",), "symbolics": ("symbolics",)}


def run(task: Task) -> Outcome:
    """Export, check that what ran is what was asked, keep the graph. Raises StageError."""
    from onnxbuild.graphs import interface, modelfile, notes
    from onnxbuild.sources import SOURCES

    (name,) = task.options["source"]
    source = SOURCES[name]
    with listening(Path(task.root), source.NOISE) as warnings:
        exported = source.export(task)
    own = notes.of(exported.model) if exported.authored else notes.NONE
    graph, refs = modelfile.save(exported.model, exported.folder, Path(task.objects), own)
    signature = interface.signature(exported.model)
    asked = task.options["export"]
    got = interface.opset(exported.model)
    _require_opset(asked["opset"], got, exported.facts["exporter"])
    fixed = source.remarks(warnings)
    facts: dict[str, Json] = {
        **exported.facts,
        "notes": [*exported.facts.get("notes", []), *fixed],
        "fixed": fixed,
        "opset": got,
        "ir_version": exported.model.ir_version,
        **signature,
    }
    return Outcome({"graph": graph}, [graph, *refs], facts, list(warnings))


def _require_opset(asked: int, got: int | None, exporter: str) -> None:
    if got in (asked, None):
        return  # a graph of another domain's operators alone has no default operator set
    if exporter == "none":
        raise StageError(f"the model is of opset {got}, the recipe says {asked}", f"set export.opset to {got}")
    raise StageError(f"the {exporter} exporter gave opset {got}, asked for {asked}", f"set export.opset to {got}")
