"""What a terminal shows of a report in columns: graphs, targets, files. Lines of at most 80 columns, but for long names.

Pure: a report in, lines out.
"""

from __future__ import annotations

from collections.abc import Callable

from onnxbuild.report import figures
from onnxbuild.report.types import Report, Target
from onnxbuild.text import units


def graphs(report: Report) -> list[str]:
    """The graphs, and how near to the tolerance each one came."""
    if not report.graphs:
        return []
    lines = [f"  {'graph':<30}{'nodes':>8}{'size':>12}{'error / tolerance':>22}"]
    for graph in report.graphs:
        name, near = units.clip(units.line(graph.stage), 29), figures.nearness(report, graph.stage)
        lines.append(f"  {name:<30}{graph.nodes:>8,}{units.size(graph.bytes):>12}{near:>22}")
    return lines


def targets(report: Report) -> list[str]:
    """The targets: how near, how fast beside onnxruntime, at which level compared; below that, why some were not run."""
    if not report.targets:
        return []
    lines = [f"  {'target':<10}{'size':>10}{'error / tolerance':>19}{'p50 / onnxruntime':>21}  compared"]
    lines += [_target(report, target) for target in report.targets]
    for target in report.targets:
        if not figures.was_compared(target):
            lines += units.wrapped(f"  {target.name}: ", figures.compared(target))
    return lines


def _target(report: Report, target: Target) -> str:
    near, latency = figures.nearness(report, target.stage), figures.beside_onnxruntime(target)
    return f"  {target.name:<10}{figures.size_of(target):>10}{near:>19}{latency:>21}  {target.level}"


def scores(report: Report) -> list[str]:
    """The metric of the source model and of each graph, how much worse it is there, and what may be lost."""
    if not report.scores:
        return []
    first = report.scores[0]
    lines = [f"  {units.clip(units.line(first.function), 29):<30}{'value':>12}{'drop':>12}{'allowed':>12}"]
    for row in report.scores:
        told = f"{units.value(row.value):>12}{figures.drop(row):>12}"
        allowed = units.value(row.max_drop) if row.drop is not None else ""
        lines.append(f"  {units.clip(units.line(figures.scored(row)), 29):<30}{told}{allowed:>12}".rstrip())
    return lines


def files(report: Report, shown: Callable[[str], object]) -> list[str]:
    """What was published, a target's or a model package's as one folder; `shown` gives the path that a person sees."""
    lines: list[str] = []
    for folder in dict.fromkeys(artifact.path.partition("/")[0] for artifact in report.artifacts):
        own = [artifact for artifact in report.artifacts if artifact.path.partition("/")[0] == folder]
        if own[0].path != folder:
            number, size = units.plural(len(own), "file"), units.size(sum(artifact.bytes for artifact in own))
            lines.append(f"  {shown(folder)}/  {number}, {size}")
        else:
            lines += [f"  {shown(artifact.path)}  {units.size(artifact.bytes)}" for artifact in own]
    return lines


def notes(report: Report) -> list[str]:
    """The report's notes, less those that `targets` has said."""
    said = {
        f"{target.stage}: {figures.compared(target)}" for target in report.targets if not figures.was_compared(target)
    }
    return [note for note in figures.notes(report) if note not in said]
