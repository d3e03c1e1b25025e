"""The charts of a report: where their marks lie, in percent of a chart's width, before any looks.

Pure: a report in, small frozen values out. Widths are shares, so that a page draws a chart as wide as there is room and its
text in the size of all other text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import figures
from onnxbuild.report.types import BenchmarkReport, Graph, Report, StageReport
from onnxbuild.text import units

LEAST, MOST = -8, 8  # powers of ten of error / tolerance: what lies beyond is drawn at the edge
LABELS = 7  # at most, on an axis
DOTS = 120  # of one stage: more would lie upon one another
FEWEST, MANY, HIGH, LEAST_HIGH = 8, 32, 96, 2.5  # bins of a distribution: how many, and their heights in pixels
OPS = 12  # op types that are drawn; the table has all
FAR = 6.0  # times as far above the median as p90 is: what took longer is told, not drawn


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One comparison."""

    at: float
    beyond: bool  # the tolerance
    title: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """The comparisons of one parity stage; the last dot is the worst. `resolution` is where other data's results lie."""

    stage: str
    dots: list[Dot]
    resolution: float | None
    worst: str
    apart: str


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over their tolerances on one logarithmic axis; `tolerance` is where 1 lies."""

    rows: list[ErrorRow]
    ticks: list[Tick]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, or one of a pair."""

    label: str
    share: float  # of the longest, in percent
    text: str
    before: float = 0.0
    look: str = ""


@dataclass(frozen=True, slots=True)
class Bin:
    """Runs that took about equally long; its height in pixels."""

    at: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Runs by how long they took, in bins of one width. `beyond` says what is not drawn."""

    bins: list[Bin]
    width: float
    marks: list[Tick]
    ticks: list[Tick]
    beyond: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage took; shares of the most that one took, in percent."""

    stage: str
    status: str
    seconds: float
    time: str
    memory: float
    peak: str


def errors(report: Report) -> Errors | None:
    """Each parity stage's errors as shares of what is allowed; None where nothing was compared."""
    stages = list(dict.fromkeys(row.stage for row in report.parity))
    compared = {name: _compared(report.parity, name) for name in stages}
    compared = {name: found for name, found in compared.items() if found}
    if not compared:
        return None
    spans = [value for found in compared.values() for value, row in found]
    spans += [row.resolution for found in compared.values() for _, row in found if row.resolution is not None]
    powers = [math.log10(value) for value in spans if 0 < value < math.inf]
    low = max(min([math.floor(power) for power in powers] + [-1]), LEAST)
    high = min(max([math.ceil(power) for power in powers] + [1]), MOST)

    def at(value: float) -> float:
        power = math.log10(value) if 0 < value < math.inf else low if value <= 0 else high
        return round(100 * min(max((power - low) / (high - low), 0.0), 1.0), 2)

    rows = [_error_row(name, found, at) for name, found in compared.items()]
    return Errors(rows, _decades(low, high), at(1.0))


def _compared(rows: Iterable[Verdict], stage: str) -> list[tuple[float, Verdict]]:
    found = [(figures.ratio(row), row) for row in rows if row.stage == stage]
    return sorted(((value, row) for value, row in found if value is not None), key=lambda pair: pair[0])


def _error_row(stage: str, found: Sequence[tuple[float, Verdict]], at: Callable[[float], float]) -> ErrorRow:
    step = max(1, math.ceil(len(found) / DOTS))
    drawn = [*found[:-1:step], found[-1]]
    dots = [Dot(at(value), value > 1, f"{row.output} at {row.case}: {units.share(value)}") for value, row in drawn]
    apart = [row.resolution for _, row in found if row.resolution is not None]
    return ErrorRow(
        stage, dots, at(min(apart)) if apart else None, units.share(found[-1][0]), units.share(min(apart, default=None))
    )


def _decades(low: int, high: int) -> list[Tick]:
    """Powers of ten as multiples of the tolerance, few enough to be read; the tolerance itself among them."""
    step = math.ceil((high - low) / (LABELS - 1))
    powers = [power for power in range(low, high + 1) if power % step == 0]
    return [Tick(round(100 * (power - low) / (high - low), 2), _times(power)) for power in powers]


def _times(power: int) -> str:
    if power == 0:
        return "tolerance"
    return f"{10**power:,} ×" if power > 0 else f"{10.0**power:.{-power}f} ×" if power >= -4 else f"{10.0**power:.0e} ×"


def latency(measured: BenchmarkReport) -> Latency | None:
    """The distribution of the latencies; None where too few are kept for one."""
    kept = measured.quantiles
    if len(kept) < 5:
        return None
    far = measured.p50 + FAR * (measured.p90 - measured.p50)
    low, high = kept[0], max(value for value in kept if value <= far) if kept[0] <= far else kept[-1]
    if high <= low:
        return None
    named = (("p50", measured.p50), ("p90", measured.p90), ("p99", measured.p99))
    marks = [Tick(_at(value, low, high), name) for name, value in named if low <= value <= high]
    ticks = [Tick(25.0 * n, units.milliseconds(low + (high - low) * n / 4)) for n in range(5)]
    share = 100 * sum(value > high for value in kept) / len(kept)
    beyond = f"Not drawn: {share:.2g} % of the runs, which took up to {units.milliseconds(kept[-1])}." if share else ""
    number = min(max(round(2 * math.sqrt(len(kept))), FEWEST), MANY)
    return Latency(_bins(kept, low, high, number), round(100 / number, 3), marks, ticks, beyond)


def _bins(kept: Sequence[float], low: float, high: float, number: int) -> list[Bin]:
    counts = [0] * number
    for value in kept:
        if value <= high:
            counts[min(int(number * (value - low) / (high - low)), number - 1)] += 1
    edges = [low + (high - low) * n / number for n in range(number + 1)]
    return [
        Bin(
            round(100 * n / number, 3),
            round(max(HIGH * count / max(counts), LEAST_HIGH), 1) if count else 0.0,
            f"{100 * count / len(kept):.2g} % took {units.milliseconds(edges[n])} to {units.milliseconds(edges[n + 1])}",
        )
        for n, count in enumerate(counts)
    ]


def _at(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)


def ops(graphs: Sequence[Graph]) -> list[Bar]:
    """Op types in the first and in the last graph: those that changed first, then the most frequent."""
    if not graphs:
        return []
    first, last = graphs[0].ops, graphs[-1].ops
    most = max([*first.values(), *last.values()], default=0)
    names = sorted(
        {*first, *last}, key=lambda op: (first.get(op) == last.get(op), -max(first.get(op, 0), last.get(op, 0)), op)
    )
    return [_op(name, first.get(name, 0), last.get(name, 0), most) for name in names[:OPS]]


def _op(name: str, before: int, after: int, most: int) -> Bar:
    look = "less" if after < before else "more" if after > before else ""
    text = f"{before:,} → {after:,}" if look else f"{after:,}"
    return Bar(name, round(100 * after / most, 1), text, round(100 * before / most, 1), look)


def costs(stages: Sequence[StageReport]) -> list[Cost]:
    """Time and peak memory of each stage that has either."""
    ran = [stage for stage in stages if stage.seconds is not None]
    slowest = max((stage.seconds or 0.0 for stage in ran), default=0.0)
    largest = max((stage.peak_rss_bytes or 0 for stage in ran), default=0)
    return [
        Cost(
            stage.name,
            stage.status,
            round(100 * (stage.seconds or 0.0) / slowest, 1) if slowest else 0.0,
            units.seconds(stage.seconds),
            round(100 * (stage.peak_rss_bytes or 0) / largest, 1) if largest else 0.0,
            units.size(stage.peak_rss_bytes),
        )
        for stage in ran
    ]
