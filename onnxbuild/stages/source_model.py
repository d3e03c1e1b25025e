"""The source's own model, or a graph without steps, between the definitions of the recipe's steps. No kind of stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.contracts import Arrays, Json, Reference, Task
from onnxbuild.sources import SOURCES

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def reference(task: Task) -> Reference:
    """What computes the published outputs for the published inputs. Raises what the source raises.

    Where the task is about a graph that has something else around it than the source's model, the options "around" are
    the latter's.
    """
    from onnxbuild.steps import surrounding

    (name,) = task.options["source"]
    if "around" in task.options:
        task = msgspec.structs.replace(task, options={**task.options, **task.options["around"]})
    model = SOURCES[name].reference(_own(task))
    if "model" not in task.options:
        return model
    return msgspec.structs.replace(model, call=surrounding.call(model.call, task.options))


def caller(session: InferenceSession, options: Mapping[str, Json]) -> Callable[[Arrays], Arrays]:
    """A graph that onnxruntime has opened, called with the published inputs; one that is `bare` is between the steps'
    definitions, as the source's model is.
    """
    from onnxbuild.runtimes import onnxruntime
    from onnxbuild.steps import surrounding

    if not options.get("bare"):
        return onnxruntime.caller(session, options["outputs"])
    return surrounding.call(onnxruntime.caller(session, options["model"]["outputs"]), options)


def output_shapes(task: Task) -> Mapping[str, Sequence[int | str | None] | None]:
    """What the source says of the shapes of its own outputs by their published names, less those that steps take."""
    from onnxbuild.steps import surrounding

    (name,) = task.options["source"]
    said = SOURCES[name].output_shapes(_own(task))
    return {
        surrounding.output_called(task.options, output): shape
        for output, shape in said.items()
        if output not in task.options.get("append", {})
    }


def _own(task: Task) -> Task:
    """The task with the inputs, outputs and cases of the model itself."""
    from onnxbuild.steps import surrounding

    if "model" not in task.options:
        return task
    return msgspec.structs.replace(task, options={**task.options, **surrounding.of_model(task.options)})
