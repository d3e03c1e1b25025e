"""The kinds of stage, by name. To add one: a module here, a line below, and its branch in `plan`.

A stage is handed a task and gives an outcome, in a process of its own. It knows no other stage, no key and no report.
"""

from __future__ import annotations

from onnxbuild.contracts import StageModule
from onnxbuild.stages import (
    attach,
    benchmark,
    candidates,
    check,
    describe,
    diagnose,
    export,
    inspect,
    metric,
    optimize,
    package,
    parity,
    reference,
    target,
)

__all__ = ["STAGES", "benchmark", "package"]

STAGES: dict[str, StageModule] = {
    "describe": describe,
    "inspect": inspect,
    "export": export,
    "attach": attach,
    "reference": reference,
    "check": check,
    "optimize": optimize,
    "candidates": candidates,
    "parity": parity,
    "diagnose": diagnose,
    "metric": metric,
    "benchmark": benchmark,
    "target": target,
    "package": package,
}
