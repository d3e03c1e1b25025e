"""How a run looks on the terminal: a live line while stages run, one line per stage, a summary, failures in full.

The run loop says what happens, this decides the looks. Plain lines without control characters where the stream is no
terminal, no colour where NO_COLOR is set, ASCII where the stream's encoding lacks the marks. Standard library only.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from onnxbuild.report import figures, tables
from onnxbuild.report.types import Failure, Report, StageReport
from onnxbuild.system.locks import Holder
from onnxbuild.text import idle as nothing_to_do
from onnxbuild.text import tracebacks, units
from onnxbuild.text.screen import Screen

STILL = 30.0  # seconds between two "still running" lines where there is no live line
REDRAW = 0.1  # seconds between two looks of the live line
LOG_LINES = 12  # of a failed stage's log on the terminal; the report has more
NOTES = 6
LONGEST = 160  # columns of a line where nothing says how wide the reader's are
_MARKS = {"built": "✓", "cached": "=", "failed": "✗", "skipped": "–"}
_VERDICTS = ("built", "up to date", "failed", "interrupted")
_LOOKS = {"built": "built", "up to date": "cached", "failed": "failed", "interrupted": "skipped"}


class Progress:
    """What the run loop tells, as text: `out` gets progress and verdicts, `errors` failures and warnings.

    With `quiet`, failures are all that is printed, and with `warns` warnings and what is waited for; without `verdicts`,
    stages are. `clock` gives seconds, from any start.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        quiet: bool,
        errors: TextIO,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        verdicts: bool = True,
        warns: bool = False,
    ) -> None:
        self._verdicts = verdicts
        self._out = Screen(out, environ)
        self._errors = Screen(errors, environ)
        self._quiet = quiet
        self._warns = warns or not quiet
        self._clock = clock
        self._several = False
        self._stages: dict[str, tuple[int, int]] = {}  # recipe to how many of its stages ended, of how many
        self._held: dict[str, list[StageReport]] = {}  # found in the store; said only if anything else happens
        self._reports: list[Report] = []
        self._pages: list[Path] = []  # over all recipes
        self._begun = 0.0
        self._running: dict[tuple[str, str], float] = {}  # recipe and stage to the time at which it started
        self._reason: dict[tuple[str, str], str] = {}  # its first reason for running
        self._said: dict[tuple[str, str], int] = {}  # how often it was said to be still running, or waiting
        self._drawn_at = 0.0

    def begin(self, totals: Mapping[str, int]) -> None:
        """Recipes begin, each with its number of stages."""
        self.close()
        self._several = len(totals) > 1
        self._stages = {recipe: (0, total) for recipe, total in totals.items()}
        self._held = {recipe: [] for recipe in totals}
        self._reports, self._pages, self._begun = [], [], self._clock()
        self._running, self._reason, self._said = {}, {}, {}

    def started(self, recipe: str, stage: str, why: Sequence[str]) -> None:
        """A stage is really run, for these reasons."""
        self._break_silence(recipe)
        self._running[recipe, stage] = self._clock()
        self._reason[recipe, stage] = why[0] if why else ""
        self._draw()

    def waiting(self, recipe: str, stage: str, holder: Holder) -> None:
        """A stage waits for another process that runs it; to be called every so often while it does."""
        self._break_silence(recipe)
        times = 1 + int((time.time() - holder.since) // STILL)
        if self._warns and times > self._said.get((recipe, stage), 0):
            self._said[recipe, stage] = times
            took = units.seconds(max(time.time() - holder.since, 0.0))
            self._out.line(f"  {self._label(recipe, stage)} waits for {units.line(str(holder))}, at it for {took}")
            self._draw()

    def ended(self, recipe: str, stage: str) -> None:
        """A stage runs no more; what came of it may be told later."""
        self._running.pop((recipe, stage), None)

    def finished(self, recipe: str, stage: StageReport) -> None:
        """A stage came to its end: built, cached, failed or skipped."""
        done, total = self._stages[recipe]
        self._stages[recipe] = done + 1, total
        self.ended(recipe, stage.name)
        if stage.status == "cached" and recipe in self._held:
            self._held[recipe].append(stage)
            return
        self._break_silence(recipe)
        self._verdict(recipe, stage)
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
        for key, started in self._running.items():
            times = int((now - started) // STILL)
            if times > self._said.get(key, 0):
                self._said[key] = times
                self._out.line(f"  {self._label(*key)} still running, {units.seconds(times * STILL)}")

    def warn(self, text: str) -> None:
        """Something to know that stops nothing."""
        if self._warns:
            self._out.clear()
            self._errors.line(f"{self._errors.paint('warning:', 'warning')} {units.line(text)}")
            self._draw()

    def summary(self, report: Report, dest: Path) -> None:
        """A recipe came to its end, and its report lies in the folder `dest`."""
        self.close()
        if not self._verdicts:
            return
        if self._several:
            self._reports.append(report)
        elif not self._quiet:
            for text in summary(report, dest, self._out):
                self._out.line(text)
        told: dict[tuple[str, str], str] = {}  # what went wrong, to the first stage of which it was said
        for failure in report.failures:
            name = self._label(report.name, failure.stage)
            first = told.setdefault((failure.fact, failure.hint), failure.stage)
            again = "" if first == failure.stage else first
            for text in failure_text(failure, dest / "report.html", self._errors, name, again):
                self._errors.line(text)
        self._draw()

    def page(self, path: Path) -> None:
        """A page over all recipes was brought up to date."""
        self._pages.append(path)

    def end(self) -> None:
        """All recipes came to their ends."""
        self.close()
        if self._several and self._verdicts and not self._quiet:
            told = overview(self._reports, list(self._stages), self._clock() - self._begun, self._out)
            if not all(figures.up_to_date(report) for report in self._reports):
                told += [f"  {_shown(page)}" for page in self._pages]
            for text in told:
                self._out.line(text)

    def close(self) -> None:
        """Take the live line away; also right after an interruption."""
        self._out.clear()

    def _label(self, recipe: str, stage: str) -> str:
        return units.line(f"{recipe} {stage}" if self._several else stage)

    def _break_silence(self, recipe: str) -> None:
        """Something is to be done after all: say what was found in the store until now."""
        for stage in self._held.pop(recipe, []):
            self._verdict(recipe, stage)

    def _verdict(self, recipe: str, stage: StageReport) -> None:
        if self._quiet:
            return
        reason = stage.failure.fact.partition("\n")[0] if stage.failure else _why(stage)
        took = "" if stage.status == "cached" else units.seconds(stage.seconds)
        label, room, most = self._label(recipe, stage.name), *((40, 40) if self._several else (26, 30))
        start = f"{units.clip(label, most):<{room}} {stage.status:<7} {took:>9}"
        left = (self._out.width if self._out.live else LONGEST) - len(start) - 4
        text = f"{start}  {units.clip(units.line(reason), max(left, 1))}".rstrip()
        mark = self._out.paint(_MARKS[stage.status], stage.status)
        self._out.line(f"{mark} {self._out.paint(text, stage.status) if stage.status == 'cached' else text}")

    def _draw(self) -> None:
        if self._quiet or not self._out.live:
            return
        now = self._drawn_at = self._clock()
        if self._running:
            times = ", ".join(f"{self._label(*key)} {units.seconds(now - at)}" for key, at in self._running.items())
            reason = units.line(self._reason[next(iter(self._running))])
            done, total = (sum(part) for part in zip(*self._stages.values(), strict=True))
            name = units.plural(len(self._stages), "recipe") if self._several else next(iter(self._stages))
            self._out.draw(f"… {units.line(name)} {done:,}/{total:,}  {times}  {reason}".rstrip())


def _why(stage: StageReport) -> str:
    more = f" (and {len(stage.why) - 1} more)" if len(stage.why) > 1 else ""
    return f"{stage.why[0]}{more}" if stage.why else ""


def summary(report: Report, dest: Path, screen: Screen) -> list[str]:
    """What came of a recipe, in lines of at most 80 columns (but for long file names); one line where nothing was done."""
    warned = nothing_to_do.warnings(report.cautions)
    if figures.up_to_date(report):
        said = [(report.name, len(report.stages), report.run.seconds)]
        return nothing_to_do.run(said, report.run.seconds) + warned
    counts = figures.statuses(report.stages)
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    look = "built" if report.status == "done" else "failed"
    verdict = "built" if report.status == "done" else report.status
    lines = ["", f"{screen.paint(f'{report.name}: {verdict}', look)} in {_took(report)} ({told})"]
    lines += warned
    lines += tables.graphs(report) + tables.targets(report) + tables.scores(report)
    bench = report.benchmark
    if bench:
        told = ", ".join(f"{name} {units.milliseconds(getattr(bench, name))}" for name in ("p50", "p90", "p99"))
        lines += units.wrapped("  ", f"latency {told} on {', '.join(bench.providers)}")
    if loss := figures.beside_before(report):
        lines += units.wrapped("  ", loss.told)
    lines += tables.files(report, lambda path: _shown(dest / path))
    lines.append(f"  {_shown(dest / 'report.html')}")
    notes = tables.notes(report)
    for note in notes[:NOTES]:
        lines += units.wrapped("  note: ", note)
    if len(notes) > NOTES:
        lines.append(f"  and {units.plural(len(notes) - NOTES, 'note')} more in the report")
    return lines


def overview(reports: Sequence[Report], order: Sequence[str], seconds: float, screen: Screen) -> list[str]:
    """What came of several recipes: a line for each of those in which anything was done, a word on all others."""
    idle = [report for report in reports if figures.up_to_date(report)]
    by_place = sorted(reports, key=lambda report: order.index(report.name))
    if len(idle) == len(reports):
        return nothing_to_do.run([(one.name, len(one.stages), one.run.seconds) for one in by_place], seconds)
    shown = [report for report in by_place if len(idle) <= nothing_to_do.FEW or not figures.up_to_date(report)]
    lines = ["", f"  {'recipe':<34}{'status':<13}{'built':>7}{'cached':>8}{'time':>13}"]
    lines += [_row(report, screen) for report in shown]
    if len(shown) < len(reports):
        lines.append(f"  and {units.plural(len(idle), 'recipe')} up to date")
    told = Counter(_verdict(report) for report in reports)
    counts = ", ".join(f"{told[verdict]:,} {verdict}" for verdict in _VERDICTS if told[verdict])
    return [*lines, f"{units.plural(len(reports), 'recipe')} in {units.seconds(seconds)}: {counts}"]


def _row(report: Report, screen: Screen) -> str:
    counts, verdict = figures.statuses(report.stages), _verdict(report)
    name = units.clip(units.line(report.name), 33)
    figure = f"{counts['built']:>7,}{counts['cached']:>8,}{_took(report):>13}"
    return f"  {name:<34}{screen.paint(f'{verdict:<13}', _LOOKS[verdict])}{figure}"


def _verdict(report: Report) -> str:
    return "up to date" if figures.up_to_date(report) else "built" if report.status == "done" else report.status


def _took(report: Report) -> str:
    return units.seconds(report.run.seconds)


def failure_text(failure: Failure, report: Path, screen: Screen, name: str, again: str = "") -> list[str]:
    """A failure in full: the stage's name, what went wrong, what to do, the end of its log, and where to read more.

    `again` is the stage that failed for the same reason, where one did that was told before: then a line says so.
    """
    head = screen.paint(f"{_MARKS['failed']} {name} failed", "failed")
    if again:
        return ["", f"{head} for the same reason as {units.line(again)}"]
    lines = ["", head]
    facts = [f"  {text}" for text in units.plain(failure.fact).splitlines()]
    hint = units.plain(failure.hint).splitlines()
    facts += [f"    hint: {text}" if index == 0 else f"          {text}" for index, text in enumerate(hint)]
    lines += [part for text in facts for part in _folded(text, screen)]
    log = tracebacks.without_libraries(units.plain(failure.log).strip())
    if log:
        left_out = len(log) > LOG_LINES
        lines.append(f"  the last {LOG_LINES} lines of its log:" if left_out else "  its log:")
        lines += [f"  │ {text}" for text in log[-LOG_LINES:]]
    if failure.kept:
        shows = next((name for name in failure.kept if name.endswith(".py")), failure.kept[0])
        lines.append(f"  shown without onnxbuild by {units.line(str(_shown(report.parent / shows)))}")
    return [*lines, f"  more in {_shown(report)}"]


def _folded(text: str, screen: Screen) -> list[str]:
    """A line in as many as a terminal needs, indented alike; elsewhere in few, for whoever searches a log."""
    width = screen.width if screen.live else LONGEST
    if len(text) <= width:
        return [text]
    start = " " * (len(text) - len(text.lstrip()) + (len("hint: ") if "hint: " in text[:12] else 0))
    return textwrap.wrap(text, width, subsequent_indent=start, break_long_words=False, break_on_hyphens=False)


def _shown(path: Path) -> Path:
    """A path as short as it can be typed: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
