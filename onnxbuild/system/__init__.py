"""The machine below: files, locks, processors, installed distributions, what errors of the system mean.

Knows nothing of models or builds.
"""

from __future__ import annotations

__all__ = [
    "capture",
    "changes",
    "distributions",
    "failpoints",
    "files",
    "hidden",
    "interpreters",
    "interrupts",
    "licences",
    "locks",
    "machine",
    "memory",
    "node",
    "observed",
    "oserrors",
    "project",
    "revision",
]
