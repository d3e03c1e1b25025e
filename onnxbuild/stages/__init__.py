"""The kinds of stage, by name. To add one: a module here, a line below, and its place in `plan`."""

from __future__ import annotations

from onnxbuild.contracts import StageModule
from onnxbuild.stages import benchmark, check, export, optimize, package, parity, reference

STAGES: dict[str, StageModule] = {
    "export": export,
    "reference": reference,
    "check": check,
    "optimize": optimize,
    "parity": parity,
    "benchmark": benchmark,
    "package": package,
}
