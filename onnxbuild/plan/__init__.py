"""From a recipe to its DAG: cases, stages, and what needs what.

Touches no store and no clock, and runs nothing.
"""

from __future__ import annotations

__all__ = ["asking", "dag", "diagnosis", "order", "planner", "varied"]
