"""The machine: processor, operating system, host, GPU, as far as the system tells without running anything."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


@functools.cache
def cpu_name() -> str:
    """The processor's model name, as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return machine()


@functools.cache
def cpu_flags() -> str:
    """The processor's feature flags, which decide the kernels that onnxruntime and oneDNN choose."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.partition(":")[2].split()))
    except OSError:
        pass
    return machine()


def gpu(driver: Path = Path("/proc/driver/nvidia")) -> str:
    """NVIDIA's driver, the cards' models and which of them are visible, as far as Linux tells; "none seen" elsewhere."""
    try:
        version = (driver / "version").read_text(encoding="utf-8").splitlines()[0]
        cards = [path.read_text(encoding="utf-8") for path in sorted(driver.glob("gpus/*/information"))]
    except (OSError, IndexError):
        return "none seen"
    models = [
        line.split(":", 1)[1].strip() for card in cards for line in card.splitlines() if line.startswith("Model:")
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return f"{', '.join(models)}; visible: {visible}; {' '.join(version.split())}"


def machine() -> str:
    """The kind of processor, as "x86_64"."""
    return _system()[2]


def host() -> str:
    """The name of this machine."""
    return _system()[1]


def system() -> str:
    """The operating system with its version, and the kind of processor: "Linux-6.8.0-x86_64"."""
    name, _, kind, release = _system()
    return f"{name}-{release}-{kind}"


@functools.cache
def _system() -> tuple[str, str, str, str]:
    """The system's name, the host's, the kind of machine, the release. `platform` takes 3 ms for it, most of it imports."""
    if hasattr(os, "uname"):
        found = os.uname()
        return found.sysname, found.nodename, found.machine, found.release
    import platform

    return platform.system(), platform.node(), platform.machine(), platform.release()


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facets(names: Iterable[str]) -> dict[str, str]:
    """The platform facets that a stage declares, by name."""
    known: dict[str, Callable[[], str]] = {
        "system": lambda: f"{sys.platform}-{machine()}",
        "python": lambda: f"{sys.implementation.name} {sys.version.split()[0]}",
        "cpu": cpu_name,
        "cpu_flags": lambda: hashlib.sha256(cpu_flags().encode()).hexdigest()[:16],
        "cores": lambda: str(cores()),
        "gpu": gpu,
    }
    return {name: known[name]() for name in names}
