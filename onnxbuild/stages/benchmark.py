"""Measures how fast onnxruntime runs a graph at one case: latencies in milliseconds, throughput in runs per second.

The inputs are made once and used for every run; what is timed is the session's call alone, results handed to numpy
included. Where a pass lost precision on purpose, the graph before the first such pass is timed in the same run: both are
then held in memory at once. Knows nothing of what the outputs should be.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.graphs import external
from onnxbuild.system import machine, memory
from onnxbuild.text import units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onnxbuild.contracts import Arrays, Json

VERSION = 3
KEPT = 201  # quantiles: a distribution has no more to show
BEFORE = "graph_before"  # the role of the graph before the first pass that loses precision on purpose
COPIES = 3  # of a graph's weights that a session may hold: as read, as packed for its kernels, and what flows between
TURNS = 10
REST = 0.02  # seconds before a turn, in which the threads of the other session stop spinning
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("ml-dtypes", "numpy", "onnxruntime")
TRAITS = frozenset({Trait.TIMES, Trait.ALONE})
FIELDS: dict[str, tuple[str, ...]] = {
    "runtime": ("runtime",),
    "case": ("benchmark", "dims"),
    "warmup": ("benchmark", "warmup"),
    "runs": ("benchmark", "runs"),
    "inputs": ("export", "inputs"),
    "seed": ("parity", "seed"),
}


def run(task: Task) -> Outcome:
    """Facts: the fields of `report.types.BenchmarkReport`, of the graph, or of a target's files with onnxruntime beside
    them in the same run. Of `before` the latency alone, for a task does not know which stage made that graph.
    """
    from onnxbuild.parity import samples
    from onnxbuild.runtimes import onnxruntime
    from onnxbuild.stages import opening

    options = task.options
    load = machine_load()
    targeted = "target" in options
    graph = task.inputs["onnx" if targeted else "graph"]
    session, providers, notes = onnxruntime.open_session(graph, options["runtime"], Path(task.scratch))
    feed = samples.make(options["inputs"], options["case"], options["seed"], Path(task.root))
    call = onnxruntime.caller(session, [value.name for value in session.get_outputs()])
    calls: list[Callable[[], object]] = [lambda: call(feed)]
    clocks: list[Callable[[], int] | None] = [None]
    if targeted:
        opened = opening.opened(task)
        calls.insert(0, lambda: opened.call(feed))
        clocks.insert(0, opened.took)
        providers, notes = opened.providers, list(opened.notes)
    before, why = _before(task, feed) if BEFORE in task.inputs else (None, [])
    if before is not None:
        calls, clocks = [*calls, before], [*clocks, None]
    turns = in_turns if len(calls) > 1 else measure
    times = turns(calls, options["warmup"], options["runs"], clocks)
    measured = [summary(own) for own in times]
    facts = {
        "providers": providers,
        "dims": options["case"]["dims"],
        "warmup": options["warmup"],
        "runs": options["runs"],
        **measured[0],
        "notes": [*notes, *why, *load_notes(load, machine.cores())],
    }
    if before is not None:
        facts["before"] = {"p50": measured[1]["p50"]}
    if targeted:
        facts |= {"target": options["target"]["name"], "onnxruntime_p50": measured[1]["p50"]}
    return Outcome(facts=facts)


def _before(task: Task, feed: Arrays) -> tuple[Callable[[], object] | None, list[str]]:
    """A run of the graph before precision was lost, opened as the final one is; None and why where it can't be timed."""
    from onnxbuild.runtimes import onnxruntime

    path = task.inputs[BEFORE]
    said = "the graph before precision is lost was not timed beside this one"
    needed = COPIES * sum(Path(file).stat().st_size for file in (path, *external.named_by(path)))
    free = memory.available()
    if needed > free:
        return None, [f"{said}: it may take {units.size(needed)} of memory, of which {units.size(free)} are free"]
    try:
        session, _, _ = onnxruntime.open_session(path, task.options["runtime"], Path(task.scratch))
        call = onnxruntime.caller(session, [value.name for value in session.get_outputs()])
        call(feed)
    except StageError as error:
        return None, [f"{said}: {error.fact}"]
    except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no class; a card's memory may be too small
        return None, [f"{said}: onnxruntime can't run it: {onnxruntime.first_line(error)}"]
    return lambda: call(feed), []


def in_turns(
    calls: Sequence[Callable[[], object]],
    warmup: int,
    runs: int,
    clocks: Sequence[Callable[[], int] | None] = (None, None),
) -> list[list[int]]:
    """As `measure` of two calls, but that a turn is several runs, and the call that starts is another one each time.

    The threads of an onnxruntime session spin for a while after a run, and slow the other session down: on two cores, run
    by run, float32 took about 1.5 times as long as alone, and the same model in int8 2.3 times. So a rest comes before
    each turn, and then, where warm-up runs are asked for at all, one that is not timed.
    """
    measure(calls, warmup, 0)
    times: list[list[int]] = [[], []]
    turns = min(TURNS, runs)
    for turn in range(turns):
        share = runs * (turn + 1) // turns - runs * turn // turns
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            time.sleep(REST)
            times[which] += measure([calls[which]], min(warmup, 1), share, [clocks[which]])[0]
    return times


def measure(
    calls: Sequence[Callable[[], object]],
    warmup: int,
    runs: int,
    clocks: Sequence[Callable[[], int] | None] = (),
) -> list[list[int]]:
    """The wall time of each run of each call in nanoseconds, after `warmup` runs that are not timed; they take turns.

    `clocks` say how long the last run took of those calls that have a clock of their own.
    """
    for _ in range(warmup):
        for call in calls:
            call()
    times: list[list[int]] = [[] for _ in calls]
    for _ in range(runs):
        for call, own, clock in zip(calls, times, clocks or [None] * len(calls), strict=True):
            start = time.perf_counter_ns()
            call()
            wall = time.perf_counter_ns() - start
            own.append(wall if clock is None else clock())
    return times


def summary(nanoseconds: Sequence[int]) -> dict[str, Json]:
    """Mean, percentiles and `KEPT` quantiles (numpy's, interpolated linearly) in milliseconds, and runs per second.

    Of `KEPT` runs or fewer, the quantiles are the runs themselves, the fastest first; to the microsecond.
    """
    import numpy as np

    milliseconds = np.asarray(nanoseconds, np.float64) / 1e6
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    mean = float(milliseconds.mean())
    latencies = {"mean": mean, "p50": float(p50), "p90": float(p90), "p99": float(p99)}
    steps = np.linspace(0, 100, min(len(milliseconds), KEPT)) if len(milliseconds) > 1 else [50]
    quantiles = [round(float(value), 3 if p50 > 0.1 else 6) for value in np.percentile(milliseconds, steps)]
    return {**latencies, "throughput": 1000.0 / mean, "quantiles": quantiles}


def machine_load() -> float:
    """How many processes wanted to run during the last minute, on average; 0 where the system doesn't say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has no such number
        return 0.0


def load_notes(load: float, cores: int) -> list[str]:
    """What to say about a machine that had other work to do."""
    if load <= cores:
        return []
    return [f"machine was busy: load average {load:.1f} on {cores} cores at the start; expect slower numbers"]
