"""Runs the export and reference stages on the tiny torch models, each combination once per session."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from onnxbuild.contracts import Outcome, Task

PROJECT = Path(__file__).resolve().parent.parent / "sources" / "pytorch" / "project"


@dataclass
class Torch:
    """A torch model with its recipe's sections, and what the stages make of it."""

    folder: Path
    factory: str
    inputs: dict[str, Any]
    outputs: list[str]
    axes: dict[str, dict[str, str]] = field(default_factory=dict)
    dims: dict[str, Any] = field(default_factory=dict)
    exporter: str = "dynamo"
    opset: int = 18
    symbolics: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] | None = None
    source: dict[str, Any] = field(default_factory=dict)
    root: Path = PROJECT
    files: dict[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    def _task(self, kind: str, options: dict[str, Any]) -> Task:
        source = {"pytorch": {"factory": self.factory, "kwargs": {}, "seed": 0, **self.source}}
        scratch = next(
            self.folder / f"scratch-{n}" for n in itertools.count() if not (self.folder / f"scratch-{n}").exists()
        )
        scratch.mkdir(parents=True)
        if self.arguments:
            options = {**options, "arguments": self.arguments}
        if kind == "export":
            options = {"export": options, "symbolics": self.symbolics}
        return Task(
            kind, kind, {"source": source, **options}, self.files, str(self.root), str(self.objects), str(scratch)
        )

    def export(self) -> Outcome:
        from onnxbuild.stages import export

        options = {"inputs": self.inputs, "outputs": self.outputs, "exporter": self.exporter, "opset": self.opset}
        return export.run(self._task("export", {**options, "dynamic_axes": self.axes, "dims": self.dims}))

    def reference(self, *cases: dict[str, Any]) -> Outcome:
        from onnxbuild.stages import reference

        options = {"inputs": self.inputs, "outputs": self.outputs, "cases": list(cases), "seed": 0}
        return reference.run(self._task("reference", options))

    def path(self, outcome: Outcome) -> Path:
        return self.objects / outcome.outputs["graph"]

    def difference(self, exported: Outcome, *cases: dict[str, Any]) -> float:
        """The largest difference between onnxruntime and the reference over cases and outputs; shapes must agree."""
        import numpy as np
        import onnxruntime

        from onnxbuild.parity import arrays, samples

        reference = self.reference(*cases)
        wanted = arrays.read(self.objects / reference.outputs["reference"])
        session = onnxruntime.InferenceSession(str(self.path(exported)), providers=["CPUExecutionProvider"])
        worst = 0.0
        for one in cases:
            given = samples.make(self.inputs, one, 0, self.root)
            for name, got in zip(self.outputs, session.run(self.outputs, given), strict=True):
                want = wanted[f"{one['name']}/{name}"]
                assert got.shape == want.shape
                assert got.dtype == want.dtype
                worst = max(worst, float(np.abs(got.astype("f8") - want.astype("f8")).max(initial=0)))
        return worst


@pytest.fixture
def torch_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a `Torch` in a folder of its own: torch_model("nets:Conv", inputs, outputs, ...)."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    numbers = itertools.count()

    def make(*arguments: Any, **keywords: Any) -> Torch:
        return Torch(tmp_path / f"{next(numbers)}", *arguments, **keywords)

    return make
