"""`ort`: the ORT format of onnxruntime's reduced and mobile builds, and the operators that such a build must have.

onnxruntime itself converts while it opens a session: see "ORT model format" in onnxruntime's documentation. Knows no store.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.system import machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "flatbuffers")
RUNTIME = "onnxruntime"
MODEL = "model.ort"
OPERATORS = "required_operators_and_types.config"
FILES: tuple[str, ...] = (MODEL, OPERATORS)

# Everything that could change an address in the process is fixed: names, folder, environment. onnxruntime keeps parts of
# the file in the order of their addresses, so with address randomisation off, equal graphs give equal bytes.
_CONVERT = f"""
import pathlib, sys
import onnxruntime
from onnxruntime.tools.ort_format_model import utils
options = onnxruntime.SessionOptions()
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[1])
options.optimized_model_filepath = {MODEL!r}
options.intra_op_num_threads = 1
options.log_severity_level = 3
options.add_session_config_entry("session.save_model_format", "ORT")
options.add_session_config_entry("session.disable_prepacking", "1")
onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
utils.create_config_from_models([pathlib.Path({MODEL!r})], pathlib.Path({OPERATORS!r}), True)
"""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """How onnxruntime optimizes the graph before it writes it."""

    optimization_level: Annotated[
        Literal["disable_all", "basic", "extended", "layout", "all"],
        Meta(
            description="onnxruntime's graph optimization level. Levels above extended bind the file to this hardware."
        ),
    ] = "extended"


def facets(options: Options) -> Sequence[str]:
    """What of this machine decides the bytes."""
    return ("system", "cpu_flags") if options.optimization_level in ("layout", "all") else ("system",)


def notes(options: Options) -> Sequence[str]:
    """Sentences for the report."""
    level = options.optimization_level
    return [f"{level}: bound to this hardware and this onnxruntime version"] if level in ("layout", "all") else []


def build(path: Path, options: Options, scratch: Path) -> tuple[Mapping[str, Path], Sequence[str]]:
    """Convert a graph; gives the files by the name they are published under, and notes on what could not be done.

    `path` is a graph in the store's form, `scratch` an empty folder. Raises StageError where onnxruntime can't convert it,
    and for weights of 2 GiB or more, which the ORT format can't hold.
    """
    from onnxbuild.graphs import modelfile

    written = modelfile.write(path, scratch / "model.onnx", external_data=False)
    if len(written) > 1:
        raise StageError("the ORT format holds less than 2 GiB", "take ort out of targets, or make the weights smaller")
    level = options.optimization_level
    name = "ORT_DISABLE_ALL" if level == "disable_all" else f"ORT_ENABLE_{level.upper()}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CONVERT, name],
        cwd=scratch,
        env=_environment(),
        preexec_fn=machine.fix_addresses if machine.can_fix_addresses() else None,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"]
        raise StageError(f"onnxruntime can't convert the graph to the ORT format: {said[-1]}")
    notes = (
        []
        if machine.can_fix_addresses()
        else ["this system randomises addresses: another build may order bytes otherwise"]
    )
    return {name: scratch / name for name in FILES}, notes


def _environment() -> dict[str, str]:
    """What the converter's process sees: where libraries are, and nothing else that differs from build to build."""
    kept = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
    }
