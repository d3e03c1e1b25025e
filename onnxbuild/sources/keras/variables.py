"""What of a Keras model its own `call` changes: its variables, on whatever backend. Knows nothing of recipes."""

from __future__ import annotations

import hashlib
from typing import Any


class State:
    """A model's variables at one moment, with which those of a later one are compared."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._before = self._digests()

    def changed(self) -> list[str]:
        """What is other than it was, in words: "the variable 'lstm/rnn_states/0'"."""
        return [
            f"the variable '{path}'" for path, digest in self._digests().items() if self._before.get(path) != digest
        ]

    def _digests(self) -> dict[str, str]:
        from keras import ops

        found: dict[str, str] = {}
        for variable in self._model.variables:
            content = ops.convert_to_numpy(variable.value).tobytes()
            found[f"{variable.path}"] = found.get(variable.path, "") + hashlib.sha256(content).hexdigest()
        return found
