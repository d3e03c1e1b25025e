"""Keras in this process, on the backend that a recipe asks for, and a model from a file or a factory.

Imports Keras inside functions, after the environment says which backend it is to take. Knows nothing of ONNX.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.sources import factories, failures, tf2onnx
from onnxbuild.sources.keras import calling
from onnxbuild.sources.keras.calling import Call

_LOADED: dict[bytes, Any] = {}  # by task: a process has one, and its stage asks several things of the model
_LACKING = re.compile(r"Could not locate (class|function) '([^']*)'")


def load(task: Task) -> Any:
    """The keras.Model that a recipe's `model.keras` section describes; the same one for the same task. Raises StageError.

    Two calls in two processes give two equal models: the random generators are seeded before a factory is called.
    """
    of = msgspec.json.encode(task)
    if of not in _LOADED:
        (options,) = task.options["source"].values()
        start(options["backend"])
        _LOADED[of] = _made(options, task)
    return _LOADED[of]


def _made(options: Mapping[str, Any], task: Task) -> Any:
    root = Path(task.root)
    if "model" in task.inputs:
        return _from_file(Path(task.inputs["model"]), options["custom_objects"], root)
    _seed(options.get("seed", 0), options["backend"])
    model = factories.call(options, root)
    import keras

    if not isinstance(model, keras.Model):
        raise StageError(
            f"the factory {options['factory']} gave {factories.article(type(model).__name__)}, not a keras.Model",
            "return a model of the package keras, version 3: Sequential, functional or a class of your own",
        )
    return model


def build(model: Any, call: Call, inputs: Mapping[str, Mapping[str, Any]], task: Task) -> None:
    """Call a model once with zeros, if it did not say what it takes: its variables are made then. Raises StageError.

    `inputs` are the recipe's. A file's weights are read again: Keras had no variables to put them into, and went on.
    """
    if calling.declared_inputs(model) is not None:
        return
    from keras import ops

    calling.run(model, call, [ops.zeros(spec["shape"], dtype=spec["dtype"]) for spec in inputs.values()])
    if "model" in task.inputs:
        path = Path(task.inputs["model"])
        try:
            model.load_weights(path)
        except Exception as error:
            raise failures.explain(error, f"the weights of {path.name} could not be loaded", Path(task.root)) from error


def start(backend: str) -> None:
    """Import Keras on a backend, and on the CPU. Raises StageError where it runs on another one already."""
    os.environ |= {"KERAS_BACKEND": backend, "KERAS_TORCH_DEVICE": "cpu"}
    if backend == "tensorflow":
        tf2onnx.tensorflow()
    import keras

    if keras.backend.backend() != backend:
        raise StageError(
            f"Keras runs on {keras.backend.backend()} here, and not on {backend}: something had imported it before",
            f"import keras in no sitecustomize and no .pth file, or set model.keras.backend to {keras.backend.backend()}",
        )


def _seed(value: int, backend: str) -> None:
    """Seed every generator that a model's initialisation may draw from.

    keras.utils.set_random_seed would import TensorFlow under either backend.
    """
    if backend == "torch":
        from onnxbuild.sources.pytorch import loading as torch_loading

        torch_loading.seed(value)
    else:
        tf2onnx.seed(value)


def _from_file(path: Path, names: list[str], root: Path) -> Any:
    import keras

    custom = _custom_objects(names, root)
    try:
        return keras.saving.load_model(path, custom_objects=custom, compile=False, safe_mode=True)
    except Exception as error:
        if lacking := _LACKING.search(str(error)):
            hint = f"name it, with its module, in custom_objects: ['module:{lacking[2].rpartition('>')[2]}']"
            fact = f"{path.name} has the {lacking[1]} '{lacking[2]}', which is not Keras's own"
            raise StageError(fact, hint) from error
        raise failures.explain(error, f"{path.name} could not be loaded", root) from error


def _custom_objects(names: list[str], root: Path) -> Mapping[str, Any]:
    """What the recipe names, by the names under which a file may know it."""
    import keras

    found = {}
    for name in names:
        thing = factories.import_callable(name, root)
        found[keras.saving.get_registered_name(thing)] = thing
        found.setdefault(getattr(thing, "__name__", name), thing)
    return found
