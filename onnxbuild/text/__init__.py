"""Words and columns: numbers with units, tables, wrapping, suggestions of names.

Pure: prints nothing.
"""

from __future__ import annotations

__all__ = ["completion", "idle", "screen", "table", "tracebacks", "units", "wording"]
