from __future__ import annotations

from pathlib import Path

import pytest

from onnxbuild import recipe
from onnxbuild.errors import UserError

GOOD = """\
# yaml-language-server: $schema=../schemas/recipe.schema.json
version: 1
name: resnet50
description: ResNet-50 image classifier, NCHW float32, any batch size.

model:
  pytorch:                                   # exactly one kind of source per recipe
    factory: nets.resnet:resnet50            # an importable callable, resolved from the project root
    kwargs: {num_classes: 1000}
    seed: 0

export:
  exporter: dynamo                           # dynamo (torch.export) or torchscript
  opset: 18
  inputs:
    input: {dtype: float32, shape: [2, 3, 224, 224]}
  outputs: [output]
  dynamic_axes:
    input: {0: batch}
    output: {0: batch}
  dims:
    batch: {min: 1, max: 64}

symbolics: {}                                # custom operators, one entry serving both exporters

optimize:                                    # passes, in order; each one is a stage of its own
  - onnxsim: {}
  - onnxoptimizer: [eliminate_deadend, eliminate_identity, fuse_consecutive_transposes, fuse_bn_into_conv]

parity: {rtol: 1.0e-3, atol: 1.0e-5}         # checked after the export and after every pass

runtime:
  providers: [CUDAExecutionProvider, CPUExecutionProvider]
  session: {graph_optimization_level: all, intra_op_num_threads: 4}

benchmark: {warmup: 10, runs: 100}
"""


class Project:
    """A project's folder; its recipes are given to onnxbuild by absolute path and shown relative to the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "pyproject.toml").touch()
        self.write(
            "nets/resnet.py", "import torch_is_not_imported_here\n\n\ndef resnet50(num_classes):\n    return 1\n"
        )

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def load(self, content: str | bytes, name: str = "r.yaml") -> recipe.Loaded:
        return recipe.load(self.write(name, content))

    def refused(self, content: str | bytes = "", *changes: tuple[str, str], paths: tuple[str, ...] = ()) -> str:
        """What is said of the good recipe with some text replaced, or of this one."""
        text = content or GOOD
        for old, new in changes:
            assert isinstance(text, str)
            assert text.count(old) == 1, (old, text.count(old))
            text = text.replace(old, new)
        if not paths:
            self.write("r.yaml", text)
        with pytest.raises(UserError) as caught:
            recipe.load_all([self.root / path for path in paths or ("r.yaml",)])
        return str(caught.value).replace(f"{self.root}/", "").replace(str(self.root), "ROOT")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def good() -> str:
    return GOOD
