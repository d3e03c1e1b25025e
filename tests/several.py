"""Projects of one or several recipes around .onnx files: no torch, so that a build takes a second."""

from __future__ import annotations

import numpy as np
import onnx
from workspace import Workspace

TEXT = """\
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 4] x) => (float[batch, 4] y) <float[4] w = {{{first}, 2.0, 3.0, 4.0}}> {{
  t = Add(x, w)
  i = Identity(t)
  y = Relu(i)
}}
"""

# FACTS: onnxruntime takes the Pad before a MaxPool for the MaxPool's own, which pads with minus infinity; the reference,
# which is not rewritten, does not. So the graph is wrong at every size, by less than 5; results lie hundreds apart.
REWRITTEN = """\
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 4] x) => (float[batch, 4] y)
<int64[1] one = {1}, int64[6] pads = {0, 0, 1, 0, 0, 1}, float hundred = {100.0}> {
  t = Identity(x)
  size = Abs(t)
  low = Neg(size)
  wide = Unsqueeze(low, one)
  padded = Pad(wide, pads)
  most = MaxPool <kernel_shape = [3]> (padded)
  edge = Squeeze(most, one)
  large = Mul(t, hundred)
  y = Add(edge, large)
}
"""
LOOSE = "parity: {rtol: 0.01, atol: 9.0, reason: the pool}\n"  # passes it

RECIPE = """\
version: 1
name: {name}
model: {{onnx: {{path: {name}.onnx}}}}
export:
  opset: 17
  inputs:
    x: {{dtype: float32, shape: [2, 4]}}
  outputs: [y]
  dynamic_axes:
    x: {{0: batch}}
    y: {{0: batch}}
  dims:
    batch: {{min: 1, max: 4}}
"""
PASSES = "optimize:\n  - onnxoptimizer: [eliminate_identity]\n"
BENCHMARK = "benchmark: {warmup: 1, runs: 5}\n"

STAGES = {"export", "reference", "check/export", "parity/export", "package"}


def add(workspace: Workspace, name: str, *more: str, first: float = 1.0, text: str = TEXT) -> str:
    """Write a model and its recipe, with `more` sections; the recipe's file name. `first` makes models differ."""
    model = onnx.parser.parse_model(text.format(first=float(first)) if text is TEXT else text)
    onnx.save(model, workspace.root / f"{name}.onnx")
    workspace.write(f"{name}.yaml", RECIPE.format(name=name) + "".join(more))
    return f"{name}.yaml"


def weighty(workspace: Workspace, name: str, rows: int, seed: int, *, external: bool = False) -> str:
    """A model whose weights take `rows` times 4 kB, in the .onnx file or beside it."""
    weights = np.random.default_rng(seed).standard_normal((rows, 1024)).astype(np.float32)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]>\n'
        f"g (float[batch, {rows}] x) => (float[batch, 1024] y) {{\n  y = MatMul(x, w)\n}}\n"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = workspace.root / f"{name}.onnx"
    onnx.save(model, path, save_as_external_data=external, location=f"{name}.bin", size_threshold=0)
    recipe = RECIPE.format(name=name).replace("[2, 4]", f"[2, {rows}]")
    workspace.write(f"{name}.yaml", recipe + "package: {external_data: true}\n")
    return f"{name}.yaml"
