"""The model sources, by the name that a recipe's `model` section uses. To add one: a module here and a line below.

A source gives an ONNX model, and the outputs of the framework that it comes from. It knows no tolerance and no other source.
"""

from __future__ import annotations

from typing import Any, Protocol

from onnxbuild.contracts import SourceModule, Task
from onnxbuild.sources import keras, onnx, pytorch, sklearn, tensorflow

__all__ = ["PROGRAMS", "SOURCES", "factories", "failures", "installed", "lines"]

SOURCES: dict[str, SourceModule] = {
    "pytorch": pytorch,
    "onnx": onnx,
    "tensorflow": tensorflow,
    "keras": keras,
    "sklearn": sklearn,
}


class ProgramSource(Protocol):
    """A source whose models are torch modules: one that is in `PROGRAMS` too.

    `program` gives the model as a torch.export.ExportedProgram of the recipe's inputs in order and its outputs in order, at
    the sizes of `task.options["export"]["inputs"]`, with the axes that `dynamic_axes` has there left dynamic; the rest of
    that section is the recipe's. It raises StageError where torch.export can't.
    """

    def program(self, task: Task) -> Any: ...


PROGRAMS: dict[str, ProgramSource] = {"pytorch": pytorch}
