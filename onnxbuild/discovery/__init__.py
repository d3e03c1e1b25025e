"""What a stage turned out to depend on: recorded in the child that runs it, looked up again the next time.

Knows files, packages and Python's import system; no recipe, no stage, no store.
"""

from __future__ import annotations

__all__ = ["environment", "import_hooks", "inputs", "modified", "names", "places", "recorder"]
