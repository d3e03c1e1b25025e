"""What a report says of the builds before it: why anything was built, and when that last was. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec import Struct

from onnxbuild.report.types import LastBuild, Report, Revision, RunReport
from onnxbuild.text import units

_FIRST = "first build"
_FOLLOWS = re.compile(r"input \S+ (changed|is used no more)")  # of a stage whose input another stage made anew


class Ended(Struct, frozen=True):
    """How a stage of an earlier run came to its end."""

    name: str
    status: str
    why: list[str]


class Before(Struct, frozen=True):
    """Of an earlier report, what a later one has to know."""

    stages: list[Ended]
    run: RunReport


class Cause(NamedTuple):
    """A reason for building, and the stages that gave it."""

    text: str
    stages: list[str]


class Since(NamedTuple):
    """Why something was built, in this run or in the last one that built anything (`last`); no causes of a first build."""

    last: LastBuild
    causes: list[Cause]
    now: bool


def carried(report: Report, before: Before | None) -> Report:
    """A report that knows when anything was last built; `before` is the one that it takes the place of."""
    if before is None or built(report):
        return report
    why = built(before)
    last = LastBuild(before.run.started, before.run.seconds, why, before.run.revision) if why else before.run.last_build
    return msgspec.structs.replace(report, run=msgspec.structs.replace(report.run, last_build=last))


def built(report: Report | Before) -> dict[str, list[str]]:
    """The stages that a run built, each with its reasons."""
    return {stage.name: stage.why for stage in report.stages if stage.status == "built"}


def since(report: Report) -> Since | None:
    """Why anything was built: what follows from another stage's result is left out, each reason is said once.

    None where nothing was, and no earlier run is known that built anything.
    """
    why = built(report)
    last = LastBuild(report.run.started, report.run.seconds, why, report.run.revision) if why else report.run.last_build
    return None if last is None else Since(last, _causes(last.why), bool(why))


def _causes(why: dict[str, list[str]]) -> list[Cause]:
    said: dict[str, list[str]] = {}
    for stage, reasons in why.items():
        for reason in reasons:
            if not _FOLLOWS.fullmatch(reason):
                said.setdefault(reason, []).append(stage)
    new = said.pop(_FIRST, [])
    if not said:
        return []
    return [*(Cause(text, stages) for text, stages in said.items()), *([Cause("new", new)] if new else [])]


def stages(names: list[str]) -> str:
    """A cause's stages in a few words: "parity/export and 2 more"."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 2 else " and ".join(names)


def title(of: Since) -> str:
    """What the causes are a list of, in words that end where it begins."""
    when = minute(of.last.started)
    if of.now:
        return "What changed since the build before" if of.causes else "First build: nothing was there before"
    return f"Last built {when} UTC, because" if of.causes else f"Last built {when} UTC, for the first time"


def minute(started: str) -> str:
    """A time of a report as a reader writes it: "2026-01-17 09:12"."""
    return units.line(started)[:16].replace("T", " ")


def revision(of: Revision | None) -> str:
    """A commit in a few characters: "1a2b3c4d5e6f, with uncommitted changes"; "" for none."""
    return "" if of is None else f"{of.commit[:12]}{', with uncommitted changes' if of.changed else ''}"
