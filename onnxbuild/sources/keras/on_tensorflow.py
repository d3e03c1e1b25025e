"""A Keras model on the backend tensorflow: traced as a tf.function, and converted by tf2onnx.

Imports TensorFlow at module level; Keras must run on TensorFlow here already. Knows no files and no factories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from onnxbuild.contracts import Arrays, Exported, Json, Reference, Task
from onnxbuild.sources import failures, tf2onnx
from onnxbuild.sources.keras import calling, loading
from onnxbuild.sources.keras.variables import State


def export(model: Any, task: Task) -> Exported:
    """Convert a model by tf2onnx. Raises StageError."""
    options, notes = task.options["export"], list[str]()
    names, outputs = list(options["inputs"]), list(options["outputs"])
    call = calling.planned(model, names, options.get("arguments"), notes.append)
    loading.build(model, call, options["inputs"], task)

    def function(*tensors: Any) -> tuple[Any, ...]:
        made = calling.selected(model, calling.run(model, call, tensors), outputs, notes.append)
        return tuple(map(tf.identity, made))  # an input that is an output, too, is another tensor then

    try:
        proto = tf2onnx.convert(function, _signature(options), names, outputs, options["opset"], holder=model)
    except Exception as error:
        raise failures.explain(error, "the tf2onnx exporter failed", Path(task.root), names) from error
    notes += tf2onnx.name_axes(proto, options)
    facts: dict[str, Json] = {"exporter": options["exporter"], "notes": list(dict.fromkeys(notes))}
    return Exported(proto, None, facts)


def reference(model: Any, task: Task) -> Reference:
    """The model itself, for inference; what it changes of its variables stays changed."""
    inputs, outputs = task.options["inputs"], list(task.options["outputs"])
    call = calling.planned(model, list(inputs), task.options.get("arguments"), lambda _: None)
    loading.build(model, call, inputs, task)

    def run(arrays: Arrays) -> Arrays:
        result = calling.run(model, call, [tf.constant(arrays[name]) for name in call.names])
        made = calling.selected(model, result, outputs)
        return {name: tf.convert_to_tensor(tensor).numpy() for name, tensor in zip(outputs, made, strict=True)}

    return Reference(run, State(model).changed)


def _signature(options: Mapping[str, Any]) -> list[Any]:
    """A tf.TensorSpec for each input of the recipe, without a size on its dynamic axes."""
    specs: list[Any] = []
    for name, spec in options["inputs"].items():
        dynamic = options.get("dynamic_axes", {}).get(name, {})
        shape = [None if str(axis) in dynamic else size for axis, size in enumerate(spec["shape"])]
        specs.append(tf.TensorSpec(shape, spec["dtype"], name=f"input_{len(specs)}"))
    return specs
