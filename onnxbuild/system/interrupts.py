"""Ctrl-C and SIGTERM raise KeyboardInterrupt in whatever line is running, but for lines that C code waits for.

C code that asks Python for something does not always hand on what is raised there. msgspec 0.22.0, interrupted while its
import imports datetime, goes on without, and ends the process by SIGSEGV at the first type that it meets; interrupted while
it looks at a type, it forgets that it was. So what comes during an import of others' modules or below msgspec is put off
until that is over. Where there is no timer (Windows) it is not. Knows nothing of what is interrupted.
"""

from __future__ import annotations

import contextlib
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

LATER = 0.002  # seconds; a command loads for a tenth of a second, and may well be met there a few times in a row
_OWN_NAME = "onnxbuild"
_FRAGILE = frozenset({"importlib._bootstrap", "msgspec._utils", "typing", "enum"})  # modules
_SIGNALS = [*([signal.SIGALRM] if hasattr(signal, "setitimer") else []), signal.SIGTERM, signal.SIGINT]


def install() -> None:
    """Have the signals raise KeyboardInterrupt from now on; a SIGINT that whoever started us ignores stays ignored."""
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for one in _SIGNALS[:-1] if deaf else _SIGNALS:
        signal.signal(one, _interrupt)


def ignore() -> None:
    """Let nobody interrupt any more."""
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Let nobody interrupt for a while. For the main thread."""
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    ignore()
    try:
        yield
    finally:
        for one, handler in before.items():
            if handler is not None:  # it is none of Python's
                signal.signal(one, handler)


def _interrupt(_: int, frame: FrameType | None) -> None:
    if hasattr(signal, "setitimer") and _is_fragile(frame):
        signal.setitimer(signal.ITIMER_REAL, LATER)
        return
    raise KeyboardInterrupt


def _is_fragile(frame: FrameType | None) -> bool:
    """Whether C code may be waiting for a line: whatever lies between it and our own code."""
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name in _FRAGILE:
            return True
        if name.partition(".")[0] == _OWN_NAME:
            return False
        frame = frame.f_back
    return False
