"""Times two builds of a model against each other, each in the interpreter that built it; they take turns.

Latencies of two builds were measured at two times, and so say little of one another. Here each process opens its model
once, and both run it a few times by turns, the one that starts being another each time: what the machine does meanwhile
falls on both. `python -m onnxbuild.engine.turns` is such a process: an order as a line of JSON, then a number of runs a
line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from onnxbuild.contracts import Json
from onnxbuild.discovery import environment
from onnxbuild.errors import StageError
from onnxbuild.parity import samples
from onnxbuild.report.canary import Latency
from onnxbuild.stages import benchmark
from onnxbuild.system import interpreters
from onnxbuild.system.interpreters import Interpreter

TURNS = 10
MOSTLY = 9  # turns in which a build that is slower is slower
_REST = 0.02  # seconds after a turn, in which the threads of that process stop spinning


class Order(Struct, frozen=True):
    """A graph to open, and how: the options are the benchmark's."""

    graph: str
    root: str
    options: dict[str, Json]


class _Said(Struct, frozen=True):
    """What such a process answers: the times of its runs in nanoseconds, or why there are none."""

    times: list[int] = []
    fact: str = ""
    hint: str = ""


def tools(interpreter: Interpreter) -> dict[str, str]:
    """What a latency depends on besides the model and the machine: Python's version, and the packages that run it."""
    names = {name for one in benchmark.DISTRIBUTIONS for name in interpreters.providing(one, interpreter.installed)}
    return {"python": interpreter.version} | {name: interpreter.installed[name] for name in sorted(names)}


def compare(before: tuple[Interpreter, Order], after: tuple[Interpreter, Order], limit: float) -> Latency:
    """Latencies in milliseconds, and by how much the second is slower: the median of the turns' own ratios.

    It counts as slower where that is 1 + `limit` or more, and it was slower in most turns. Raises StageError where a graph
    can't be opened or run.
    """
    runs = max(-(-int(before[1].options["runs"]) // TURNS), 1)
    times: tuple[list[list[int]], list[list[int]]] = ([], [])
    with _opened(*before) as one, _opened(*after) as other:
        for process in (one, other):
            _asked(process, int(before[1].options["warmup"]))
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                times[which].append(_asked((one, other)[which], runs))
                time.sleep(_REST)
    return judged(*times, limit)


def judged(before: list[list[int]], after: list[list[int]], limit: float) -> Latency:
    """What the times of both builds say, in nanoseconds and turn by turn."""
    ratios = [statistics.median(new) / statistics.median(old) for old, new in zip(before, after, strict=True)]
    p50 = [statistics.median([time for turn in side for time in turn]) / 1e6 for side in (before, after)]
    slower_in, times = sum(ratio > 1 for ratio in ratios), statistics.median(ratios)
    slower = times >= 1 + limit and slower_in >= MOSTLY
    return Latency(p50[0], p50[1], round(times, 3), len(ratios), slower_in, slower)


@contextlib.contextmanager
def _opened(interpreter: Interpreter, order: Order) -> Iterator[subprocess.Popen[bytes]]:
    command = [interpreter.path, "-P", "-m", __name__]
    variables = {**environment.passed_on(), **interpreter.variables}
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            _write(process.stdin, order)
            yield process
        finally:
            process.kill()


def _write(stream: IO[bytes] | None, said: object) -> None:
    assert stream is not None
    stream.write(msgspec.json.encode(said) + b"\n")
    stream.flush()


def _asked(process: subprocess.Popen[bytes], runs: int) -> list[int]:
    """The times of so many runs."""
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it ended, as is told below
        _write(process.stdin, runs)
    line = process.stdout.readline()
    said = msgspec.json.decode(line, type=_Said) if line else _Said(fact=f"the process ended with {process.wait()}")
    if said.fact:
        raise StageError(said.fact, said.hint)
    return said.times


def main() -> None:
    """Open a graph and run it as often as each line asks, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command that started it ends it
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    from onnxbuild.runtimes import onnxruntime

    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    options = order.options
    with tempfile.TemporaryDirectory() as scratch:
        try:
            session, _, _ = onnxruntime.open_session(order.graph, options["runtime"], Path(scratch))
            feed = samples.make(options["inputs"], options["case"], options["seed"], Path(order.root))
            call = onnxruntime.caller(session, [value.name for value in session.get_outputs()])
            for line in sys.stdin.buffer:
                (times,) = benchmark.measure([lambda: call(feed)], 0, int(line)) if int(line) else ([],)
                _write(answers, _Said(times))
        except StageError as error:
            _write(answers, _Said(fact=error.fact, hint=error.hint))


if __name__ == "__main__":
    main()
