"""What of a model its own `forward` changes: buffers, and attributes that hold tensors or plain values.

Imports torch at module level; knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

_OWN = frozenset(vars(torch.nn.Module()))  # what every module has, its parameters and buffers among them
_PLAIN = (bool, int, float, str, type(None))


class State:
    """A model's state at one moment, with which that of a later one is compared."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._buffers = {name: (buffer, buffer.detach().clone()) for name, buffer in model.named_buffers()}
        self._attributes = {name: (value, _version(value)) for name, value in _attributes(model)}

    def changed(self) -> list[str]:
        """What is other than it was, in words: "the buffer 'h'"."""
        found = []
        for name, buffer in self._model.named_buffers():
            _, before = self._buffers.get(name, (None, None))
            if before is None or not _equal(buffer, before):
                found.append(f"the buffer '{name}'")
        for name, value in _attributes(self._model):
            before, version = self._attributes.get(name, (None, None))
            same = value is before or (isinstance(value, _PLAIN) and value == before)
            if not same or _version(value) != version:
                found.append(f"the attribute '{name}'")
        return found


def _attributes(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Tensors and plain values that lie in a model's modules besides parameters and buffers, by dotted name."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, value in vars(module).items():
            if name not in _OWN and isinstance(value, (torch.Tensor, *_PLAIN)):
                yield f"{path}.{name}" if path else name, value


def _version(value: Any) -> int:
    """How often a tensor was written in place."""
    return value._version if isinstance(value, torch.Tensor) and not value.is_inference() else 0  # noqa: SLF001


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(torch.equal(one, other) or torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True))
