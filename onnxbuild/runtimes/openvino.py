"""OpenVINO on this machine's processor, in float32: what its files are held against the source model by.

The device's own default is another precision on many processors (bfloat16); it is opened beside, to be told. Knows nothing
of how the files were made.
"""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Opened
from onnxbuild.errors import StageError
from onnxbuild.system import oserrors

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxbuild.contracts import Arrays, Json

DISTRIBUTIONS: tuple[str, ...] = ("openvino",)
FACETS: tuple[str, ...] = ("system", "cpu_flags")
BOUNDS = ""
DEVICE = "CPU"
HINT = "INFERENCE_PRECISION_HINT"


def library() -> Any:
    """OpenVINO, without its converter: that would tell its makers over the network that it was imported, and write into
    the home folder. Nothing here needs it, and the package does without.

    Nor may it look through all of sys.path, the project among it, for other parts of itself: a wheel is whole.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    converter, extend = "openvino.tools.ovc", pkgutil.extend_path
    sys.modules[converter] = None  # type: ignore[assignment]  # which Python takes for a module that is not there
    pkgutil.extend_path = lambda path, name: path if name.startswith("openvino") else extend(path, name)
    try:
        import openvino
    finally:
        del sys.modules[converter]
        pkgutil.extend_path = extend
    return openvino


def missing(root: Path) -> str:  # noqa: ARG001  # the protocol's
    """Nothing: what builds the files can run them, and every machine has a processor."""
    return ""


def open(folder: Path, runtime: Json, outputs: list[str]) -> Opened:  # noqa: A001  # the protocol's
    """The model in a target's folder, compiled for the processor. Raises StageError.

    Of `runtime` the number of threads in one operator counts, so that latencies beside onnxruntime's are fair.
    """
    core = library().Core()
    threads = runtime["session"]["intra_op_num_threads"]
    usual = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    try:
        model = core.read_model(folder / "model.xml")
        call = _caller(core.compile_model(model, DEVICE, {**usual, HINT: "f32"}), outputs)
    except RuntimeError as error:
        raise StageError(f"OpenVINO can't open the model: {plain(error)}") from error
    own = core.get_property(DEVICE, HINT).get_type_name()
    if own == "f32":
        return Opened(call, [f"OpenVINO {DEVICE}"])

    compiled: list[Callable[[Arrays], Arrays]] = []

    def by_default(feed: Arrays) -> Arrays:
        if not compiled:
            compiled.append(_caller(core.compile_model(model, DEVICE, usual), outputs))
        return compiled[0](feed)

    return Opened(call, [f"OpenVINO {DEVICE}"], asides={f"the device's default precision ({own})": by_default})


def _caller(compiled: Any, outputs: list[str]) -> Callable[[Arrays], Arrays]:
    """A function from arrays by input name to arrays by output name; inputs that the model lacks are left out."""
    known = {name for port in compiled.inputs for name in port.get_names()}
    given = {name for port in compiled.outputs for name in port.get_names()}
    if lost := [name for name in outputs if name not in given]:
        raise StageError(f"OpenVINO's model has no output '{lost[0]}'; it has {', '.join(sorted(given)) or 'none'}")
    ports = {name: compiled.output(name) for name in outputs}
    request = compiled.create_infer_request()

    def call(feed: Arrays) -> Arrays:
        results = request.infer({name: _put(array) for name, array in feed.items() if name in known})
        return {name: _take(results[port], port) for name, port in ports.items()}

    return call


def _put(array: Any) -> Any:
    """An array as OpenVINO takes it; numpy has no bfloat16, and what OpenVINO makes of another's is wrong."""
    import numpy as np

    array = np.asarray(array, order="C")
    if array.dtype.name == "bfloat16":
        openvino = library()
        return openvino.Tensor(array.view(np.uint16), openvino.Shape(array.shape), openvino.Type.bf16)
    return array


def _take(array: Any, port: Any) -> Any:
    """A result; OpenVINO gives bfloat16 as float16, bit by bit."""
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16) if port.get_element_type().get_type_name() == "bf16" else array


def plain(error: Exception) -> str:
    """What OpenVINO says, in one line: without its source files."""
    lines = [line.strip() for line in oserrors.said(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Exception from", "Check '", "Summary:"))]
    return " ".join(kept or lines) or type(error).__name__
