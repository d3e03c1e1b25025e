"""onnxruntime sessions as a recipe asks for them, and what really runs in them. Knows nothing of stages or cases.

onnxruntime falls back to the CPU without an exception when a provider can't start, and lists providers that can't. What
runs is therefore read from the session itself, and whether a provider works is proved by opening a session on it.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Opened
from onnxbuild.errors import StageError
from onnxbuild.runtimes import compiled
from onnxbuild.system.capture import output_to

if TYPE_CHECKING:
    import onnxruntime as ort

    from onnxbuild.contracts import Arrays, Json

DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime",)
FACETS: tuple[str, ...] = ("cpu_flags",)
BOUNDS = ""
SILENT = 4  # onnxruntime's severity "fatal": errors reach us as exceptions, the same text in red is noise


def open_session(path: str | Path, runtime: Json, scratch: Path) -> tuple[ort.InferenceSession, list[str], list[str]]:
    """A session on a graph, the providers that really run in it, and notes on what differs from what was asked.

    `scratch` is a folder for what a provider compiles and keeps, where the recipe names none.
    Raises StageError where onnxruntime refuses the graph, or where a provider in `runtime["require"]` does not run.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(SILENT)
    wanted: list[str] = runtime["providers"]
    available = ort.get_available_providers()
    asked = [name for name in wanted if name in available] or ["CPUExecutionProvider"]
    options = [compiled.options(name, runtime["provider_options"].get(name, {}), scratch) for name in asked]
    settings = session_options(runtime["session"])
    if is_ort_format(path):
        settings.add_session_config_entry("session.load_model_format", "ORT")  # else the name has to end with .ort
    try:
        session = ort.InferenceSession(os.fspath(path), settings, providers=asked, provider_options=options)
    except Exception as error:
        raise StageError(
            f"onnxruntime can't open the graph: {first_line(error)}",
            f"asked for {', '.join(wanted)}; onnxbuild doctor shows which providers work here",
        ) from error
    actual: list[str] = session.get_providers()
    missing = [name for name in runtime["require"] if name not in actual]
    if missing:
        raise StageError(
            f"runtime.require asks for {', '.join(missing)}, but onnxruntime runs on {', '.join(actual)}",
            "onnxbuild doctor shows which providers work here, and why the others don't",
        )
    return session, actual, fallback_notes(wanted, actual)


def missing(root: Path) -> str:  # noqa: ARG001  # the protocol's
    """Nothing: onnxbuild is installed with it."""
    return ""


def open(folder: Path, runtime: Json, outputs: list[str]) -> Opened:  # noqa: A001  # the protocol's
    """A session on the model in a target's folder. Raises StageError."""
    (model,) = [path for path in sorted(folder.iterdir()) if path.suffix in (".ort", ".onnx")]
    session, providers, notes = open_session(model, runtime, folder)
    return Opened(caller(session, outputs), providers, notes)


def is_ort_format(path: str | Path) -> bool:
    """Whether a file is of the ORT format: a flatbuffer says so in its bytes 4 to 8."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] == b"ORTM"


def session_options(options: Json) -> ort.SessionOptions:
    """onnxruntime.SessionOptions from the recipe's `runtime.session`, by the same names."""
    import onnxruntime as ort

    made = _options(options["graph_optimization_level"], options["config_entries"])
    made.execution_mode = getattr(ort.ExecutionMode, f"ORT_{options['execution_mode'].upper()}")
    made.intra_op_num_threads = options["intra_op_num_threads"]
    made.inter_op_num_threads = options["inter_op_num_threads"]
    made.enable_mem_pattern = options["enable_mem_pattern"]
    made.enable_cpu_mem_arena = options["enable_cpu_mem_arena"]
    return made


def on_cpu(
    path: str | Path,
    level: str,
    *,
    written: Path | None = None,
    entries: Mapping[str, str] | None = None,
    disabled: Sequence[str] = (),
) -> ort.InferenceSession:
    """A session that no recipe's `runtime` has a say in: on the CPU, at a graph optimization level, silent.

    `written` is where the graph goes as it is optimized, with one thread, so that the same graph gives the same file;
    `entries` are session config entries, `disabled` graph transformers that are left out. Raises what onnxruntime raises.
    """
    import onnxruntime as ort

    options = _options(level, entries or {})
    if written is not None:
        options.optimized_model_filepath = str(written)
        options.intra_op_num_threads = 1
    return ort.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )


def _options(level: str, entries: Mapping[str, str]) -> ort.SessionOptions:
    import onnxruntime as ort

    made = ort.SessionOptions()
    made.log_severity_level = SILENT
    name = "ORT_DISABLE_ALL" if level == "disable_all" else f"ORT_ENABLE_{level.upper()}"
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)
    for key, value in entries.items():
        made.add_session_config_entry(key, value)
    return made


def fallback_notes(wanted: list[str], actual: list[str]) -> list[str]:
    """What to say about providers that were asked for and don't run."""
    missing = [name for name in wanted if name not in actual]
    return [f"asked for {', '.join(missing)}, got {', '.join(actual)}"] if missing else []


def caller(session: ort.InferenceSession, outputs: list[str]) -> Callable[[Arrays], Arrays]:
    """A function from arrays by input name to arrays by output name; inputs that the graph lacks are left out."""
    values = [*session.get_inputs(), *session.get_outputs()]
    names = {value.name for value in session.get_inputs()}
    if any(value.type == "tensor(bfloat16)" for value in values):
        return lambda feed: _call_by_ort_values(session, outputs, {k: v for k, v in feed.items() if k in names})

    def call(feed: Arrays) -> Arrays:
        results = session.run(outputs, {name: array for name, array in feed.items() if name in names})
        return dict(zip(outputs, results, strict=True))

    return call


def _call_by_ort_values(session: ort.InferenceSession, outputs: list[str], feed: Arrays) -> Arrays:
    """As `caller`, for bfloat16, which onnxruntime neither takes from numpy nor gives to it."""
    import ctypes

    import ml_dtypes
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto

    def put(array: Any) -> ort.OrtValue:
        if array.dtype == ml_dtypes.bfloat16:
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), TensorProto.BFLOAT16)
        return ort.OrtValue.ortvalue_from_numpy(array)

    def take(value: ort.OrtValue) -> Any:
        if value.data_type() != "tensor(bfloat16)":
            return value.numpy()
        raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
        return np.frombuffer(raw, ml_dtypes.bfloat16).reshape(value.shape())

    results = session.run_with_ort_values(outputs, {name: put(array) for name, array in feed.items()})
    return {name: take(value) for name, value in zip(outputs, results, strict=True)}


def refusal(model: bytes) -> str:
    """Why this onnxruntime does not load a serialised model; "" where it does."""
    import onnxruntime as ort

    ort.set_default_logger_severity(SILENT)
    try:
        ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no class
        return first_line(error)
    return ""


def first_line(error: BaseException | str) -> str:
    """What onnxruntime says, in one line: without its error codes, source files and C++ signatures."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"(?:[A-Za-z]:)?[\w./\\+-]+\.(?:cc|h|cpp):\d+ .*?\)(?: const)? (?=\S)", "", text)
    return text.removeprefix("Fatal error: ").strip() or type(error).__name__


def usable_providers() -> list[tuple[str, str]]:
    """Every provider that this onnxruntime lists, and why it does not work: "" where a tiny graph really ran on it."""
    import onnxruntime as ort

    model = tiny_model()
    return [(name, _why_not(name, model)) for name in ort.get_available_providers()]


def tiny_model(opset: int = 17, ir_version: int = 8) -> bytes:
    """A serialised graph of one operator that every opset has."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    text: bytes = model.SerializeToString()
    return text


def _why_not(provider: str, model: bytes) -> str:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    with tempfile.TemporaryFile() as log:
        ort.set_default_logger_severity(2)  # the reason is in what native code prints, and nowhere else
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                session = output_to(log, lambda: ort.InferenceSession(model, options, providers=[provider]))
                if session.get_providers()[0] == provider:
                    output_to(log, lambda: session.run(None, {"x": np.ones(1, np.float32)}))
                    return ""
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
            return first_line(error)
        finally:
            ort.set_default_logger_severity(SILENT)
        log.seek(0)
        return _reason(log.read().decode(errors="replace"))


def _reason(log: str) -> str:
    """The sentence of onnxruntime's log that says what was missing."""
    library = re.search(r"error: (\S+): cannot open shared object file", log)
    if library:
        return f"{library[1]} is not found"
    lines = [line for line in log.splitlines() if "[E:" in line or "[W:" in line or "Error" in line]
    return (
        first_line(re.sub(r"\x1b\[[\d;]*m|^\S+ \S+ \[[EW]:\S+ \S+ \w+\] ", "", lines[0]))
        if lines
        else "it did not start"
    )
