"""What the Markdown and HTML forms show, in their order and grouping, before any looks.

Pure: a report in, small frozen values out. Texts are as they came; the templates' environments escape them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import dag, figures
from onnxbuild.report.types import Graph, Report, StageReport
from onnxbuild.text import units

LOG_LOW, LOG_HIGH = -5.0, 1.0  # powers of ten of error / tolerance at the two ends of a headroom bar
TOLERANCE_AT = 100 * -LOG_LOW / (LOG_HIGH - LOG_LOW)  # where on the bar, in percent, the tolerance lies
_ORDER = {"failed": 0, "not run": 1, "vacuous": 2, "passed": 3}


@dataclass(frozen=True, slots=True)
class Row:
    row: Verdict
    ratio: float | None
    bar: float | None  # length of the bar in percent of its track


@dataclass(frozen=True, slots=True)
class Group:
    """The comparisons of one parity stage: failing ones first, then by how near they are to the tolerance."""

    stage: str
    rows: list[Row]
    counts: dict[str, int]  # status to how many, only those there are
    worst: Row | None
    max_abs: float | None
    status: str  # of the worst row


@dataclass(frozen=True, slots=True)
class OpRow:
    op: str
    counts: list[int]  # per graph
    deltas: list[int]  # to the graph before; 0 for the first
    changed: bool


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    detail: str = ""
    tone: str = ""  # "good", "bad", "warn" or none


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dynamic dimension: its range as the recipe declares it, and the sizes that were compared, in words."""

    name: str
    declared: str
    compared: str


@dataclass(frozen=True, slots=True)
class Node:
    """A stage in the picture; `share` is its time as a part of the longest stage's."""

    stage: StageReport
    box: dag.Box
    share: float


def row_view(row: Verdict) -> Row:
    """A verdict with the width of its bar."""
    ratio = figures.ratio(row)
    return Row(row, ratio, None if ratio is None else bar(ratio))


def bar(ratio: float) -> float:
    """Where an error over its tolerance lies on a headroom bar, in percent: logarithmic, 0 only for no error at all."""
    if ratio <= 0:
        return 0.0
    place = (math.log10(min(ratio, 1e300)) - LOG_LOW) / (LOG_HIGH - LOG_LOW)
    return round(100 * min(max(place, 0.015), 1.0), 1)


def parity_groups(rows: Sequence[Verdict]) -> list[Group]:
    """The parity rows by stage, in the order in which the stages came."""
    stages = list(dict.fromkeys(row.stage for row in rows))
    return [_group(stage, [row for row in rows if row.stage == stage]) for stage in stages]


def _group(stage: str, rows: Sequence[Verdict]) -> Group:
    views = [row_view(row) for row in rows]
    views.sort(key=lambda view: (_ORDER[view.row.status], -(view.ratio or 0.0)))
    compared = [view for view in views if view.ratio is not None]
    worst = max(compared, key=lambda view: view.ratio or 0.0, default=None)
    errors = [row.max_abs for row in rows if row.max_abs is not None]
    counts = {status: sum(row.status == status for row in rows) for status in _ORDER}
    present = {status: number for status, number in counts.items() if number}
    return Group(stage, views, present, worst, max(errors, default=None), views[0].row.status)


def op_table(graphs: Sequence[Graph]) -> list[OpRow]:
    """Op types by graph: the ones that a pass changed first, each part by how many there are."""
    rows = []
    for op in sorted({op for graph in graphs for op in graph.ops}):
        counts = [graph.ops.get(op, 0) for graph in graphs]
        rows.append(OpRow(op, counts, deltas(counts), len(set(counts)) > 1))
    return sorted(rows, key=lambda row: (not row.changed, -max(row.counts), row.op))


def deltas(counts: Sequence[int]) -> list[int]:
    """Each count less the one before it, 0 for the first."""
    return [after - before for before, after in zip([*counts[:1], *counts], counts, strict=False)]


def picture(stages: Sequence[StageReport]) -> tuple[dag.Picture, list[Node]]:
    """The stage DAG as boxes and arrows."""
    drawing = dag.layout({stage.name: stage.needs for stage in stages})
    by_name = {stage.name: stage for stage in stages}
    longest = max((stage.seconds or 0.0 for stage in stages), default=0.0)
    return drawing, [
        Node(by_name[box.name], box, (by_name[box.name].seconds or 0.0) / longest if longest else 0.0)
        for box in drawing.boxes
    ]


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    counts = figures.statuses(report.stages)
    took = units.seconds(report.run.seconds)
    if report.status == "interrupted":
        return f"Interrupted after {took}, with {units.plural(counts['built'], 'stage')} built. Nothing was published."
    if report.status == "failed":
        names = list(dict.fromkeys(failure.stage for failure in report.failures))
        where = f" at {names[0]}" if len(names) == 1 else f" at {len(names)} stages" if names else ""
        published = "" if report.artifacts else " Nothing was published."
        return f"Failed{where} after {took}.{published}"
    if figures.up_to_date(report):
        found = f"{units.plural(counts['cached'], 'stage')} were found in the store"
        rest = f", and {counts['skipped']} can't be run" if counts["skipped"] else ""
        return f"Up to date: {found if rest else f'all {found}'}{rest}."
    found = f", {counts['cached']} found in the store" if counts["cached"] else ""
    return f"Built in {took}: {units.plural(counts['built'], 'stage')} run{found}."


def parity_sentence(report: Report) -> str:
    """What parity amounts to in a few sentences, and which targets were not run; "" where nothing was planned."""
    parts = [_parity(report)] if report.parity else []
    for level in ("emulated", "built, not run", "skipped"):
        names = [target.name for target in report.targets if target.level == level]
        parts += [f"{level.capitalize()}: {', '.join(names)}."] if names else []
    return " ".join(parts)


def _parity(report: Report) -> str:
    total = len(report.parity)
    by = {status: sum(row.status == status for row in report.parity) for status in _ORDER}
    compared = by["passed"] + by["failed"]
    parts = []
    if by["failed"]:
        parts.append(
            f"{by['failed']} of {units.plural(compared, 'comparison')} with the source model out of tolerance."
        )
    elif compared:
        every = "The one comparison" if compared == 1 else f"All {compared:,} comparisons"
        verb = "is" if compared == 1 else "are"
        worst = figures.closest(report.parity)
        near = f"; the closest uses {units.share(figures.ratio(worst))} of it" if worst else ""
        if worst and worst.resolution is not None:
            near += f", where results for other data are {units.share(worst.resolution)} of it apart"
        parts.append(f"{every} with the source model {verb} within tolerance{near}.")
    rest = [status for status in ("not run", "vacuous") if by[status]]
    parts += [f"{by[status]} of {total:,} {'was' if by[status] == 1 else 'were'} {status}." for status in rest]
    return " ".join(parts)


def tiles(report: Report) -> list[Tile]:
    """The summary figures, only those there are."""
    found = []
    graph = figures.final_graph(report)
    size = figures.published_bytes(report)
    if size is not None:
        what = [units.plural(graph.nodes, "node")] if graph else []
        if report.artifacts and (made := sum(bool(target.files) for target in report.targets)):
            what.append(units.plural(made, "target"))
        found.append(Tile("Published" if report.artifacts else "Last graph", units.size(size), ", ".join(what)))
    if graph:
        found.append(Tile("Parameters", units.count(graph.parameters), f"{graph.parameters:,}"))
        found.append(Tile("Opset", str(graph.opset_imports.get("", "–")), f"IR version {graph.ir_version}"))
    if report.benchmark:
        dims = sizes(report.benchmark.dims)
        detail = f"p50 at {dims}" if dims else "p50"
        tone = "warn" if figures.disturbed(report.benchmark) else ""
        found.append(Tile("Latency", units.milliseconds(report.benchmark.p50), detail, tone))
    found.extend(_parity_tile(report))
    counts = figures.statuses(report.stages)
    others = [f"{counts[s]} {s}" for s in ("cached", "failed", "skipped") if counts[s]]
    found.append(Tile("Stages built", f"{counts['built']} of {len(report.stages)}", ", ".join(others)))
    saved = sum(stage.seconds or 0.0 for stage in report.stages if stage.status == "cached")
    found.append(Tile("Time", units.seconds(report.run.seconds), f"{units.seconds(saved)} saved" if saved else ""))
    return found


def _parity_tile(report: Report) -> list[Tile]:
    worst = figures.closest(report.parity)
    if worst is None:
        return []
    ratio = figures.ratio(worst) or 0.0
    return [Tile("Largest error", units.share(ratio), "of the tolerance", "bad" if ratio > 1 else "good")]


def sizes(dims: Mapping[str, Any]) -> str:
    """Sizes by dimension: "batch=2, sequence=128"."""
    return ", ".join(f"{name}={value}" for name, value in dims.items())


def tested(report: Report) -> dict[str, list[int]]:
    """For each dynamic dimension the sizes at which the reference was computed, in order."""
    seen: dict[str, set[int]] = {}
    for stage in report.stages:
        for case in stage.facts.get("cases", []):
            for name, value in case.get("dims", {}).items():
                seen.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in sorted(seen.items())}


def dimensions(report: Report) -> list[Dimension]:
    """Each dynamic dimension: what is declared of it, and the sizes that were compared."""
    compared = tested(report)
    names = list(dict.fromkeys((*report.dims, *compared)))
    return [Dimension(name, _declared(report.dims.get(name)), units.sizes(compared.get(name, []))) for name in names]


def _declared(dim: Any) -> str:
    """A range, or what a dimension is of others, in words."""
    if isinstance(dim, str):
        return f"= {dim}"
    if not isinstance(dim, Mapping):
        return "1 or more"
    low, high, step = dim.get("min", 1), dim.get("max"), dim.get("multiple_of", 1)
    limits = f"{low} or more" if high is None else f"{low} alone" if low == high else f"{low} to {high}"
    return limits if step == 1 else f"{limits}, multiples of {step}"


def exporter(report: Report) -> str:
    """What exported the model, at which opset: "torchscript, opset 17"; "" for an .onnx file, and where nothing did."""
    names = [stage.facts["exporter"] for stage in report.stages if "exporter" in stage.facts]
    if not names or names[0] == "none":
        return ""
    opset = report.graphs[0].opset_imports.get("") if report.graphs else None
    return f"{names[0]}, opset {opset}" if opset is not None else f"{names[0]}"


def source_facts(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The recipe's model section flattened to dotted keys."""
    found: list[tuple[str, str]] = []
    for key, value in source.items():
        if isinstance(value, Mapping) and value:
            found.extend((f"{key}.{inner}", text) for inner, text in source_facts(value))
        elif value not in ({}, [], ""):
            found.append((key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)))
    return found
