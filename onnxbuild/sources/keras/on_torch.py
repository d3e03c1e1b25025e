"""A Keras model on the backend torch: a torch module, exported as one. Imports torch and Keras at module level.

Keras must run on torch here already. Knows no files and no factories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import torch

from onnxbuild.contracts import Arrays, Exported, Reference, Task
from onnxbuild.errors import StageError
from onnxbuild.sources.keras import calling, loading
from onnxbuild.sources.keras.calling import Call
from onnxbuild.sources.keras.variables import State
from onnxbuild.sources.pytorch import modules, numbers
from onnxbuild.sources.pytorch.adapter import Adapter

_STEPS = "under torch a recurrent layer is a loop over the example's steps: fix that axis, or use backend: tensorflow"


class Module(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """A Keras model as a torch module: the recipe's inputs by place, its outputs by name.

    Its variables are buffers of this module under their paths ("lstm/lstm_cell/kernel"), handed to Keras for the time of
    a call: Keras holds its tensors in a way in which torch.export knows them as nameless constants.
    """

    def __init__(self, model: Any, call: Call, outputs: Sequence[str], note: Callable[[str], None]) -> None:
        super().__init__()
        self._keras = (model,)  # in a tuple: it is no submodule, or torch.export would find all weights twice
        self._call, self._outputs, self._note = call, tuple(outputs), note
        self._names = [self._registered(variable) for variable in model.variables]

    def _registered(self, variable: Any) -> str:
        name: str = variable.path.replace(".", "_")
        while hasattr(self, name):  # two layers of one name
            name += "_"
        self.register_buffer(name, variable.value.detach())
        return name

    def forward(self, *flat: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Call the model for inference, its variables being this module's buffers; what it would change stays as it is."""
        (model,) = self._keras
        pairs = [(variable, getattr(self, name)) for variable, name in zip(model.variables, self._names, strict=True)]
        with keras.StatelessScope(state_mapping=pairs):
            result = calling.run(model, self._call, flat)
        return dict(zip(self._outputs, calling.selected(model, result, self._outputs, self._note), strict=True))


def export(model: Any, task: Task) -> Exported:
    """Export a model as the pytorch source exports its modules. Raises StageError."""
    options, notes = task.options["export"], list[str]()
    names, outputs = list(options["inputs"]), list(options["outputs"])
    with torch.no_grad():
        call = calling.planned(model, names, options.get("arguments"), notes.append)
        loading.build(model, call, options["inputs"], task)
        adapter = Adapter(Module(model, call, outputs, notes.append), names, outputs, {"args": names})
    try:
        return modules.export(adapter, notes, task)
    except StageError as error:
        if "Constraints violated" in error.fact and _is_recurrent(model):
            raise StageError(error.fact, _STEPS) from error
        raise


def reference(model: Any, task: Task) -> Reference:
    """The model itself, for inference and without gradients; what it changes of its variables stays changed."""
    inputs, outputs = task.options["inputs"], list(task.options["outputs"])
    with torch.no_grad():
        call = calling.planned(model, list(inputs), task.options.get("arguments"), lambda _: None)
        loading.build(model, call, inputs, task)

    def run(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            result = calling.run(model, call, [numbers.to_torch(arrays[name]) for name in call.names])
            made = calling.selected(model, result, outputs)
        return {name: numbers.to_numpy(tensor) for name, tensor in zip(outputs, made, strict=True)}

    return Reference(run, State(model).changed)


def _is_recurrent(model: Any) -> bool:
    """Whether a layer, however deep, goes over steps."""
    return any(isinstance(layer, keras.layers.RNN) for layer in model._flatten_layers())  # noqa: SLF001  # no public way
