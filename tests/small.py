"""A project that builds in under a second: an .onnx file as the source, weights large enough to be objects of their own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from workspace import Workspace

from onnxbuild.store import integrity

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 16] x) => (float[N, 32] y)
<float[16, 32] weight = {{{weight}}}>
{{
    {same}
    product = MatMul (same, weight)
    y = Relu (product)
}}
"""

RECIPE = """\
version: 1
name: {name}
model: {{onnx: {{path: {model}}}}}
export:
  opset: 17
  inputs:
    x: {{dtype: float32, shape: [2, 16]}}
  outputs: [y]
  dynamic_axes:
    x: {{0: N}}
    y: {{0: N}}
  dims:
    N: {{min: 1, max: 3}}
optimize: [{optimize}]
package: {{external_data: {external}}}
"""

IDENTITY = "same = Identity (x)"
PASS = "{onnxoptimizer: [eliminate_identity]}"
# What a first build runs.
STAGES = {
    "export", "reference", "check/export", "parity/export",
    "optimize/1-onnxoptimizer", "check/1-onnxoptimizer", "parity/1-onnxoptimizer", "package",
}  # fmt: skip


def model(version: int, *, identity: bool = True, comment: str = "") -> bytes:
    """The bytes of an .onnx file; `version` decides its weights, `comment` nothing that it computes."""
    values = np.random.default_rng(version).normal(size=512).astype(np.float32)
    same = IDENTITY if identity else "same = Add (x, x)"
    parsed = onnx.parser.parse_model(MODEL.format(weight=", ".join(f"{v:.6f}" for v in values), same=same))
    shaped = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, [comment or "N", 16])
    parsed.graph.value_info.append(shaped)
    return parsed.SerializeToString()


def recipe(name: str = "small", path: str = "m.onnx", *, optimize: str = PASS, external: bool = True) -> str:
    return RECIPE.format(name=name, model=path, optimize=optimize, external=str(external).lower())


def small(workspace: Workspace, version: int = 1, *, external: bool = True) -> Workspace:
    (workspace.root / "pyproject.toml").touch()
    (workspace.root / "m.onnx").write_bytes(model(version))
    workspace.write("small.yaml", recipe(external=external))
    return workspace


def published(root: Path, name: str = "small") -> dict[str, bytes]:
    """The published files that runtimes read, by name."""
    return {path.name: path.read_bytes() for path in sorted((root / "build" / name).glob("model.onnx*"))}


def models(root: Path, name: str = "small") -> dict[str, bytes]:
    """As `published`, whatever the recipe said besides that the model is of: its digest in the model left out."""
    digest = rb"(onnxbuild\.recipe_sha256\x12@)[0-9a-f]{64}"
    return {file: re.sub(digest, rb"\1", content) for file, content in published(root, name).items()}


def unsound(root: Path) -> list[str]:
    """What is wrong with a project's store, each of its files read in full."""
    return [f"{finding.path}: {finding.fact}" for finding in integrity.check(root / ".onnxbuild").findings]
