"""A mere .onnx file held against a lock: what a lock would say of it, as far as a file tells.

Imports onnx.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import msgspec

from onnxbuild.graphs import interface, lines, mapped, modelfile, notes, tensors, weights
from onnxbuild.report.types import Tensor
from onnxbuild.review import facts
from onnxbuild.review.facts import OF_GRAPH
from onnxbuild.review.lockfile import Lock


def as_lock(path: Path, like: Lock) -> Lock:
    """`like`, but for the interface, the graph and the weights, which are the file's. Raises UserError and StageError where
    it can't be read.
    """
    model = mapped.read(path)
    signature = interface.signature(model)
    operators = Counter(lines.op(node) for body in tensors.bodies(model) for node in body.node)
    with tempfile.TemporaryDirectory(prefix="onnxbuild-diff-") as folder:
        ref, blobs = modelfile.save(model, path.parent, Path(folder), notes.of(model))
        graph_sha256, weights_sha256 = weights.digests(modelfile.structure(Path(folder) / ref))
        size = sum((Path(folder) / name).stat().st_size for name in (ref, *blobs))
    found = {
        "opset_imports": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "ops": dict(sorted(operators.items())),
        "parameters": sum(weights.counted(model).values()),
        "bytes": size,
        "graph_sha256": graph_sha256,
    }
    bound = {name: found[name] for name in OF_GRAPH if getattr(like, name) is msgspec.UNSET}
    platforms = {
        name: msgspec.structs.replace(one, weights_sha256=weights_sha256, **bound)
        for name, one in like.platforms.items()
    }
    return msgspec.structs.replace(
        like,
        inputs={one["name"]: _signature(one) for one in signature["inputs"]},
        outputs={one["name"]: _signature(one) for one in signature["outputs"]},
        ir_version=model.ir_version,
        platforms=platforms,
        **{name: value for name, value in found.items() if name not in bound},
    )


def _signature(value: dict[str, object]) -> str:
    return facts.signature(msgspec.convert({"shape": [], **{k: v for k, v in value.items() if v is not None}}, Tensor))
