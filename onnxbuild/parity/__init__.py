"""How a graph is held against its source: sample inputs, measuring, tolerances, and what a failure means.

Measuring and judging are apart. Runs no model: it is given arrays.
"""

from __future__ import annotations

__all__ = [
    "arrays",
    "comparators",
    "datasets",
    "diagnosis",
    "evidence",
    "gates",
    "measuring",
    "metric",
    "probes",
    "samples",
    "tolerance",
    "traits",
    "vacuous",
    "verdict",
]
