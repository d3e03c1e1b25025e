"""What a careful person would write by hand for recipes/resnet.yaml: no store, no recipe, no report.

Export, checker, the two passes, and parity at the recipe's own cases after the export and after each pass. Run from the
project root; prints nothing and exits 1 where parity fails. `bench.py` times it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxoptimizer
import onnxruntime
import onnxsim
import torch

sys.path.insert(0, ".")
from recipes.models.resnet import resnet50

BATCHES = [int(size) for size in sys.argv[1:]] or [2, 1, 3]  # the first is the example
PASSES = ["eliminate_deadend", "eliminate_identity", "fuse_consecutive_transposes", "fuse_bn_into_conv"]
RTOL, ATOL = 1e-3, 1e-4


def holds(path: Path, inputs: list[np.ndarray], references: list[np.ndarray]) -> bool:
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return all(
        np.allclose(session.run(None, {"input": data})[0], reference, rtol=RTOL, atol=ATOL)
        for data, reference in zip(inputs, references, strict=True)
    )


def main() -> bool:
    torch.manual_seed(0)
    model = resnet50(num_classes=1000).eval()
    generator = np.random.default_rng(0)
    inputs = [generator.standard_normal((batch, 3, 224, 224), dtype=np.float32) for batch in BATCHES]
    with torch.no_grad():
        references = [model(torch.from_numpy(data)).numpy() for data in inputs]
    with tempfile.TemporaryDirectory() as folder:
        graphs = [Path(folder, f"{step}.onnx") for step in ("export", "onnxsim", "onnxoptimizer")]
        torch.onnx.export(
            model,
            (torch.from_numpy(inputs[0]),),
            graphs[0],
            dynamo=True,
            external_data=False,
            opset_version=18,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            verbose=False,
        )
        passed = holds(graphs[0], inputs, references)
        simplified, _ = onnxsim.simplify(onnx.load(graphs[0]))
        onnx.save(simplified, graphs[1])
        passed &= holds(graphs[1], inputs, references)
        onnx.save(onnxoptimizer.optimize(simplified, PASSES), graphs[2])
        return passed & holds(graphs[2], inputs, references)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
