"""onnxruntime-web: the WebAssembly build of onnxruntime, as node runs it, without a browser. See web.cjs for the other side.

A process of node's own per opened model, on one thread; what it prints never reaches our streams. Which onnxruntime-web
runs is for node to say: the one that it finds from the project's root. WebGPU, WebGL and WebNN need a browser, and are not
known here.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Opened
from onnxbuild.errors import StageError
from onnxbuild.runtimes import onnxruntime
from onnxbuild.system import node

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Arrays, Json

DISTRIBUTIONS: tuple[str, ...] = ("numpy",)
BOUNDS = ""
PACKAGE = "onnxruntime-web"
FACETS: tuple[str, ...] = ("node", f"npm:{PACKAGE}")
TESTED = "1.30.0"  # the version that tests/web/package-lock.json has
LIMIT_S = 600.0  # for one answer
SCRIPT = Path(__file__).with_name("web.cjs")
# What JavaScript has arrays of; see `Tensor.Type` in onnxruntime-common.
DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "string",
)  # fmt: skip
_LOG_TAIL = 4000  # bytes


def missing(root: Path) -> str:
    """Why node can't run it for the project in `root`, "" where it can."""
    if not node.executable():
        return "node is not on the PATH"
    if not node.package(PACKAGE, root):
        return f"{PACKAGE} is not installed: npm install {PACKAGE}@{TESTED}"
    return ""


def open(folder: Path, runtime: Json, outputs: list[str]) -> Opened:  # noqa: A001  # the protocol's
    """A session on the model in a target's folder, in a process of node. Raises StageError."""
    running = _Web(folder, runtime["session"], outputs)
    told = running.start()
    notes = [f"{PACKAGE} {told['web']} in WebAssembly, node {told['node']}, one thread, no browser"]
    return Opened(running.call, ["wasm"], notes, took=lambda: running.took)


class _Web:
    """A model in a process of node, which is started again where it died."""

    def __init__(self, folder: Path, session: Json, outputs: list[str]) -> None:
        self._root = Path.cwd()  # a stage runs in the project's root
        self.took = 0  # nanoseconds of the last run, by node's clock
        self._folder, self._outputs, self._options = folder, outputs, _options(session)
        self._inputs: set[str] = set()
        self._arrays = Path(tempfile.mkdtemp(prefix="arrays-", dir=folder.parent))
        self._node: _Node | None = None

    def start(self) -> dict[str, Any]:
        """Open the model; gives what node says of itself."""
        model, *beside = sorted(path for path in self._folder.iterdir() if path.is_file())
        data = [{"path": path.name, "data": str(path)} for path in beside]
        self._node = _Node(self._root)
        told = self._node.ask({"open": {"model": str(model), "data": data, "options": self._options}})
        if "error" in told:
            raise StageError(
                f"{PACKAGE} can't open the model: {_said(told['error'])}",
                "WebAssembly knows no custom operators, and no more than the version of onnxruntime that is installed: "
                "take web out of targets, or build the graph of operators that it has",
            )
        self._inputs = set(told["inputs"])
        return told

    def call(self, feed: Arrays) -> Arrays:
        """Outputs by name; inputs that the model lacks are left out. Raises StageError, and RuntimeError by onnxruntime."""
        if self._node is None or not self._node.alive:
            self.start()
        assert self._node is not None
        into = self._arrays
        feeds = [
            _written(name, array, into / f"in{at}")
            for at, (name, array) in enumerate(feed.items())
            if name in self._inputs
        ]
        told = self._node.ask({"run": {"feeds": feeds, "outputs": self._outputs, "folder": str(into)}})
        if "error" in told:
            raise RuntimeError(_said(told["error"]))
        self.took = told["took"]
        return {one["name"]: _read(one) for one in told["outputs"]}


class _Node:
    """A process of node that answers questions, one at a time."""

    def __init__(self, root: Path) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        answers, theirs = os.pipe()
        try:
            command = [node.executable() or "node", str(SCRIPT), str(root), str(theirs)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, pass_fds=(theirs,), cwd=root
            )
        except OSError as error:
            os.close(answers)
            self._log.close()
            raise StageError(f"node can't be started: {error.strerror}", "see what `node --version` says") from error
        finally:
            os.close(theirs)
        self._answers = answers
        self._end = weakref.finalize(self, _ended, self._process, self._log, answers)

    @property
    def alive(self) -> bool:
        """Whether another question may be asked."""
        return self._end.alive

    def ask(self, question: Json) -> dict[str, Any]:
        """The answer. Raises StageError where there is none: node died, or took longer than it may."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: that is told below
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        until, told = time.monotonic() + LIMIT_S, b""
        while not told.endswith(b"\n"):
            if not select.select([self._answers], [], [], max(until - time.monotonic(), 0))[0]:
                self._end()
                raise StageError(f"node gave no answer within {LIMIT_S:g} s", "make the sizes of the cases smaller")
            chunk = os.read(self._answers, 1 << 16)
            if not chunk:
                raise self._death()
            told += chunk
        answer: dict[str, Any] = json.loads(told)
        return answer

    def _death(self) -> StageError:
        """Why it died: an exit status or a signal, and the last that it said."""
        status = self._process.wait()
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - _LOG_TAIL, 0))
        said = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        self._end()
        told = [line for line in said if "rror" in line] or said[-1:]
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
        return StageError(
            f"node {how}{f': {told[0]}' if told else ''}",
            "where memory ran out, make the model or the sizes of the cases smaller: WebAssembly addresses 4 GiB",
        )


def _ended(process: subprocess.Popen[bytes], log: Any, answers: int) -> None:
    """End a process, however it is, and close what leads to it."""
    process.kill()
    process.wait()
    os.close(answers)
    log.close()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _said(error: str) -> str:
    """What onnxruntime says, without what JavaScript puts before it."""
    return onnxruntime.first_line(error.rpartition("ERROR_MESSAGE: ")[2])


def _options(session: Json) -> dict[str, Json]:
    """The recipe's `runtime.session` in JavaScript's words; it has one thread, whatever is asked for."""
    level = session["graph_optimization_level"]
    return {
        "graphOptimizationLevel": "disabled" if level == "disable_all" else level,
        "executionMode": session["execution_mode"],
        "enableMemPattern": session["enable_mem_pattern"],
        "enableCpuMemArena": session["enable_cpu_mem_arena"],
        "extra": dict(session["config_entries"]),
    }


def _written(name: str, array: np.ndarray[Any, Any], path: Path) -> dict[str, Json]:
    """An input, as a file and what there is to say of it. Raises StageError for a dtype that JavaScript has not."""
    dtype = "string" if array.dtype.kind in "OUT" else array.dtype.name
    if dtype not in DTYPES:
        raise StageError(f"JavaScript has no {dtype}, which input '{name}' is of", "take web out of targets")
    if dtype == "string":
        path.write_text(json.dumps([str(value) for value in array.ravel()]), "utf-8")
    else:
        path.write_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return {"name": name, "type": dtype, "dims": list(array.shape), "file": str(path)}


def _read(told: Mapping[str, Any]) -> Any:
    """An output; of one that is no tensor what JavaScript calls it."""
    import numpy as np

    if "file" not in told:
        return told["type"]
    path = Path(told["file"])
    if told["type"] == "string":
        return np.array(json.loads(path.read_text("utf-8")), object).reshape(told["dims"])
    dtype = np.dtype(told["type"]).newbyteorder("<")
    return np.frombuffer(path.read_bytes(), dtype).astype(dtype.newbyteorder("="), copy=False).reshape(told["dims"])
