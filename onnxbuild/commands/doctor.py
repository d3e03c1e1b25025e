"""`onnxbuild doctor`: versions, and which onnxruntime providers really run a model here."""

from __future__ import annotations

import argparse
import sys

from onnxbuild import __version__
from onnxbuild.system import distributions, machine

HELP = "print versions and the onnxruntime providers that really work here"

_LIBRARIES = (
    "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxoptimizer", "onnxsim",
    "numpy", "msgspec", "pyyaml", "jsonschema", "jinja2", "safetensors",
)  # fmt: skip


def add_arguments(_: argparse.ArgumentParser) -> None:
    """The command takes no arguments."""


def run(_: argparse.Namespace) -> int:
    """Print the findings; 1 where the environment is broken."""
    lines, healthy = examine()
    print("\n".join(lines))
    return 0 if healthy else 1


def examine() -> tuple[list[str], bool]:
    """Lines to print, and whether a build can be trusted here."""
    lines = [
        f"onnxbuild      {__version__}",
        f"python         {sys.version.split()[0]} ({sys.platform}, {machine.machine()})",
        f"processor      {machine.cpu_name()}, {machine.cores()} cores usable",
    ]
    found = distributions.versions(_LIBRARIES)
    lines += [f"{name:<14} {version}" for name, version in found.items()]
    problems = [
        f"{name} is not installed: pip install {name}" for name, version in found.items() if version == "absent"
    ]
    runtimes = distributions.runtime_distributions()
    if len(runtimes) > 1:
        problems.append(
            f"{' and '.join(runtimes)} are both installed and own the same files: uninstall both, then install one"
        )
    elif runtimes:
        from onnxbuild.runtimes.onnxruntime import usable_providers

        lines += ["", "onnxruntime providers, each tried on a small model:"]
        lines += [f"  {name:<26} {'works' if not why else 'does not work: ' + why}" for name, why in usable_providers()]
    lines += ["", *(f"problem: {problem}" for problem in problems)] if problems else ["", "No problems found."]
    return lines, not problems
