"""Read-only answers about a recipe and the store: is it up to date, why not, what would run.

Builds nothing and writes nothing.
"""

from __future__ import annotations

__all__ = [
    "affected",
    "cautions",
    "decision",
    "describing",
    "explain",
    "filled",
    "forecast",
    "last_builds",
    "lines",
    "lookup",
    "pins",
    "reasons",
    "remembered",
    "scores",
    "shards",
    "stages",
    "touched",
    "verdicts",
    "workspace",
]
