"""Child processes: starts a stage in a fresh one, waits for it, and lets nothing outlive the command.

On Linux a template process per preload (torch; onnx and onnxruntime) is started on first use and forks a child for each
stage, which saves the second and later imports; elsewhere each stage is a new interpreter. Knows nothing of keys, traces
or what a stage does; see `child` for the other side.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from onnxbuild.contracts import Task
from onnxbuild.discovery import environment
from onnxbuild.executors.child import FAULT, FAULTS, STOP, Ended, Order, Result
from onnxbuild.executors.interface import Finished
from onnxbuild.system import failpoints, files, locks

LOG_TAIL = 6000  # characters of a failed child's output that go into the report

# -P: what lies in the folder that the command is started in must not come before the libraries.
_PYTHON = (sys.executable, "-P")


class Surroundings(msgspec.Struct, frozen=True):
    """What children see beside their task, where it is to differ from the usual.

    `environment` is laid over the fixed variables, `folder` is where template processes start (and so on sys.path),
    `umask` decides the permissions of what they write, and `cores` how many processors they may use; None is the
    command's own.
    """

    environment: dict[str, str] = {}
    folder: Path | None = None
    umask: int | None = None
    cores: int | None = None


class Workers:
    """The running children of one command. Use as a context manager: leaving it ends them all."""

    def __init__(self, folder: Path, surroundings: Surroundings | None = None) -> None:
        self._surroundings = surroundings or Surroundings()
        self._folder, self._lock = _own(folder)
        self._templates: dict[str, subprocess.Popen[bytes]] = {}
        self._singles: dict[int, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()
        self._partial: dict[str, bytes] = {}  # what a template has said of its next answer
        self._orders: dict[int, Order] = {}
        self._owner: dict[int, str] = {}  # order to template
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scratch(self) -> Path:
        """A new empty folder on the store's file system, removed when the command ends."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    def start(self, task: Task, preload: str) -> int:
        """Start a stage and return its id. Raises OSError."""
        self._next += 1
        scratch = Path(task.scratch)
        order = Order(self._next, task, f"{scratch}.result", f"{scratch}.log")
        if sys.platform == "linux":
            stdin = self._template(preload).stdin
            assert stdin is not None
            self._orders[order.id], self._owner[order.id] = order, preload
            with contextlib.suppress(BrokenPipeError):  # a template that died is noticed in wait()
                stdin.write(msgspec.json.encode(order) + b"\n")
                stdin.flush()
        else:
            self._singles[order.id] = self._single(order)
            self._orders[order.id] = order
        return order.id

    def stop(self, number: int) -> None:
        """End a stage at once; `wait` tells of it as of any that was killed."""
        if number in self._singles:
            self._singles[number].kill()
        elif (stdin := self._template(self._owner[number]).stdin) is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(STOP % number)
                stdin.flush()

    def warm(self, preload: str) -> None:
        """Start a template ahead of its first stage, so that its imports overlap with other work."""
        if sys.platform == "linux":
            self._template(preload)

    def wait(self, timeout: float) -> list[Finished]:
        """The children that ended, waiting at most `timeout` seconds for the first of them."""
        if sys.platform != "linux":
            return self._wait_singles(timeout)
        finished = []
        for key, _ in self._selector.select(timeout):
            finished += self._answers(key.fileobj, str(key.data))  # type: ignore[arg-type]  # the stdout registered below
        return finished

    def close(self) -> None:
        """End every child at once, and remove their scratch folders."""
        for process in self._templates.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._singles.values():
            process.kill()
        for process in (*self._templates.values(), *self._singles.values()):
            _bury(process)
        self._templates.clear()
        self._singles.clear()
        self._selector.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()

    def _template(self, preload: str) -> subprocess.Popen[bytes]:
        if preload not in self._templates:
            with open(self._folder / f"{preload}.log", "ab") as log:
                process = subprocess.Popen(
                    [*self._command(), "--preload", preload, "--parent", str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # a group of its own: Ctrl-C reaches us alone, and we end the group
                    **self._surrounded(),
                )
            self._templates[preload] = process
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ, preload)
        return self._templates[preload]

    def _single(self, order: Order) -> subprocess.Popen[bytes]:
        path = Path(f"{order.task.scratch}.order")
        path.write_bytes(msgspec.json.encode(order))
        command = [*self._command(), "--once", str(path)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, **self._surrounded())

    def _command(self) -> list[str]:
        cores = self._surroundings.cores
        return [*_PYTHON, "-m", "onnxbuild.executors.child", *([] if cores is None else ["--cores", str(cores)])]

    def _surrounded(self) -> dict[str, Any]:
        """How a child is started, as `subprocess.Popen` takes it."""
        around = self._surroundings
        umask = -1 if around.umask is None or os.name == "nt" else around.umask  # -1: the command's own
        return {
            "env": environment.passed_on() | _failpoint() | around.environment,
            "cwd": around.folder,
            "umask": umask,
        }

    def _answers(self, stream: IO[bytes], preload: str) -> list[Finished]:
        chunk = os.read(stream.fileno(), 1 << 16)
        if not chunk:
            return self._template_died(stream, preload)
        *lines, self._partial[preload] = (self._partial.get(preload, b"") + chunk).split(b"\n")
        return [self._finished(msgspec.json.decode(line, type=Ended)) for line in lines]

    def _template_died(self, stream: IO[bytes], preload: str) -> list[Finished]:
        self._selector.unregister(stream)
        self._partial.pop(preload, None)
        status = _bury(self._templates.pop(preload))
        text = _tail(self._folder / f"{preload}.log")
        lost = [id_ for id_, owner in self._owner.items() if owner == preload]
        return [msgspec.structs.replace(self._finished(Ended(id_, status or 1, 0)), log=text) for id_ in lost]

    def _wait_singles(self, timeout: float) -> list[Finished]:
        until = time.monotonic() + timeout
        while True:
            ended = [id_ for id_, process in self._singles.items() if process.poll() is not None]
            if ended or time.monotonic() >= until:
                return [self._finished(Ended(id_, self._singles.pop(id_).returncode, 0)) for id_ in ended]
            time.sleep(0.02)

    def _finished(self, ended: Ended) -> Finished:
        order = self._orders.pop(ended.id)
        self._owner.pop(ended.id, None)
        try:
            result = msgspec.json.decode(Path(order.result).read_bytes(), type=Result)
        except (OSError, msgspec.MsgspecError):
            result = None
        fault = ended.status - FAULT if ended.status - FAULT in FAULTS else 0
        finished = Finished(ended.id, result, ended.status, ended.peak_rss_bytes, _tail(Path(order.log)), fault)
        shutil.rmtree(order.task.scratch, ignore_errors=True)
        for done_with in (order.result, order.log):
            with contextlib.suppress(OSError):
                os.unlink(done_with)  # noqa: PTH108  # as it is named in the order
        return finished


def _failpoint() -> dict[str, str]:
    return {name: os.environ[name] for name in (failpoints.VARIABLE,) if name in os.environ}


def _bury(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that was killed or is dying, close its pipes, and return its status."""
    status = process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):  # what is left to be written has no reader
                stream.close()
    return status


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as log:
            log.seek(max(os.fstat(log.fileno()).st_size - 4 * LOG_TAIL, 0))  # a character has 4 bytes at most
            return log.read().decode("utf-8", errors="replace")[-LOG_TAIL:]
    except OSError:
        return ""


def _own(folder: Path) -> tuple[Path, locks.Lock]:
    """A new scratch folder and the lock that says it is in use, once what killed commands left there is gone."""
    files.make_folder(folder)
    for left in folder.glob("run-*"):
        locks.remove_folder(left)
    while True:
        own = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        taken = locks.take(own / ".lock")
        if isinstance(taken, locks.Lock) and own.is_dir():
            return own, taken  # else another command took it for a dead one's, in the instant before it was locked
