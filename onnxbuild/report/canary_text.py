"""What came of a canary as text of 80 columns, as JSON, and as Markdown for a pull request (which imports jinja2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from onnxbuild.report import changes_view
from onnxbuild.report.canary import Canary, ErrorChange, Tried
from onnxbuild.text import units
from onnxbuild.text.wording import some

NAME, BUILD, GRAPH, ERROR = 26, 15, 11, 12  # columns
NAMED = 8  # recipes
PACKAGES = 12  # that are shown
LINES = 6  # of a reason; --json has all


class Row(NamedTuple):
    """A recipe in words. `details` are what is wrong and what is different."""

    ok: bool
    name: str
    build: str
    graph: str
    error: str
    latency: str
    details: list[str]


def to_json(canary: Canary) -> bytes:
    """As indented JSON, fields in the order of their types."""
    return msgspec.json.format(msgspec.json.encode(canary), indent=2) + b"\n"


def markdown(canary: Canary) -> str:
    """GitHub-flavoured Markdown that a comment has room for: those that do not hold first."""
    from onnxbuild.report import render

    template = render.environment(autoescape=False).get_template("canary.md.j2")
    text = ""
    ordered = sorted(rows(canary), key=lambda row: row.ok)
    for limit in (200, 40, 12, 4, 1):
        text = template.render(canary=canary, headline=headline(canary), rows=ordered, limit=limit)
        text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        if len(text.encode()) <= render.MARKDOWN_LIMIT:
            break
    return text


def lines(canary: Canary) -> Iterator[str]:
    """In lines that a terminal shows whole."""
    before, after = canary.before, canary.after
    yield f"--- {units.line(before.python)} (Python {before.version})"
    yield f"+++ {units.line(after.python)} (Python {after.version})"
    for fact in canary.packages[:PACKAGES]:
        yield f"  {units.line(fact.subject)} {fact.before or 'absent'} -> {fact.after or 'absent'}"
    if canary.packages[PACKAGES:]:
        yield f"  and {len(canary.packages) - PACKAGES} more packages, which --json has"
    yield ""
    yield f"  {'recipe':<{NAME}}{'build':<{BUILD}}{'graph':<{GRAPH}}{'error':<{ERROR}}p50"
    for row in rows(canary):
        start = f"{'✓' if row.ok else '✗'} {units.clip(units.line(row.name), NAME - 1):<{NAME}}"
        yield f"{start}{row.build:<{BUILD}}{row.graph:<{GRAPH}}{row.error:<{ERROR}}{row.latency}"
        for detail in row.details:
            head, *rest = [part for part in units.plain(detail).splitlines() if part.strip()] or [""]
            yield from units.wrapped("    ", head)
            yield from (f"    {part}" for part in rest[:LINES])
    yield from units.wrapped("", headline(canary))


def headline(canary: Canary) -> str:
    """What came of it, in a sentence."""
    bad = [units.line(one.name) for one in canary.recipes if not one.ok]
    changed = sum(one.graph not in ("same", None) for one in canary.recipes)
    of = units.plural(len(canary.recipes), "recipe")
    if bad:
        return f"No: {len(bad)} of {of} did not hold: {some(bad, NAMED)}"
    rest = f"; {changed} came out different" if changed else ", and came out the same"
    return f"Yes: {of} held{rest}"


def rows(canary: Canary) -> list[Row]:
    """A row for each recipe."""
    return [
        Row(
            one.ok,
            one.name,
            one.build,
            one.graph or "–",
            _error(one),
            _latency(one),
            list(_details(one)),
        )
        for one in canary.recipes
    ]


def _error(one: Tried) -> str:
    """By how much the error of an output grew at most."""
    if one.graph is None:
        return "–"
    growth = max(map(_growth, one.errors), default=1.0)
    return "same" if not one.errors else "no number" if growth == float("inf") else f"× {growth:.2g}"


def _growth(one: ErrorChange) -> float:
    if one.before is None or one.after is None:
        return float("inf") if one.worse else 0.0
    return one.after / one.before if one.before else float("inf") if one.worse else 1.0


def _latency(one: Tried) -> str:
    if one.latency is None:
        return one.latency_note if one.graph is not None else "–"
    times = one.latency.times
    said = f"× {times:.0f}" if times >= 10 else f"{(times - 1) * 100:+.0f} %".replace("-", "−")
    return f"{units.milliseconds(one.latency.after_p50)}, {said}"


def _details(one: Tried) -> Iterator[str]:
    yield from one.why
    if one.diff is not None and one.graph != "same":
        yield changes_view.headline(one.diff)
