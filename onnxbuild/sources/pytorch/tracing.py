"""What torch's warnings while it traces mean for whoever reads the report. Pure: takes the lines that were heard."""

from __future__ import annotations

import re
from collections.abc import Iterable

# torch of a line of the project whose Python value its tracer can't follow. Constants that are made into tensors are told
# in other words, and are mostly meant to be constants.
UNFOLLOWED = r"(\S+:\d+): TracerWarning: ([^.]*?) might cause the trace to be incorrect\."
SHOWN = 4  # lines named before "and 3 more"


def fixed(heard: Iterable[str]) -> list[str]:
    """A note on the lines of the project at which tracing took the example's value for every input's; [] if none."""
    found: dict[str, list[str]] = {}
    for text in heard:
        if match := re.match(UNFOLLOWED, text):
            found.setdefault(match[1], []).append(match[2][:1].lower() + match[2][1:])
    if not found:
        return []
    places = [f"{place} ({', '.join(dict.fromkeys(what))})" for place, what in found.items()]
    more = f" and {len(places) - SHOWN} more (see the export's warnings)" if len(places) > SHOWN else ""
    return [f"traced with the example's values, and the same for every input: {', '.join(places[:SHOWN])}{more}"]
