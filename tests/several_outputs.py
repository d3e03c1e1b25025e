"""A project around an .onnx file with a scalar, integers, booleans and an axis that may be empty: a build takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from workspace import Workspace

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
several (float[N, 16] x, float scale, int64[N] row, bool[N] keep)
    => ({shape} y, float[N, 32] z, int64[N] next, bool[N] left)
<float[16, 32] weight = {{{weight}}}>
{{
    product = MatMul (x, weight)
    {scaled} = Mul (product, scale)
    {dropped}
    {z} = Relu (product)
    next = Add (row, row)
    left = Not (keep)
}}
"""

RECIPE = """\
version: 1
name: several
model: {onnx: {path: m.onnx}}
export:
  opset: 17
  inputs:
    x: {dtype: float32, shape: [2, 16]}
    scale: {dtype: float32, shape: []}
    row: {dtype: int64, shape: [2]}
    keep: {dtype: bool, shape: [2]}
  outputs: [y, z, next, left]
  dynamic_axes:
    x: {0: N}
    row: {0: N}
    keep: {0: N}
    y: {0: N}
    z: {0: N}
    next: {0: N}
    left: {0: N}
  dims:
    N: {min: 0, max: 3}
"""
NAMES = ("x", "scale", "row", "keep")


def model(*, times: float = 1.0, swapped: bool = False, dropped: bool = False) -> bytes:
    """The bytes of the file; `times` scales its weights, `swapped` exchanges y and z, `dropped` takes the last axis of y."""
    values = times * np.random.default_rng(0).normal(size=512)
    y, z = ("z", "y") if swapped else ("y", "z")
    text = MODEL.format(
        weight=", ".join(f"{value:.6f}" for value in values),
        shape="float[N]" if dropped else "float[N, 32]",
        scaled="scaled" if dropped else y,
        dropped="y = ReduceMax <axes = [1], keepdims = 0> (scaled)" if dropped else "",
        z=z,
    )
    return onnx.parser.parse_model(text).SerializeToString()


def project(root: Path, targets: str) -> Workspace:
    """A new project whose recipe ends with these targets."""
    made = Workspace.make(root)
    (made.root / "m.onnx").write_bytes(model())
    made.write("several.yaml", RECIPE + targets)
    return made


def feed(size: int = 3) -> dict[str, np.ndarray]:
    """Inputs with N of this size."""
    rng = np.random.default_rng(1)
    return {
        "x": rng.normal(size=(size, 16)).astype(np.float32),
        "scale": np.array(1.5, np.float32),
        "row": rng.integers(-5, 5, size),
        "keep": rng.random(size) < 0.5,
    }


def parsed(path: Path, text: str) -> Path:
    """A graph of ONNX text, as a file."""
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>\n{text}'), path)
    return path


def another_version(folder: Path, distribution: str) -> dict[str, str]:
    """Surroundings in which a distribution seems to have another version."""
    info = folder / f"{distribution}-2099.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2099.1.0\n")
    (info / "RECORD").write_text("")
    return {"PYTHONPATH": str(folder)}


def hidden(folder: Path, package: str) -> dict[str, str]:
    """Surroundings in which a package seems not to be installed: a lone module stands before it."""
    folder.mkdir(parents=True)
    (folder / f"{package}.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(folder)}
