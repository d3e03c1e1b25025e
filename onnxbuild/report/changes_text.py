"""A diff as text of 80 columns, and as JSON. Light: no template, no jinja2."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from onnxbuild.report import changes_view
from onnxbuild.report.changes import Diff
from onnxbuild.report.changes_view import Row
from onnxbuild.text import table, units

ROWS = 20  # of a section; --json has all
LINES = 60  # of a recipe's diff
NAME = 46  # columns of a name beside its values


def to_json(diff: Diff) -> bytes:
    """The diff as indented JSON, fields in the order of their types."""
    return msgspec.json.format(msgspec.json.encode(diff), indent=2) + b"\n"


def lines(diff: Diff, width: int) -> Iterator[str]:
    """The diff in lines that a terminal of that width shows whole."""
    yield f"--- {units.line(diff.before.name)}"
    yield f"+++ {units.line(diff.after.name)}"
    yield from units.wrapped("", changes_view.headline(diff))
    for section in changes_view.sections(diff):
        yield ""
        yield section.title
        for row in section.rows[:ROWS]:
            yield from _row(row, width)
        if section.rows[ROWS:]:
            yield f"  … and {len(section.rows) - ROWS:,} more, which --json has"
    if diff.recipe:
        yield ""
        yield "Recipe"
        yield from (units.clip(f"  {units.plain(line)}".expandtabs().rstrip(), width) for line in diff.recipe[:LINES])
        if diff.recipe[LINES:]:
            yield f"  … and {len(diff.recipe) - LINES:,} lines more, which --json has"
    if diff.not_compared:
        yield ""
        yield "Not compared"
        yield from table.rows([(units.line(text),) for text in diff.not_compared], width)


def _row(row: Row, width: int) -> Iterator[str]:
    """A difference on a line; where that is too long, its values below it."""
    subject, value = units.line(row.subject), _value(row)
    start = f"  {row.mark} {subject}"
    if not value:
        yield from _wrapped(start, width)
    elif len(start) + 2 + len(value) <= width:
        yield f"{start.ljust(min(NAME, width - 2 - len(value)))}  {value}"
    else:
        yield from _wrapped(start, width)
        yield from _wrapped(f"      {value}", width)


def _value(row: Row) -> str:
    before, after = units.line(row.before), units.line(row.after)
    value = f"{before} -> {after}" if before and after and before != after else before or after
    if value and row.mark != "~" and row.subject.startswith(f"{value} '"):  # a node's operator is said
        value = ""
    return f"{value}  {row.note}" if row.note and value else value or row.note


def _wrapped(text: str, width: int) -> Iterator[str]:
    import textwrap

    start = text[: len(text) - len(text.lstrip())]
    yield from textwrap.wrap(
        text.strip(), width, initial_indent=start, subsequent_indent=f"{start}  ", break_on_hyphens=False
    )
