"""Engines of TensorRT and TensorRT-RTX on the first GPU. Knows nothing of how an engine was built.

Where there is no GPU nothing here runs: `missing` says so, and the report says "built, not run".
"""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from onnxbuild.contracts import Opened
from onnxbuild.errors import StageError
from onnxbuild.runtimes import cuda

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays, Json

DISTRIBUTIONS: tuple[str, ...] = ("tensorrt-rtx-cu13", "tensorrt-rtx-cu13-libs", "tensorrt")
FACETS: tuple[str, ...] = ("system", "gpu")
BOUNDS = ""
PACKAGES = {"rtx": "tensorrt_rtx", "classic": "tensorrt"}


def missing(root: Path) -> str:  # noqa: ARG001  # the protocol's
    """That there is no GPU, where there is none."""
    return cuda.missing()


def open(folder: Path, runtime: Json, outputs: list[str]) -> Opened:  # noqa: A001, ARG001  # the protocol's
    """The engine in a target's folder, ready to run; `refused` where it was built for other GPUs than this machine's.

    Raises StageError where it can't be loaded for any other reason.
    """
    about = msgspec.json.decode((folder / "model.json").read_bytes())
    trt = importlib.import_module(PACKAGES[about["flavor"]])
    device = cuda.Device()
    log = logger(trt)
    engine = trt.Runtime(log).deserialize_cuda_engine((folder / "model.engine").read_bytes())
    if engine is None:
        said = " ".join(log.errors)
        if found := re.search(r"cannot run on this GPU, which has compute capability ([\d.]+)", said):
            named = ", ".join(about["compute_capabilities"]) or "TensorRT's default compute capabilities"
            why = f"the engine was built for {named}, and this machine's GPU is of {found[1]}"
            return Opened(dict, [], refused=why)
        fact = f"TensorRT {trt.__version__} can't load the engine: {said}"
        raise StageError(fact, "hide the GPU (CUDA_VISIBLE_DEVICES=-1) to build only")
    running = _Engine(trt, engine, about, device)
    return Opened(lambda feed: running.call(feed, outputs), [f"TensorRT {trt.__version__}"])


def logger(trt: Any) -> Any:
    """A logger that keeps errors, which are all that TensorRT says of why, and shows warnings; `trt` is the library."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                print(message)

    return Logger()


class _Engine:
    """An engine with its context; every call has memory of its own on the GPU."""

    def __init__(self, trt: Any, engine: Any, about: Json, device: cuda.Device) -> None:
        self._trt, self._engine, self._device = trt, engine, device
        self._context = engine.create_execution_context()
        self._inputs = [value["name"] for value in about["inputs"]]
        self._dtypes = {value["name"]: value["dtype"] for value in about["outputs"]}

    def call(self, feed: Arrays, outputs: list[str]) -> Arrays:
        """Outputs by name. Raises StageError where TensorRT refuses the sizes, or can't run."""
        import numpy as np

        with contextlib.ExitStack() as held:
            for name in self._inputs:
                array = np.asarray(feed[name], order="C")
                if not self._context.set_input_shape(name, array.shape):
                    raise StageError(f"TensorRT refuses the shape {list(array.shape)} of input '{name}'")
                address = held.enter_context(self._device.memory(array.nbytes))
                self._device.put(address, array)
                self._context.set_tensor_address(name, address)
            results = {name: self._result(name) for name in self._dtypes}
            addresses = {name: held.enter_context(self._device.memory(array.nbytes)) for name, array in results.items()}
            for name, array in results.items():
                here = array.ctypes.data if self._is_on_host(name) else addresses[name]
                self._context.set_tensor_address(name, here)
            if not self._context.execute_async_v3(self._device.stream):
                raise StageError("TensorRT can't run the engine at these sizes")
            self._device.wait()
            for name, array in results.items():
                if not self._is_on_host(name):
                    self._device.take(addresses[name], array)
        return {name: results[name] for name in outputs}

    def _result(self, name: str) -> Any:
        """Room for an output, once the shapes of all inputs are set."""
        import ml_dtypes
        import numpy as np

        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise StageError(f"the shape of output '{name}' depends on values, and is not known before it is computed")
        dtype = self._dtypes[name]
        return np.empty(shape, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    def _is_on_host(self, name: str) -> bool:
        return bool(self._engine.get_tensor_location(name) == self._trt.TensorLocation.HOST)
