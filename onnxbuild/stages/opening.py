"""A target's files, opened by the runtime that it names: what the stages share that run them. No kind of stage."""

from __future__ import annotations

import shutil
from pathlib import Path

from onnxbuild.contracts import Opened, RuntimeModule, Task
from onnxbuild.graphs import modelfile
from onnxbuild.runtimes import RUNTIMES
from onnxbuild.stages import package
from onnxbuild.targets import TARGETS


def runtime(task: Task) -> RuntimeModule:
    """What runs the target `task.options["target"]`."""
    return RUNTIMES[TARGETS[task.options["target"]["name"]].RUNTIME]


def opened(task: Task) -> Opened:
    """The target's files, opened. The first one has the role `graph`, each other its own name. Raises StageError."""
    folder = Path(task.scratch) / "target"
    if not task.options["target"]["files"]:  # it loads the published model
        modelfile.write(Path(task.inputs["graph"]), folder / package.MODEL, **task.options["target"]["published"])
        return runtime(task).open(folder, task.options["runtime"], task.options["outputs"])
    first, *others = task.options["target"]["files"]
    for file, role in {first: "graph", **{file: file for file in others}}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(task.inputs[role], folder / file)
    return runtime(task).open(folder, task.options["runtime"], task.options["outputs"])
