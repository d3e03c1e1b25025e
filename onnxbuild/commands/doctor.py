"""`onnxbuild doctor`: versions, and which onnxruntime providers really run a model here."""

from __future__ import annotations

import argparse
import sys

from onnxbuild import __version__
from onnxbuild.system import distributions, machine
from onnxbuild.text import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
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
# Those that a build can't do without; an import that fails says what a version doesn't.
_IMPORTED = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxoptimizer", "onnxsim", "safetensors")
_NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
_WITHOUT = "leave it out of runtime.providers, or let the next one in that list stand in"
_NO_GPU = f"no NVIDIA GPU is seen here: {_WITHOUT}"
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
    broken = _unimportable(runtimes)
    problems += broken.values()
    if len(runtimes) == 1 and not {"onnxruntime", "onnx"} & broken.keys():
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


def _unimportable(runtimes: Sequence[str]) -> dict[str, dict[str, str]]:
    """What is installed and can't be imported, as problems; `runtimes` are the distributions that onnxruntime is from."""
    import importlib

    found = {}
    for name in _IMPORTED:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):  # told where versions are
                fact = f"{name} can't be imported: {type(error).__name__}: {units.line(str(error))}"
                brought = runtimes[0] if runtimes and name == "onnxruntime" else name
                hint = f"install it again, or what it lacks: pip install --force-reinstall {brought}"
                found[name] = {"fact": fact, "hint": hint}
    return found


def _remedy(provider: str, why: str) -> str:
    if provider in _NVIDIA and machine.gpu() == "none seen":
        return _NO_GPU
    return _BRING.get(provider, _WITHOUT) if "is not found" in why else _WITHOUT


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
        told = (units.wrapped("problem: ", f"{one['fact']}: {one['hint']}") for one in found["problems"])
        return lines + [line for part in told for line in part]
    but = f" {', '.join(one['name'] for one in broken)} can't be used." if broken else ""
    return lines + units.wrapped("", f"No problems found that would stop a build.{but}")
