"""What of a Keras model its own `call` changes: its variables, on whatever backend. Knows nothing of recipes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any


class State:
    """A model's variables at one moment, with which those of a later one are compared."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._before = dict(self._digests())

    def changed(self) -> list[str]:
        """What is other than it was, in words: "the variable 'lstm.states'"."""
        now = dict(self._digests())
        return [f"the variable '{name}'" for name, digest in now.items() if self._before.get(name) != digest]

    def _digests(self) -> Iterator[tuple[str, str]]:
        """The content of every variable, by its path, or by its place where the model does not count it among its own."""
        from keras import Variable, ops, tree

        counted = {id(variable) for variable in self._model.variables}
        named = [(variable.path, variable) for variable in self._model.variables]
        for layer in self._model._flatten_layers():  # noqa: SLF001  # there is no public way to all of them
            for name, value in vars(layer).items():
                leaves = tree.flatten(value) if isinstance(value, list | tuple | dict) else [value]
                for number, one in enumerate(leaves):  # as the states of a recurrent layer
                    if isinstance(one, Variable) and id(one) not in counted:
                        counted.add(id(one))
                        named.append((f"{layer.path}.{name}[{number}]", one))
        for number, (name, variable) in enumerate(named):
            content = ops.convert_to_numpy(variable.value).tobytes()
            again = any(other == name for other, _ in named[:number])
            yield f"{name} #{number}" if again else name, hashlib.sha256(content).hexdigest()
