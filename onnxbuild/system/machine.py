"""The machine: processor, operating system, host, GPU, as far as the system tells without running anything."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys

from onnxbuild.system import observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NPM = "npm:"
_NO_GPU = "none seen"


@functools.cache
def cpu_name() -> str:
    """The processor's model name, as the operating system tells it."""
    return _first_in_cpuinfo("model name").strip() or machine()


@functools.cache
def cpu_flags() -> str:
    """The processor's feature flags, which decide the kernels that onnxruntime and oneDNN choose."""
    return " ".join(sorted(_first_in_cpuinfo("flags", "Features").split())) or machine()


def _first_in_cpuinfo(*names: str) -> str:
    """What Linux says under one of these names of its first processor; no further, since there may be hundreds."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2] for line in file if line.startswith(names)), "")
    except OSError:
        return ""


def gpu(driver: str = "/proc/driver/nvidia") -> str:
    """NVIDIA's driver, the cards' models and which of them are visible, as far as Linux tells; "none seen" elsewhere."""
    try:
        version = _text(f"{driver}/version").splitlines()[0]
        gpus = [f"{driver}/gpus/{card}/information" for card in _names(f"{driver}/gpus")]
        cards = [_text(path) for path in gpus if os.path.lexists(path)]
    except (OSError, IndexError):
        return _NO_GPU
    models = [
        line.split(":", 1)[1].strip() for card in cards for line in card.splitlines() if line.startswith("Model:")
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return f"{', '.join(models)}; visible: {visible}; {' '.join(version.split())}"


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def machine() -> str:
    """The kind of processor, as "x86_64"."""
    return _system()[2]


def host() -> str:
    """The name of this machine."""
    observed.note("mhost", _system()[1])
    return _system()[1]


def platform(*, gpu_too: bool = False) -> str:
    """What decides how numbers are rounded, and so is the same where the same is to be expected: "linux-x86_64-avx512".

    The system, the kind of processor and, of x86, which vector instructions it has (the kernels of onnxruntime, oneDNN and
    torch are chosen by them); with `gpu_too`, the first GPU's model: "linux-x86_64-avx2+nvidia-h100-pcie".
    """
    flags = cpu_flags().split() if machine().casefold() in ("x86_64", "amd64") else []
    level = "-avx512" if "avx512f" in flags else "-avx2" if "avx2" in flags else ""
    seen = re.split("[,;]", gpu().removeprefix(_NO_GPU))[0] if gpu_too else ""
    model = re.sub("[^a-z0-9]+", "-", seen.casefold()).strip("-")
    return f"{sys.platform}-{machine()}{level}{f'+{model}' if model else ''}"


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


def facets(names: Iterable[str], root: str = "") -> dict[str, str]:
    """The platform facets that a stage declares, by name. `root` is the project's folder, where one depends on that.

    "npm:onnxruntime-web" is the version of a package of node's that a project has.
    """
    known: dict[str, Callable[[], str]] = {
        "system": lambda: f"{sys.platform}-{machine()}",
        "python": lambda: f"{sys.implementation.name} {sys.version.split()[0]}",
        "cpu": cpu_name,
        "cpu_flags": lambda: hashlib.sha256(cpu_flags().encode()).hexdigest()[:16],
        "cores": lambda: str(cores()),
        "gpu": gpu,
        "host": host,
        "node": _node,
    }
    found = {}
    for name in names:
        if name.startswith(NPM):
            found[name] = _package(name.removeprefix(NPM), root)
            continue
        found[name] = known[name]()
        if name != "node":  # it notes by itself what it rests on: asking again would take long
            observed.note(f"m{name}", found[name])
    return found


def _node() -> str:
    from onnxbuild.system import node  # not for every run

    return node.version()


def _package(name: str, root: str) -> str:
    from onnxbuild.system import node  # ditto

    folder = node.package(name, root)
    return (node.package_version(folder) if folder else "") or node.ABSENT
