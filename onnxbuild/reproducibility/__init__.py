"""Is what was published still what was built, of which recipe, and does it come out again elsewhere.

Knows how to compare artifacts; what is in them is `graphs`' business.
"""

from __future__ import annotations

__all__ = ["identify", "published", "rebuild"]
