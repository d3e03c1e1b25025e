"""Where a stage runs: in child processes of this machine.

An executor is handed tasks and gives back what became of them; it knows no keys, no store and no kind of stage.
"""

from __future__ import annotations
