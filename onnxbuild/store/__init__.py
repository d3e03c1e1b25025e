"""What was built, kept by content: objects, traces, keys, leases, and the collector.

Knows no recipe and no stage: it is handed documents and files.
"""

from __future__ import annotations

__all__ = [
    "digests",
    "garbage",
    "integrity",
    "interface",
    "keys",
    "layout",
    "leases",
    "objects",
    "ownership",
    "seal",
    "store",
    "traces",
]
