"""Between numpy arrays and torch tensors, bfloat16 included. Imports torch at module level."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch


def to_torch(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """A tensor with the array's dtype, shape and values, in memory of its own."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """An array with the tensor's dtype, shape and values."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())
