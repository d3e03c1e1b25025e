"""How much memory the stages of a command may use together, and how much one of them is expected to.

What a stage took the last time is the best forecast; where it never ran, a guess that errs on the large side.
"""

from __future__ import annotations

from onnxbuild.executors import TEMPLATES
from onnxbuild.system import memory

SHARE = 0.8  # of what is available: the page cache and everything else on the machine want some too
_COPIES = 4  # of a stage's inputs that it holds at once: as read, as parsed, as changed, as serialised


def expected(last_peak: int, input_bytes: int, preload: str) -> int:
    """Bytes that a stage will need; `last_peak` is 0 where it never ran."""
    return last_peak or TEMPLATES[preload].bytes + _COPIES * input_bytes


def budget() -> int:
    """Bytes that all stages of a command may use together, unless the user says otherwise."""
    return int(memory.available() * SHARE)
