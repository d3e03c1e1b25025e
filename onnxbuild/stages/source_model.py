"""The source's own model, with the definitions of the recipe's steps around it where there are some. No kind of stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from onnxbuild.contracts import Reference, Task
from onnxbuild.sources import SOURCES


def reference(task: Task) -> Reference:
    """What computes the published outputs for the published inputs. Raises what the source raises."""
    from onnxbuild.steps import surrounding

    (name,) = task.options["source"]
    model = SOURCES[name].reference(_own(task))
    if "model" not in task.options:
        return model
    return msgspec.structs.replace(model, call=surrounding.call(model.call, task.options))


def output_shapes(task: Task) -> Mapping[str, Sequence[int | str | None] | None]:
    """What the source says of the shapes of its own outputs, less those that steps take."""
    (name,) = task.options["source"]
    said = SOURCES[name].output_shapes(_own(task))
    return {output: shape for output, shape in said.items() if output not in task.options.get("append", {})}


def _own(task: Task) -> Task:
    """The task with the inputs, outputs and cases of the model itself."""
    from onnxbuild.steps import surrounding

    if "model" not in task.options:
        return task
    return msgspec.structs.replace(task, options={**task.options, **surrounding.of_model(task.options)})
