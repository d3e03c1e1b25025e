"""Packages that can't be imported for a while, though they are installed. Knows none by name."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def hidden(names: Iterable[str]) -> Iterator[None]:
    """Within it, an import of these packages fails, but of those that are imported already.

    For libraries that import others just because they are there: that takes seconds, and whatever a stage imports is taken
    for something that its result depends on.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: the documented way to make an import fail
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
