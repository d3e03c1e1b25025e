"""Figures and names as a person reads them: seconds, sizes, counts, errors, shapes. Pure text, standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BREAKS = re.compile(r"\r\n?")
_MINUTE = 60.0
_HOUR = 3600.0


def seconds(value: float | None) -> str:
    """A duration given in seconds: "0.09 s", "9.4 s", "3 min 05 s", "2 h 10 min"; "" where there is none."""
    if value is None:
        return ""
    if value < 0.995:
        return f"{value:.2f} s"
    if value < _MINUTE - 0.05:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < _HOUR:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(value: float) -> str:
    """A latency given in milliseconds, to three significant digits: "40.9 ms", "7.07 µs"."""
    return f"{_significant(value)} ms" if value >= 0.9995 else f"{_significant(value * 1000)} µs"


def size(value: int | None) -> str:
    """A number of bytes, in decimal units: "102 MB"."""
    if value is None:
        return ""
    if value < 1000:
        return f"{value} B"
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def count(value: int | None) -> str:
    """A large count, shortened: "25.6 M"."""
    if value is None:
        return ""
    if value < 10_000:
        return f"{value:,}"
    return _scaled(value, ("", "k", "M", "G", "T"))


def error(value: float | None) -> str:
    """An absolute or relative error: "1.2e-06", "0"."""
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.1e}"


def value(number: object) -> str:
    """One element of a tensor, floats to six significant digits."""
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def share(ratio: float | None) -> str:
    """An error as a share of what the tolerance allows: "3.1 %", "<0.01 %", "12 x" where it is above."""
    if ratio is None:
        return ""
    if ratio == float("inf"):
        return "∞"
    if ratio > 1:
        return f"{_significant(max(ratio, 1.01))} ×"
    percent = ratio * 100
    if percent == 0:
        return "0 %"
    if percent < 0.01:
        return "<0.01 %"
    return f"{percent:.2f} %" if percent < 1 else f"{min(percent, 99.9):.1f} %" if ratio < 1 else "100 %"


def times(ratio: float) -> str:
    """How many times as much something is: "0.78 ×", "0.0041 ×"."""
    return f"{ratio:.2f} ×" if ratio >= 0.1 else f"{ratio:.2g} ×"


def signed(value: int) -> str:
    """A difference of counts with its sign, "" where there is none."""
    return f"+{value:,}" if value > 0 else f"\u2212{-value:,}" if value < 0 else ""


def shape(dims: Sequence[int | str | None]) -> str:
    """A tensor's shape: "[batch, 3, 224, 224]", an unknown size as "?"."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in dims)}]"


def sizes(values: Sequence[int]) -> str:
    """Whole numbers in order, four or more in a row as a range: "1, 3, 5 to 64"."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [[f"{run[0]} to {run[-1]}"] if len(run) > 3 else [str(value) for value in run] for run in runs]
    return ", ".join(part for run in parts for part in run)


def plural(number: int, noun: str) -> str:
    """A count with its noun: "1 stage", "1,100 stages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clip(text: str, limit: int) -> str:
    """A text no longer than `limit`, the middle left out, because names differ at their ends."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def plain(text: str) -> str:
    """A text without terminal escapes and control characters; line ends and tabs stay."""
    text = _BREAKS.sub("\n", _ANSI.sub("", text))
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def line(text: str) -> str:
    """The same on one line."""
    return " ".join(plain(text).split())


def _scaled(value: float, units: Sequence[str]) -> str:
    scale = 0
    while value >= 999.5 and scale < len(units) - 1:
        value /= 1000
        scale += 1
    return f"{_significant(value)} {units[scale]}"


def _significant(value: float) -> str:
    """Three significant digits, in exponent form from a billion on."""
    if value >= 1e9:
        return f"{value:.3g}"
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def wrapped(start: str, text: str) -> list[str]:
    """A text in lines of at most 79 columns: `start` before the first, as many blanks before the others."""
    import textwrap  # not before there is anything to wrap

    below = " " * len(start)
    # a name that has hyphens stays whole, as one to be typed
    found = textwrap.wrap(line(text), 79, initial_indent=start, subsequent_indent=below, break_on_hyphens=False)
    return found or [start]
