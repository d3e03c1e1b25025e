"""A stream and what it can show: colours, a line that is redrawn in place, characters beyond ASCII.

Plain lines without control characters where the stream is no terminal, no colour where NO_COLOR is set, ASCII where the
stream's encoding lacks the marks. Knows nothing of what is shown. Standard library only.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

_COLOURS = {"built": "32", "cached": "2", "failed": "1;31", "skipped": "2", "bold": "1", "warning": "33"}
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "–": "-", "…": "...", "×": "x", "−": "-", "∞": "inf", "·": "-", "│": "|", "µ": "u"}
)


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
        """The text in the colour of a look, where the stream shows colours."""
        return f"\x1b[{_COLOURS[look]}m{text}\x1b[0m" if self._colours and text else text

    def line(self, text: str = "") -> None:
        """Print a line, in place of the live line where there is one; on a terminal folded where it is a sentence."""
        self.clear()
        for part in self._folded(text):
            self._write(f"{part}\n")

    def draw(self, text: str) -> None:
        """Show the live line, cut to the terminal's width."""
        self._write(f"\r\x1b[2K{text if len(text) <= self.width else text[: self.width - 1] + '…'}")
        self._drawn = True

    def clear(self) -> None:
        """Take the live line away."""
        if self._drawn:
            self._write("\r\x1b[2K")
            self._drawn = False

    def _folded(self, text: str) -> list[str]:
        """A sentence in lines of a terminal's width; whole what is piped, stands in columns or is quoted from a log."""
        bare = text.lstrip()
        if not self.live or len(text) <= self.width or "  " in bare or bare.startswith("│") or "\n" in text:
            return [text]
        import textwrap

        below = " " * (len(text) - len(bare) + 4)
        lines = textwrap.wrap(text, self.width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)
        return lines if " " in lines[0].strip() else [text]  # nothing but a mark would stand before a name

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
