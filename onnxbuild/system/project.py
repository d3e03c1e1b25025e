"""Where a project begins. Light to import: it is asked before anything else is known."""

from __future__ import annotations

import os

_MARKS = ("pyproject.toml", ".git")


def root_of(path: str) -> str:
    """The nearest folder above a recipe that holds pyproject.toml or .git, else the recipe's own."""
    own = above = os.path.dirname(os.path.abspath(path))  # realpath would leave the folder of a linked recipe
    while not any(os.path.exists(os.path.join(above, mark)) for mark in _MARKS):
        if above == os.path.dirname(above):
            return own
        above = os.path.dirname(above)
    return above
