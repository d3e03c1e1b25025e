"""Running recipes: one command's session, the scheduler, each recipe's way through its DAG, and the report it ends in.

Does not know what a stage does, nor where a model comes from.
"""

from __future__ import annotations
