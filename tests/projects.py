"""Small projects that end-to-end tests build: a model's Python files and its recipe."""

from __future__ import annotations

from pathlib import Path

from workspace import Workspace

TINY = """\
import torch
from models.layers import block


class Tiny(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = block(width)
        self.head = torch.nn.Linear(width, 4)

    def forward(self, x):
        features = self.body(x).mean((2, 3), keepdim=True)
        ramp = torch.arange(4, dtype=x.dtype) / 4
        flat = features.reshape(-1, features.shape[1] * features.shape[2])  # shape arithmetic, for onnxsim to fold
        return self.head(flat) + ramp


def tiny(width=8):
    return Tiny(width)
"""

LAYERS = """\
import torch


def block(width):
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.ReLU())
"""

RECIPE = """\
version: 1
name: tiny
model:
  pytorch:
    factory: models.tiny:tiny
    kwargs: {width: 8}
    seed: 0
export:
  exporter: torchscript
  opset: 17
  inputs:
    x: {dtype: float32, shape: [2, 3, 8, 8]}
  outputs: [y]
  dynamic_axes:
    x: {0: batch}
    y: {0: batch}
  dims:
    batch: {min: 1, max: 5}
optimize:
  - onnxoptimizer: [eliminate_identity, extract_constant_to_initializer]
  - onnxsim: {}
parity: {rtol: 1.0e-3, atol: 1.0e-5}
benchmark: {warmup: 1, runs: 5}
"""

# What a first build of the recipe above runs.
STAGES = {
    "export", "reference", "check/export", "parity/export",
    "optimize/1-onnxoptimizer", "check/1-onnxoptimizer", "parity/1-onnxoptimizer",
    "optimize/2-onnxsim", "check/2-onnxsim", "parity/2-onnxsim",
    "benchmark", "package",
}  # fmt: skip

# FACTS: exports cleanly, and is wrong at every batch but the example's.
BAKED = """\
import torch


class Baked(torch.nn.Module):
    def forward(self, x):
        n = int(x.shape[0])
        return x.reshape(n, -1).sum(1).reshape(n, 1)


def baked():
    return Baked()
"""

BAKED_RECIPE = """\
version: 1
name: baked
model: {{pytorch: {{factory: "models.baked:baked"}}}}
export:
  exporter: {exporter}
  opset: 18
  inputs:
    x: {{dtype: float32, shape: [{batch}, 3, 4, 6]}}
  outputs: [y]
  dynamic_axes:
    x: {{0: batch, 2: height, 3: width}}
    y: {{0: batch}}
  dims:
    batch: {{min: 1, max: 4}}
    height: {{min: 2, max: 8}}
    width: {{min: 2, max: 8}}
"""


def tiny(workspace: Workspace) -> Workspace:
    workspace.write("models/tiny.py", TINY)
    workspace.write("models/layers.py", LAYERS)
    workspace.write("tiny.yaml", RECIPE)
    return workspace


def baked(workspace: Workspace, exporter: str, batch: int) -> Workspace:
    workspace.write("models/baked.py", BAKED)
    workspace.write("baked.yaml", BAKED_RECIPE.format(exporter=exporter, batch=batch))
    return workspace


def install(place: Path, name: str, version: str, files: dict[str, str]) -> None:
    """A distribution as pip leaves it."""
    import base64
    import hashlib

    info = f"{name}-{version}.dist-info"
    rows = []
    for file, text in {**files, f"{info}/METADATA": f"Name: {name}\nVersion: {version}\n"}.items():
        path = place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{file},sha256={digest},{len(text)}")
    (place / info / "RECORD").write_text("\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
