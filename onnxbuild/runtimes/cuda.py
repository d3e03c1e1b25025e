"""Memory of the first NVIDIA GPU, through the driver's own library: what a runtime needs that has no arrays of its own.

No package is needed beyond the driver. Knows no runtime. Source: the CUDA Driver API, cuda.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

from onnxbuild.errors import StageError
from onnxbuild.system import machine

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NONE_VISIBLE = ("; visible: ;", "; visible: -1;")


def missing() -> str:
    """Why no GPU can be used here, as far as the system tells without a call of the driver; "" where one may."""
    seen = machine.facets(["gpu"])["gpu"]
    return "no GPU" if seen == "none seen" or any(hidden in seen for hidden in _NONE_VISIBLE) else ""


class Device:
    """The first visible GPU, with a stream to run on."""

    def __init__(self) -> None:
        """Raises StageError where the driver does not work."""
        try:
            self._cuda = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise StageError(f"the GPU's driver can't be loaded: {error}") from error
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._do("cuInit", 0)
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._do("cuCtxSetCurrent", context)
        self._do("cuStreamCreate", ctypes.byref(stream), 0)
        self.stream: int = stream.value or 0

    @contextlib.contextmanager
    def memory(self, nbytes: int) -> Iterator[int]:
        """The address of so many bytes on the GPU, freed at the end."""
        address = ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(nbytes, 1)))
        try:
            yield address.value
        finally:
            self._do("cuMemFree_v2", address)

    def put(self, address: int, array: Any) -> None:
        """Copy a numpy array, in C order, to the GPU."""
        if array.nbytes:
            source = ctypes.c_void_p(array.ctypes.data)
            self._do("cuMemcpyHtoD_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes))

    def take(self, address: int, array: Any) -> None:
        """Copy from the GPU into a numpy array in C order."""
        if array.nbytes:
            dest = ctypes.c_void_p(array.ctypes.data)
            self._do("cuMemcpyDtoH_v2", dest, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes))

    def wait(self) -> None:
        """Until all that was put on the stream is done."""
        self._do("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def _do(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cuda, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(status, ctypes.byref(text))
            raise StageError(f"the GPU's driver refuses {function}: {(text.value or b'').decode() or status}")
