"""The kinds of stage, by name. To add one: a module here, a line below, and its place in `plan`."""

from __future__ import annotations

from onnxbuild.contracts import StageModule
from onnxbuild.stages import benchmark, check, diagnose, export, optimize, package, parity, reference, target

STAGES: dict[str, StageModule] = {
    "export": export,
    "reference": reference,
    "check": check,
    "optimize": optimize,
    "parity": parity,
    "diagnose": diagnose,
    "benchmark": benchmark,
    "target": target,
    "package": package,
}
