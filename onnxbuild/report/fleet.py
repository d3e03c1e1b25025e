"""The page over all recipes that publish into one folder: what is on it, before any looks. Pure: reports in, values out.

It holds nothing of the moment at which it is written, so that it changes only with a recipe's report.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxbuild.report import figures, history, view
from onnxbuild.report.types import Report, Target
from onnxbuild.report.view import Tile
from onnxbuild.text import units

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Metric:
    """What a recipe's metric came to, in words."""

    value: str
    source: str  # the source model's
    passed: bool
    told: str


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe. `page` is its report's, relative to the folder; `worst` its comparison with the least headroom."""

    name: str
    page: str
    report: Report
    status: str
    built: str
    age: str
    size: str
    parameters: str
    opset: str
    precision: str
    latency: str
    at: str
    latency_share: float  # of the slowest, in percent
    loss: figures.Loss | None  # beside the graph before precision was lost on purpose
    worst: view.Row | None
    metric: Metric | None
    targets: list[Target]


@dataclass(frozen=True, slots=True)
class Fleet:
    rows: list[Row]
    tiles: list[Tile]
    opsets: list[tuple[str, int, float]]  # opset, how many recipes, their share in percent
    unread: list[str]  # folders whose report can't be read


def of(found: Mapping[str, Report], unread: Sequence[str]) -> Fleet:
    """Everything on the page, of reports by their folders' names; those of builds that failed first, then by name.

    `unread` are the folders whose report can't be read.
    """
    reports = list(found.values())
    newest = max(filter(None, map(_built, reports)), default=None)
    slowest = max((report.benchmark.p50 for report in reports if report.benchmark), default=0.0)
    ordered = sorted(found.items(), key=lambda item: (item[1].status == "done", item[1].name))
    rows = [_row(folder, report, newest, slowest) for folder, report in ordered]
    opsets = Counter(row.opset for row in rows if row.opset)
    most = max(opsets.values(), default=0)
    spread = [(opset, count, 100 * count / most) for opset, count in sorted(opsets.items(), key=_by_number)]
    return Fleet(rows, _tiles(rows, reports), spread, sorted(unread))


def _by_number(item: tuple[str, int]) -> int:
    return int(item[0])


def _row(folder: str, report: Report, newest: dt.datetime | None, slowest: float) -> Row:
    graph, bench = figures.final_graph(report), report.benchmark
    since, built, closest = history.since(report), _built(report), figures.closest(report.parity)
    return Row(
        report.name,
        f"{folder}/report.html",
        report,
        "built" if report.status == "done" else report.status,
        history.minute(since.last.started if since else report.run.started),
        _age(built, newest),
        units.size(figures.published_bytes(report)) if report.artifacts else "",
        units.count(graph.parameters) if graph else "",
        str(graph.opset_imports.get("", "")) if graph else "",
        figures.precisions(graph) if graph else "",
        units.milliseconds(bench.p50) if bench else "",
        f"at {view.sizes(bench.dims)}" if bench and bench.dims else "",
        round(100 * bench.p50 / slowest, 1) if bench and slowest else 0.0,
        figures.beside_before(report),
        view.row_view(closest) if closest else None,
        _metric(report),
        report.targets,
    )


def _metric(report: Report) -> Metric | None:
    """The metric of what a recipe publishes, or of the graph that failed by it."""
    row = figures.score(report)
    if row is None or row.drop is None:
        return None
    source = units.value(report.scores[0].value)
    told = f"{row.function} on {units.plural(row.rows, 'sample')}; the source model's is {source}"
    if row.drop > 0:
        told += f", worse by {figures.drop(row)} of {units.value(row.max_drop)} allowed"
    return Metric(units.value(row.value), source, row.passed, told)


def _built(report: Report) -> dt.datetime | None:
    """When anything of it was last built."""
    since = history.since(report)
    try:
        found = dt.datetime.fromisoformat(since.last.started if since else report.run.started)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _age(built: dt.datetime | None, newest: dt.datetime | None) -> str:
    if built is None or newest is None:
        return ""
    days = (newest - built).total_seconds() / _DAY
    return f"{units.plural(int(days), 'day')} older" if days >= 1 else ""


def _tiles(rows: Sequence[Row], reports: Sequence[Report]) -> list[Tile]:
    built = sum(row.status == "built" for row in rows)
    told = [Tile("Built", f"{built:,} of {len(rows):,}", "recipes", "good" if built == len(rows) else "bad")]
    told.append(Tile("Published", units.size(sum(made.bytes for one in reports for made in one.artifacts)), "in all"))
    near = max((row for row in rows if row.worst), key=lambda row: row.worst.ratio or 0.0, default=None)  # type: ignore[union-attr]  # those with one
    if near and near.worst and near.worst.ratio is not None:
        tone = "bad" if near.worst.ratio > 1 else "good"
        told.append(Tile("Largest error", units.share(near.worst.ratio), f"of the tolerance, {near.name}", tone))
    slow = max(rows, key=lambda row: row.latency_share, default=None)
    if slow and slow.latency:
        told.append(Tile("Slowest", slow.latency, slow.name))
    opsets = sorted({int(row.opset) for row in rows if row.opset})
    if opsets:
        told.append(
            Tile("Opsets", " to ".join(dict.fromkeys((str(opsets[0]), str(opsets[-1])))), "of the default domain")
        )
    kinds = Counter(row.precision for row in rows if row.precision)
    if kinds:
        told.append(Tile("Precision", kinds.most_common(1)[0][0], _kinds(kinds)))
    return told


def _kinds(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) if len(kinds) > 1 else "all weights"
