"""Versions of installed distributions and facts about this machine, without importing any of them.

Reads the names of `*.dist-info` folders on sys.path, which takes a few milliseconds; importlib.metadata would open a file
for each. Knows nothing of stages or keys.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


@functools.cache
def distributions() -> dict[str, tuple[str, str]]:
    """Every installed distribution: normalised name to (version, its dist-info folder); the first on sys.path wins."""
    found: dict[str, tuple[str, str]] = {}
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for entry in names:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").partition("-")
                found.setdefault(normalise_name(name), (version, os.path.join(folder, entry)))  # noqa: PTH118  # hot path
    return found


def normalise_name(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution named, "absent" where there is none.

    "onnxruntime" stands for whichever distribution provides it.
    """
    installed = distributions()
    found = {}
    for name in names:
        actual = runtime_distribution() if name == "onnxruntime" else name
        found[actual] = installed.get(normalise_name(actual), ("absent", ""))[0]
    return found


def runtime_distribution() -> str:
    """The name of the installed distribution that provides the package onnxruntime."""
    return next((name for name in runtime_distributions()), "onnxruntime")


def runtime_distributions() -> list[str]:
    """All installed distributions that provide the package onnxruntime; more than one is a broken environment."""
    return sorted((name for name in distributions() if re.fullmatch(r"onnxruntime(-[a-z0-9-]+)?", name)), reverse=True)


@functools.cache
def record_digest(name: str) -> str:
    """SHA-256 of a distribution's RECORD, which lists the digest of each of its files; "absent" if not installed.

    A distribution without a RECORD (installed by something other than pip) is known by its METADATA alone.
    """
    _, folder = distributions().get(normalise_name(name), ("", ""))
    for file in ("RECORD", "METADATA"):
        try:
            return hashlib.sha256(Path(folder, file).read_bytes()).hexdigest()
        except OSError:
            continue
    return "absent"


@functools.cache
def owners() -> dict[str, set[str]]:
    """Which distributions put files below each top-level name of site-packages ("yaml" to {"pyyaml"})."""
    found: dict[str, set[str]] = {}
    for name, (_, folder) in distributions().items():
        try:
            lines = Path(folder, "RECORD").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for top in {line.split(",", 1)[0].split("/", 1)[0] for line in lines}:
            if not top.endswith(".dist-info") and top not in ("..", "__pycache__"):
                found.setdefault(top.split(".", 1)[0], set()).add(name)
    return found


@functools.cache
def cpu_name() -> str:
    """The processor's model name, as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def cpu_flags() -> str:
    """The processor's feature flags, which decide the kernels that onnxruntime and oneDNN choose."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.partition(":")[2].split()))
    except OSError:
        pass
    return platform.machine()


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facets(names: Iterable[str]) -> dict[str, str]:
    """The platform facets that a stage declares, by name."""
    known: dict[str, Callable[[], str]] = {
        "system": lambda: f"{sys.platform}-{platform.machine()}",
        "python": lambda: f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": cpu_name,
        "cpu_flags": lambda: hashlib.sha256(cpu_flags().encode()).hexdigest()[:16],
        "cores": lambda: str(cores()),
    }
    return {name: known[name]() for name in names}
