"""Text in aligned columns, the last one wrapped. Knows nothing of what the columns hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

GAP = "  "
NARROWEST = 24  # columns left for the last column before it goes on a line of its own


def rows(cells: Sequence[Sequence[str]], width: int, indent: str = "  ") -> Iterator[str]:
    """A line or more for each row, at most `width` wide where the words allow; all rows have equally many cells.

    The last cell may hold several lines. It is aligned, and wrapped below itself; where too little room is left for it,
    it goes below its row.
    """
    if not cells:
        return
    sizes = [max(len(row[column]) for row in cells) for column in range(len(cells[0]) - 1)]
    start = len(indent) + sum(size + len(GAP) for size in sizes)
    below = width - start < NARROWEST
    for row in cells:
        head = indent + "".join(cell.ljust(size) + GAP for cell, size in zip(row, sizes, strict=False))
        margin = indent + GAP * 2 if below else " " * start
        wrapped = [line for part in row[-1].splitlines() for line in _wrapped(part, width - len(margin))]
        if below or not wrapped:
            yield head.rstrip()
        else:
            yield head + wrapped.pop(0)
        yield from (margin + line for line in wrapped)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, max(width, NARROWEST), subsequent_indent=GAP, break_long_words=False, break_on_hyphens=False
    )
