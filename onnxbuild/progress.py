"""How a run looks on the terminal: a live line while stages run, one line per stage, a summary, failures in full.

The run loop says what happens, this decides the looks. Plain lines without control characters where the stream is no
terminal, no colour where NO_COLOR is set, ASCII where the stream's encoding lacks the marks. Standard library only.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from onnxbuild.report import figures, units
from onnxbuild.report.types import Failure, Graph, Report, StageReport

STILL = 30.0  # seconds between two "still running" lines where there is no live line
REDRAW = 0.1  # seconds between two looks of the live line
LOG_LINES = 12  # of a failed stage's log on the terminal; the report has more
NOTES = 6
_MARKS = {"built": "✓", "cached": "=", "failed": "✗", "skipped": "–"}
_COLOURS = {"built": "32", "cached": "2", "failed": "1;31", "skipped": "2", "bold": "1", "warning": "33"}
_ASCII = str.maketrans({"✓": "+", "✗": "x", "–": "-", "…": "...", "×": "x", "−": "-", "∞": "inf", "·": "-", "│": "|"})


class Screen:
    """A stream and what it can show: colours, a live line, characters beyond ASCII."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.stream = stream
        self.live = stream.isatty() and environ.get("TERM") != "dumb"
        self._colours = self.live and not environ.get("NO_COLOR")
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._ascii = not _can_show(self._encoding)
        self._drawn = False

    @property
    def width(self) -> int:
        """Columns that a line may fill: all but the last, where some terminals wrap early."""
        try:
            return max(os.get_terminal_size(self.stream.fileno()).columns - 1, 20)
        except (OSError, ValueError):
            return 79

    def paint(self, text: str, look: str) -> str:
        return f"\x1b[{_COLOURS[look]}m{text}\x1b[0m" if self._colours and text else text

    def line(self, text: str = "") -> None:
        """Print a line, in place of the live line where there is one."""
        self.clear()
        self._write(f"{text}\n")

    def draw(self, text: str) -> None:
        """Show the live line, cut to the terminal's width."""
        self._write(f"\r\x1b[2K{text if len(text) <= self.width else text[: self.width - 1] + '…'}")
        self._drawn = True

    def clear(self) -> None:
        """Take the live line away."""
        if self._drawn:
            self._write("\r\x1b[2K")
            self._drawn = False

    def _write(self, text: str) -> None:
        if self._ascii:
            text = text.translate(_ASCII)
        self.stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        self.stream.flush()


def _can_show(encoding: str) -> bool:
    try:
        "✓✗–…×−∞·│".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Progress:
    """What the run loop tells, as text: `out` gets progress and verdicts, `errors` failures and warnings.

    With `quiet`, failures are all that is printed. `clock` gives seconds, from any start.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        quiet: bool,
        errors: TextIO,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = Screen(out, environ)
        self._errors = Screen(errors, environ)
        self._quiet = quiet
        self._clock = clock
        self._recipe, self._total, self._done = "", 0, 0
        self._held: list[StageReport] = []  # found in the store; said only if anything else happens
        self._nothing_yet = True
        self._running: dict[str, float] = {}  # stage to the time at which it started
        self._reason: dict[str, str] = {}  # stage to the first reason for running it
        self._said: dict[str, int] = {}  # stage to how often it was said to be still running
        self._drawn_at = 0.0

    def begin(self, recipe: str, total: int) -> None:
        """A recipe of `total` stages begins."""
        self.close()
        self._recipe, self._total, self._done = recipe, total, 0
        self._held, self._nothing_yet = [], True
        self._running, self._reason, self._said = {}, {}, {}

    def started(self, stage: str, why: Sequence[str]) -> None:
        """A stage is really run, for these reasons."""
        self._break_silence()
        self._running[stage] = self._clock()
        self._reason[stage] = why[0] if why else ""
        self._draw()

    def finished(self, stage: StageReport) -> None:
        """A stage came to its end: built, cached, failed or skipped."""
        self._done += 1
        self._running.pop(stage.name, None)
        if stage.status == "cached" and self._nothing_yet:
            self._held.append(stage)
            return
        self._break_silence()
        self._verdict(stage)
        self._draw()

    def tick(self) -> None:
        """Time has passed; to be called every so often while stages run."""
        if self._quiet:
            return
        now = self._clock()
        if self._out.live:
            if now - self._drawn_at >= REDRAW:
                self._draw()
            return
        for stage, started in self._running.items():
            times = int((now - started) // STILL)
            if times > self._said.get(stage, 0):
                self._said[stage] = times
                self._out.line(f"  {units.line(stage)} still running, {units.seconds(times * STILL)}")

    def warn(self, text: str) -> None:
        """Something to know that stops nothing."""
        if not self._quiet:
            self._out.clear()
            self._errors.line(f"{self._errors.paint('warning:', 'warning')} {units.line(text)}")
            self._draw()

    def summary(self, report: Report, dest: Path) -> None:
        """A recipe came to its end, and its report lies in the folder `dest`."""
        self.close()
        if not self._quiet:
            for text in summary(report, dest, self._out):
                self._out.line(text)
        for failure in report.failures:
            for text in failure_text(failure, dest / "report.html", self._errors):
                self._errors.line(text)

    def close(self) -> None:
        """Take the live line away; also right after an interruption."""
        self._out.clear()

    def _break_silence(self) -> None:
        """Something is to be done after all: say what was found in the store until now."""
        self._nothing_yet = False
        for stage in self._held:
            self._verdict(stage)
        self._held = []

    def _verdict(self, stage: StageReport) -> None:
        if self._quiet:
            return
        reason = (
            stage.failure.fact.partition("\n")[0] if stage.failure else "" if stage.status == "cached" else _why(stage)
        )
        took = "" if stage.status == "cached" else units.seconds(stage.seconds)
        start = f"{units.clip(units.line(stage.name), 30):<26} {stage.status:<7} {took:>9}"
        room = self._out.width - len(start) - 4 if self._out.live else len(reason)
        text = f"{start}  {units.clip(units.line(reason), max(room, 1))}".rstrip()
        mark = self._out.paint(_MARKS[stage.status], stage.status)
        self._out.line(f"{mark} {self._out.paint(text, stage.status) if stage.status == 'cached' else text}")

    def _draw(self) -> None:
        if self._quiet or not self._out.live:
            return
        now = self._drawn_at = self._clock()
        if self._running:
            times = ", ".join(f"{units.line(s)} {units.seconds(now - at)}" for s, at in self._running.items())
            reason = units.line(self._reason[next(iter(self._running))])
            self._out.draw(f"… {self._recipe} {self._done}/{self._total}  {times}  {reason}".rstrip())


def _why(stage: StageReport) -> str:
    more = f" (and {len(stage.why) - 1} more)" if len(stage.why) > 1 else ""
    return f"{stage.why[0]}{more}" if stage.why else ""


def summary(report: Report, dest: Path, screen: Screen) -> list[str]:
    """What came of a recipe, in lines of at most 80 columns (but for long file names); one line where nothing was done."""
    if figures.up_to_date(report):
        return [f"{report.name}: up to date, {units.plural(len(report.stages), 'stage')}, {_took(report)}"]
    counts = figures.statuses(report.stages)
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    look = "built" if report.status == "done" else "failed"
    verdict = "built" if report.status == "done" else report.status
    lines = ["", f"{screen.paint(f'{report.name}: {verdict}', look)} in {_took(report)} ({told})"]
    lines += _graphs(report)
    bench = report.benchmark
    if bench:
        told = ", ".join(f"{name} {units.milliseconds(getattr(bench, name))}" for name in ("p50", "p90", "p99"))
        lines += _wrapped("  ", f"latency {told} on {', '.join(bench.providers)}")
    for artifact in report.artifacts:
        lines.append(f"  {_shown(dest / artifact.path)}  {units.size(artifact.bytes)}")
    lines.append(f"  {_shown(dest / 'report.html')}")
    notes = figures.notes(report)
    for note in notes[:NOTES]:
        lines += _wrapped("  note: ", note)
    if len(notes) > NOTES:
        lines.append(f"  and {units.plural(len(notes) - NOTES, 'note')} more in the report")
    return lines


def _took(report: Report) -> str:
    return units.seconds(report.run.seconds)


def _graphs(report: Report) -> list[str]:
    """A table of the graphs and how near to the tolerance each one came."""
    if not report.graphs:
        return []
    lines = [f"  {'graph':<30}{'nodes':>8}{'size':>12}{'error / tolerance':>22}"]
    return lines + [_graph(report, graph) for graph in report.graphs]


def _graph(report: Report, graph: Graph) -> str:
    stages = {s.name for s in report.stages if s.kind == "parity" and graph.stage in s.needs}
    rows = [row for row in report.parity if row.stage in stages]
    worst = figures.closest(rows)
    parity = units.share(figures.ratio(worst)) if worst else rows[0].status if rows else "–"
    return f"  {units.clip(units.line(graph.stage), 29):<30}{graph.nodes:>8,}{units.size(graph.bytes):>12}{parity:>22}"


def failure_text(failure: Failure, report: Path, screen: Screen) -> list[str]:
    """A failure in full: the stage, what went wrong, what to do, the end of its log, and where to read more."""
    lines = ["", screen.paint(f"{_MARKS['failed']} {units.line(failure.stage)} failed", "failed")]
    lines += [f"  {text}" for text in units.plain(failure.fact).splitlines()]
    hint = units.plain(failure.hint).splitlines()
    lines += [f"    hint: {text}" if index == 0 else f"          {text}" for index, text in enumerate(hint)]
    log = units.plain(failure.log).rstrip().splitlines()
    if log:
        left_out = len(log) > LOG_LINES
        lines.append(f"  the last {LOG_LINES} lines of its log:" if left_out else "  its log:")
        lines += [f"  │ {text}" for text in log[-LOG_LINES:]]
    return [*lines, f"  more in {_shown(report)}"]


def _shown(path: Path) -> Path:
    """A path as short as it can be typed: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(units.line(text), 79, initial_indent=start, subsequent_indent=" " * len(start)) or [start]
