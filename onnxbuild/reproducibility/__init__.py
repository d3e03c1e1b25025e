"""Is what was published still what was built, and does it come out again elsewhere.

Knows how to compare artifacts; what is in them is `graphs`' business.
"""

from __future__ import annotations

__all__ = ["published", "rebuild"]
