"""A target's files, opened by the runtime that it names: what the stages share that run them. No kind of stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Arrays, Opened, RuntimeModule, Task
from onnxbuild.graphs import modelfile
from onnxbuild.runtimes import RUNTIMES
from onnxbuild.stages import package
from onnxbuild.targets import TARGETS

if TYPE_CHECKING:
    import numpy as np


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


def retyped(
    opened: Opened, reference: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[Callable[[Arrays], Arrays], list[str]]:
    """A call that gives results in the dtypes of the reference, where those hold their values; the list is filled with a
    note on each such output once it is met.
    """
    import numpy as np

    dtypes = {key.rpartition("/")[2]: array.dtype for key, array in reference.items()}
    notes: list[str] = []

    def call(feed: Arrays) -> Arrays:
        results = opened.call(feed)
        for name, array in results.items():
            with np.errstate(all="ignore"):
                other = array.astype(dtypes[name])
            if array.dtype != other.dtype and np.array_equal(other.astype(array.dtype), array):
                results[name] = other
                note = f"output '{name}' comes out as {array.dtype.name}, the model's is {other.dtype.name}"
                notes.extend([note] if note not in notes else [])
        return results

    return call, notes
