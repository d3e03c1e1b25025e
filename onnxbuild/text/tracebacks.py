"""A log without the frames that a reader of a terminal can do nothing about: those of libraries. Pure."""

from __future__ import annotations

import re

FRAME = re.compile(r'^\s*File "(.*)", line \d+')
HEAD = "Traceback (most recent call last):"
LIBRARIES = re.compile(r"(^|/)(site|dist)-packages/|^/|^[A-Za-z]:[\\/]|^(.*/)?lib(64)?/python\d|^<")


def without_libraries(log: str) -> list[str]:
    """The lines of a log less the frames of files that are installed; those that are relative are the project's own.

    A frame's lines below its first are indented deeper. A traceback of which no frame is left is its last line alone.
    """
    kept: list[str] = []
    dropping = ""  # the indentation of the frame that is left out
    for line in log.splitlines():
        frame = FRAME.match(line)
        if frame:
            dropping = _indent(line) if LIBRARIES.search(frame[1]) else ""
            inside = bool(dropping)
        else:
            inside = bool(dropping) and _indent(line) > dropping and bool(line.strip())
        if inside:
            continue
        dropping = ""
        kept.append(line)
    return [line for at, line in enumerate(kept) if line.strip() != HEAD or _has_frames(kept[at + 1 :])]


def _has_frames(below: list[str]) -> bool:
    """Whether a traceback's first line is followed by a frame."""
    return bool(below) and FRAME.match(below[0]) is not None


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
