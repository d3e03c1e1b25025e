"""What a library needs of the machine, asked before it runs. No pass itself."""

from __future__ import annotations

from pathlib import Path

from onnxbuild.errors import LackError
from onnxbuild.graphs import modelfile
from onnxbuild.system import memory
from onnxbuild.text import units


def require_memory(name: str, path: Path, times: float) -> None:
    """Raises LackError where a library will not have the memory that it takes, `times` the weights, by experience."""
    weights = modelfile.total_bytes(modelfile.structure(path))
    needed, there = int(weights * times), memory.available()
    if needed > there:
        fact = f"{name}: it would take about {units.size(needed)} of memory, of which {units.size(there)} are free"
        raise LackError(fact, "run it on a machine with more memory")
