"""The other side of `local`: a template process that forks a child for each stage, and what such a child does.

Run as `python -m onnxbuild.executors.child [--preload torch]`, fed one JSON line per stage on stdin, it answers one
line per child that ended. It ends with its children when stdin closes, so nothing outlives the command. Knows nothing of
recipes, keys or the store's traces. Where there is no fork, `python -m onnxbuild.executors.child --once ORDER` runs a
single stage.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import os
import select
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import msgspec

from onnxbuild.contracts import Outcome, Task
from onnxbuild.discovery import environment, inputs
from onnxbuild.discovery.import_hooks import Imports, top, without_own_frames
from onnxbuild.discovery.modified import WRITTEN
from onnxbuild.discovery.names import OWN_NAME
from onnxbuild.discovery.recorder import Recorder
from onnxbuild.errors import LackError, RefusalError, StageError
from onnxbuild.executors import TEMPLATES
from onnxbuild.graphs import external
from onnxbuild.store import layout
from onnxbuild.system import distributions, files, oserrors

FAULT = 100  # an exit status above it is an errno and this: no result could be written
STOP = b"stop %d\n"  # a line that ends the child of that order
FAULTS = {*oserrors.OUTSIDE, errno.ENOENT}  # the last one is said of the stage's own folder alone


class Order(msgspec.Struct, frozen=True):
    """One stage to run: the task, and where its result and its log go."""

    id: int
    task: Task
    result: str
    log: str


class Result(msgspec.Struct, frozen=True):
    """What a child leaves behind; `fact` is set where the stage failed for a reason it could name."""

    outcome: Outcome | None
    discovered: dict[str, list[int] | None]  # what stat said of a file as it was first touched, where that is known
    seconds: float
    fact: str = ""
    hint: str = ""
    missing: list[str] = []  # discovered names of files that were not there when the stage ended
    lasting: bool = False  # it would fail so every time
    outside: bool = False  # what it failed at lies in the surroundings, and says nothing of its inputs


class Ended(msgspec.Struct, frozen=True):
    """A child ended: its exit status (negative: killed by that signal) and its peak resident set."""

    id: int
    status: int
    peak_rss_bytes: int


def run_stage(order: Order, imports: Imports) -> int:
    """Run one stage in this process and write its result; returns the exit status."""
    root, scratch = Path(order.task.root), Path(order.task.scratch)
    os.chdir(root)
    # a stage makes the folders that it publishes into
    dest = Path(order.task.dest)
    own = [dest, *(above for above in dest.parents if root in above.parents)] if order.task.dest else []
    ignore = [*layout.parts(Path(order.task.objects)), *map(Path, order.task.inputs.values()), *own, scratch]
    environment.compile_in(f"{scratch}{os.sep}compiled")
    recorder = Recorder(root, ignore, imports, scratch.parent / WRITTEN, scratch, external.named_by)
    begun = time.perf_counter()
    module = importlib.import_module(order.task.module)
    outcome, fact, hint, lasting, outside = None, "", "", False, False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            outcome = module.run(order.task)
        except Exception as error:  # noqa: BLE001  # whatever a library raises is a failed stage with its name on it
            fact, hint, outside = _explained(error, scratch, root)
            # a library that found no room, and went on all the same, may have brought it about
            lasting = isinstance(error, RefusalError) and not outside and oserrors.full(scratch) is None
    seconds = time.perf_counter() - begun
    if outcome is not None and caught:
        said = dict.fromkeys([*outcome.warnings, *(f"{w.category.__name__}: {w.message}" for w in caught)])
        outcome = msgspec.structs.replace(outcome, warnings=list(said))
    with contextlib.suppress(OSError):
        os.chdir(root)  # the model's code may have left for a folder that is gone
    discovered = recorder.names() if outcome or lasting else {}
    if unspeakable := [name for name in discovered if not _is_text(name)]:
        outcome, discovered, lasting = None, {}, False
        fact = f"{unspeakable[0]!a} was read, and its name is not text"
        hint = "rename it: what a result depends on is written down by name"
    notes = [
        f"{name} was looked at and then written or removed: this result is not kept" for name in recorder.unsettled()
    ]
    notes += [f"{text}: this result is not kept" for text in recorder.unfollowed()]
    if outcome is not None and notes:
        outcome = msgspec.structs.replace(outcome, cacheable=False, warnings=[*outcome.warnings, *notes])
    missing = inputs.missing(discovered, root)
    result = Result(outcome, discovered, seconds, fact, hint, missing, lasting and not notes, outside)
    files.write_atomic(Path(order.result), [msgspec.json.encode(result)])
    return 0 if outcome is not None else 1


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explained(error: Exception, scratch: Path, root: Path) -> tuple[str, str, bool]:
    """What to say of a stage that failed, and whether that lies outside it; the log gets the rest, where there is more."""
    outside = oserrors.behind(error)
    if outside is None:
        without_own_frames(error)
        # a StageError's fact says it all, and who raised it has told the log of the user's code; the rest is our own
        if isinstance(error, StageError):
            return error.fact, error.hint, isinstance(error, LackError)
        print(traceback.format_exc().replace(f"{root}/", ""), end="", file=sys.stderr)
        outside = oserrors.full(scratch)
    if outside is not None:
        return *oserrors.explain(outside, scratch.parent.parent), True
    return f"{type(error).__name__}: {error}".strip(), "", isinstance(error, MemoryError)


def _child(order: Order, imports: Imports) -> int:
    try:
        log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        return run_stage(order, imports)
    except BaseException as error:  # noqa: BLE001  # a child must end here, never unwind into the template's loop
        return _status_of(error, Path(order.task.scratch).parent)
    finally:
        with contextlib.suppress(OSError):  # a log on a full disk
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def _status_of(error: BaseException, folder: Path) -> int:
    """The exit status that tells what the surroundings did, where nothing else can; else the log tells."""
    outside = oserrors.behind(error, folder)
    if outside is None and not folder.is_dir():
        return FAULT + errno.ENOENT
    if outside is not None and outside.errno:
        return FAULT + outside.errno
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    return 1


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed stdin has to do."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before it could be asked
            os._exit(1)


def _preload(template: str) -> Imports:
    imports = Imports()
    imports.install()
    # a stage depends only on those that it imports again, see `import_hooks`
    for name in TEMPLATES[template].imports if template else ():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except ImportError as error:  # a stage that needs it will say so
            if oserrors.behind(error):
                raise
    distributions.owners()  # read once, for all children
    return imports


def _preload_own(module: str) -> None:
    """Import a stage's module before the fork, for all that follow: of our own code no result depends by its files."""
    if module not in sys.modules and top(module) == OWN_NAME:
        with contextlib.suppress(Exception):  # the child meets it again, and tells
            importlib.import_module(module)


def serve(template: str) -> None:
    """Fork a child per order until stdin closes; then end this process's whole group."""
    answers = io.FileIO(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    imports = _preload(template)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    own = os.getpid()
    children: dict[int, int] = {}
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(children, answers)
        if 0 in ready:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                os.killpg(0, signal.SIGKILL)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                if line.startswith(STOP[:4]):
                    _stop(children, line)
                    continue
                order = msgspec.json.decode(line, type=Order)
                _preload_own(order.task.module)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for fd in (wake_read, wake_write, answers.fileno()):
                        os.close(fd)
                    _die_with(own)
                    os._exit(_child(order, imports))
                children[pid] = order.id


def _stop(children: dict[int, int], line: bytes) -> None:
    for pid, number in children.items():
        if line + b"\n" == STOP % number:
            os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, int], answers: io.FileIO) -> None:
    while children:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid in children:  # else a process that a library started
            ended = Ended(children.pop(pid), os.waitstatus_to_exitcode(status), _bytes(usage.ru_maxrss))
            answers.write(msgspec.json.encode(ended) + b"\n")


def _bytes(maxrss: int) -> int:
    return maxrss if sys.platform == "darwin" else maxrss * 1024  # man getrusage: bytes there, KiB elsewhere


def main() -> None:
    """Serve as a template process, or run a single order; see the module."""
    parser = argparse.ArgumentParser(
        prog="onnxbuild.executors.child", description="Runs stages for onnxbuild; not for people."
    )
    parser.add_argument("--preload", default="", choices=["", *TEMPLATES])
    parser.add_argument("--parent", type=int, metavar="PID", help="the process to end with")
    parser.add_argument("--once", metavar="ORDER", help="run the single order in this JSON file")
    parser.add_argument("--cores", type=int, metavar="N", help="how many of the processors to use")
    arguments = parser.parse_args()
    if arguments.cores and hasattr(os, "sched_setaffinity"):  # before a library counts them
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    if arguments.once:
        order = msgspec.json.decode(Path(arguments.once).read_bytes(), type=Order)
        sys.exit(_child(order, _preload("")))
    _die_with(arguments.parent or os.getppid())
    try:
        serve(arguments.preload)
    except Exception as error:  # noqa: BLE001  # its status is all that the command sees of it, but for the log
        sys.exit(_status_of(error, Path.cwd()))


if __name__ == "__main__":
    main()
