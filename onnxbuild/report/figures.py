"""The few figures that tell how a build went; every form of the report and the terminal show the same ones.

Pure: takes a report, knows no files and no looks.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from onnxbuild.parity.verdict import Verdict
from onnxbuild.report.types import BenchmarkReport, Graph, Report, Score, StageReport, Status, Target
from onnxbuild.text import units

LEVELS = {level: level for level in ("emulated", "built, not run", "skipped")} | {"run": "run on this machine"}
APART = 2.0  # p90 over p50, from which on a latency is no single figure
_MADE_BY = re.compile(r"(?P<stage>\S+)(?: and (?P<more>\d+) more)?: (?P<text>.*)", re.DOTALL)

UNCHANGED = "changed nothing: its graph is byte for byte the one before it, and nothing is lost without it"


def ratio(row: Verdict) -> float | None:
    """The share of what is allowed that the error takes: above 1 fails, infinite where no number tells how far off a
    failure is (NaN on one side, integers that differ), None where nothing was compared.
    """
    if row.status in ("vacuous", "not run"):
        return None
    return row.headroom if row.headroom is not None or row.passed else math.inf


def closest(rows: Iterable[Verdict]) -> Verdict | None:
    """The compared row that is nearest to its tolerance, or furthest beyond it."""
    compared = [(ratio(row), row) for row in rows]
    measured = [(value, row) for value, row in compared if value is not None]
    return max(measured, key=lambda pair: pair[0])[1] if measured else None


def nearness(report: Report, graph: str) -> str:
    """How near to its tolerance what a stage made came, at worst: "4.4 %", or why nothing says so."""
    proofs = {stage.name for stage in report.stages if graph in stage.needs}
    rows = [row for row in report.parity if row.stage in proofs]
    worst = closest(rows)
    if worst is not None:
        hollow = sum(row.status == "vacuous" for row in rows)
        return f"{units.share(ratio(worst))}{f', {hollow} vacuous' if hollow else ''}"
    return rows[0].status if rows else "–"


def scored(row: Score) -> str:
    """What a metric is of, in words."""
    return row.of or "source model"


def drop(row: Score) -> str:
    """How much worse than the source model's a metric is, "" for that itself."""
    return "" if row.drop is None else units.value(float(f"{row.drop:.3g}"))


def score(report: Report) -> Score | None:
    """What the recipe's metric came to: of the final graph, or where the build failed by it."""
    graph = final_graph(report)
    failed = (row for row in report.scores if not row.passed)
    final = (row for row in report.scores if graph is not None and row.of == graph.stage)
    return next(failed, None) or next(final, None)


class Allowance(NamedTuple):
    """What is allowed of an output beyond the default, from which stage on, how near it came, and why it is right."""

    stages: str
    output: str
    allowed: str
    reason: str


def allowances(report: Report) -> list[Allowance]:
    """What the recipe gives reasons for, or compares in other ways than element by element, each once."""
    found: dict[tuple[Any, ...], list[Verdict]] = {}
    for row in report.parity:
        if row.status != "not run" and (row.gates or row.reason):
            asked = tuple((gate.comparator, gate.least) for gate in row.gates)
            found.setdefault((row.output, row.rtol, row.atol, asked, row.reason), []).append(row)
    return [
        Allowance(_first(rows), output, "; ".join([*_elements(rows[0]), *gates_at_worst(rows)]) or "equal", reason)
        for (output, *_, reason), rows in found.items()
    ]


def _elements(row: Verdict) -> list[str]:
    return [f"rtol {row.rtol:g}, atol {row.atol:g}"] if row.rtol is not None and row.atol is not None else []


def gates_at_worst(rows: Sequence[Verdict]) -> list[str]:
    """What each comparator makes of the case that is furthest off by it, in its own unit."""
    told = []
    for name in dict.fromkeys(gate.comparator for row in rows for gate in row.gates):
        own = [(gate, row) for row in rows for gate in row.gates if gate.comparator == name]
        gate, row = max(own, key=lambda pair: (not pair[0].passed, pair[0].loss or 0.0))
        told.append(f"{gate.told}{f' at {row.case}' if gate.loss else ''}")
    return told


def _first(rows: Sequence[Verdict]) -> str:
    stages = list(dict.fromkeys(row.stage for row in rows))
    return f"{stages[0]} and {len(stages) - 1} more" if stages[1:] else stages[0]


def was_compared(target: Target) -> bool:
    """Whether anything ran a target's files, be it what stands in for its runtime."""
    return target.level in ("run", "emulated")


def size_of(target: Target) -> str:
    """The size of a target's files, "–" where it has none."""
    return units.size(sum(file.bytes for file in target.files)) if target.files else "–"


def levels(report: Report) -> dict[str, str]:
    """How the targets were compared that nothing but a stand-in ran, by the stage that did."""
    emulated = {target.stage for target in report.targets if target.level == "emulated"}
    return {stage.name: "emulated" for stage in report.stages if emulated & set(stage.needs)}


def compared(target: Target) -> str:
    """How a target was held against the source model, in words, and what is not known of it."""
    level = LEVELS[target.level]
    return f"{level}: {target.why}" if target.why else level


def beside_onnxruntime(target: Target) -> str:
    """A target's latency and that of onnxruntime in the same run, where both were measured."""
    if target.p50 is None or target.onnxruntime_p50 is None:
        return "–"
    return f"{units.milliseconds(target.p50)} / {units.milliseconds(target.onnxruntime_p50)}"


class Loss(NamedTuple):
    """What the final graph is beside the one before precision was lost on purpose."""

    name: str  # "float32", "" where that graph has no weights
    latency: float  # the final graph's p50 by the other's
    size: float | None  # the same of graph and tensors; None where one of them was not described
    told: str


def beside_before(report: Report) -> Loss | None:
    """Latency and size beside the graph before the first pass that loses precision on purpose, timed in the same run."""
    bench, final = report.benchmark, final_graph(report)
    if bench is None or bench.before is None:
        return None
    name, size, latency = "", None, bench.p50 / bench.before.p50
    p50, other = units.milliseconds(bench.p50), units.milliseconds(bench.before.p50)
    graph = next((graph for graph in report.graphs if graph.stage == bench.before.stage), None)
    if graph is not None:
        name = precision(graph)
    whose = f"the {name} graph's" if name else "the earlier graph's"
    told = f"p50 {p50} is {units.times(latency)} {whose} {other} in the same run"
    if graph is not None and final is not None:
        size = final.bytes / graph.bytes
        told += f", size {units.size(final.bytes)} {units.times(size)} its {units.size(graph.bytes)}"
    return Loss(name, latency, size, f"{told} ({bench.before.stage})")


def asides(target: Target) -> list[str]:
    """How far off a target is at settings that nothing judges, each in a sentence."""
    return [
        f"{target.name} at {one.setting}: output {one.output} is "
        + (f"at most {one.max_abs:.2g} off" if one.max_abs is not None else "not comparable")
        + (f", of values that spread over {one.spread:.2g}" if one.spread is not None else "")
        for one in target.asides
    ]


def statuses(stages: Iterable[StageReport]) -> dict[Status, int]:
    """How many stages were built, cached, failed, skipped."""
    found = Counter(stage.status for stage in stages)
    return {"built": found["built"], "cached": found["cached"], "failed": found["failed"], "skipped": found["skipped"]}


def up_to_date(report: Report) -> bool:
    """Whether the run found everything in the store. What a run that is done has skipped can't be run here at all."""
    return report.status == "done" and all(stage.status in ("cached", "skipped") for stage in report.stages)


def notes(report: Report) -> list[str]:
    """The report's notes and the benchmark's, those that several stages make said once."""
    stages = {stage.name for stage in report.stages}
    measured = [*report.benchmark.notes, *filter(None, [disturbed(report.benchmark)])] if report.benchmark else []
    idle = [f"{graph.stage}: {UNCHANGED}" for graph in report.graphs if not graph.modified]
    where: dict[
        tuple[str, bool], tuple[str, int]
    ] = {}  # a text, and whether stages make it: the first one, and how many
    for note in (*report.notes, *idle, *(f"benchmark: {text}" for text in measured)):
        found = _MADE_BY.fullmatch(note)
        if found and found["stage"] in stages:
            first, count = where.get((found["text"], True), (found["stage"], 0))
            where[found["text"], True] = first, count + 1 + int(found["more"] or 0)
        else:
            where[note, False] = "", 0
    return [_made_by(*made) + text for (text, _), made in where.items()]


def disturbed(measured: BenchmarkReport) -> str:
    """What to say of latencies that lie far apart, the figure and what to do; "" of others."""
    if measured.p90 < APART * measured.p50:
        return ""
    p50, p90 = (units.milliseconds(value) for value in (measured.p50, measured.p90))
    return (
        f"p90 is {measured.p90 / measured.p50:.1f} × p50 ({p90} against {p50}), so these runs were disturbed: compare p50 "
        "alone, or measure again on a machine that does nothing else, with another number of benchmark.runs; where it "
        "stays, set runtime.session.intra_op_num_threads to fewer threads than there are cores"
    )


def _made_by(first: str, count: int) -> str:
    return f"{first}{f' and {count - 1} more' if count > 1 else ''}: " if first else ""


def precision(graph: Graph) -> str:
    """The dtype that most elements of the weights have, "" where there are none."""
    return max(graph.dtypes, key=lambda dtype: (graph.dtypes[dtype], dtype), default="")


def precisions(graph: Graph) -> str:
    """The dtypes of the weights, the most frequent first, less those with under a tenth of all elements; "" of none."""
    counts = sorted(graph.dtypes.items(), key=lambda item: (-item[1], item[0]))
    return " + ".join(dtype for dtype, count in counts if 10 * count >= sum(graph.dtypes.values()) and count)


def final_graph(report: Report) -> Graph | None:
    """The last graph of the chain, if there is one."""
    return report.graphs[-1] if report.graphs else None


def published_bytes(report: Report) -> int | None:
    """The size of what was written, else of the last graph there is."""
    if report.artifacts:
        return sum(artifact.bytes for artifact in report.artifacts)
    graph = final_graph(report)
    return graph.bytes if graph else None
