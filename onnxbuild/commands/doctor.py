"""`onnxbuild doctor`: versions, and which onnxruntime providers really run a model here."""

from __future__ import annotations

import argparse
import sys

from onnxbuild import __version__
from onnxbuild.system import distributions, machine
from onnxbuild.text import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HELP = "print versions and the onnxruntime providers that really work here"
EXAMPLES = (
    "onnxbuild doctor",
    "onnxbuild doctor --json",
)

_LIBRARIES = (
    "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxoptimizer", "onnxsim",
    "numpy", "msgspec", "pyyaml", "jsonschema", "jinja2", "safetensors",
)  # fmt: skip
_NO_GPU = "no NVIDIA GPU is seen here: leave it out of runtime.providers, or let the next one in that list stand in"
_LIBRARY = "put the folder of that library on LD_LIBRARY_PATH; "
_BRING = {
    "CUDAExecutionProvider": _LIBRARY
    + "pip install 'onnxruntime-gpu[cuda,cudnn]' brings it, below site-packages/nvidia",
    "TensorrtExecutionProvider": _LIBRARY
    + "TensorRT needs CUDA's and cuDNN's too, and pip install tensorrt brings its own",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the findings; 1 where the environment is broken."""
    found = examine()
    if options.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(found)))
    return 1 if found["problems"] else 0


def examine() -> dict[str, Any]:
    """What is here: versions, each provider with why it does not work ("" where it does), and what breaks builds."""
    packages = distributions.versions(_LIBRARIES)
    problems = [
        {"fact": f"{name} is not installed", "hint": f"pip install {name}"}
        for name, version in packages.items()
        if version == "absent"
    ]
    providers: list[tuple[str, str]] = []
    runtimes = distributions.runtime_distributions()
    if len(runtimes) > 1:
        fact = f"{' and '.join(runtimes)} are both installed and own the same files"
        problems.append({"fact": fact, "hint": "uninstall both, then install one"})
    elif runtimes:
        from onnxbuild.runtimes.onnxruntime import usable_providers

        providers = usable_providers()
    return {
        "onnxbuild": __version__,
        "python": sys.version.split()[0],
        "platform": f"{sys.platform}, {machine.machine()}",
        "processor": machine.cpu_name(),
        "cores": machine.cores(),
        "gpu": machine.facets(["gpu"])["gpu"],
        "packages": packages,
        "providers": [
            {"name": name, "works": not why, "why": why, "hint": _remedy(name, why) if why else ""}
            for name, why in providers
        ],
        "problems": problems,
    }


def _remedy(provider: str, why: str) -> str:
    if machine.gpu() == "none seen":
        return _NO_GPU
    return _BRING.get(provider, "") if "is not found" in why else ""


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"onnxbuild      {found['onnxbuild']}",
        f"python         {found['python']} ({found['platform']})",
        f"processor      {found['processor']}, {found['cores']} cores usable",
        f"GPU            {found['gpu']}",
        *(f"{name:<14} {version}" for name, version in found["packages"].items()),
    ]
    if found["providers"]:
        lines += ["", "onnxruntime providers, each tried on a small model:"]
    broken = [one for one in found["providers"] if not one["works"]]
    for one in found["providers"]:
        lines.append(f"  {one['name']:<26} {'works' if one['works'] else 'does not work: ' + one['why']}")
    for hint in dict.fromkeys(one["hint"] for one in broken if one["hint"]):
        lines += units.wrapped("  hint: ", hint)
    lines.append("")
    if found["problems"]:
        return lines + [f"problem: {one['fact']}: {one['hint']}" for one in found["problems"]]
    but = f" {', '.join(one['name'] for one in broken)} can't be used." if broken else ""
    return lines + units.wrapped("", f"No problems found that would stop a build.{but}")
