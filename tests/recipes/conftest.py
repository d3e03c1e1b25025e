"""Builds recipes of this repository through the front door, once per test module."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Built:
    """What a recipe became."""

    model: Path
    report: dict[str, Any]

    def run(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of the built file in onnxruntime on the CPU."""
        import onnxruntime

        return onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"]).run(None, inputs)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """`build("resnet")` runs `onnxbuild run recipes/resnet.yaml` into a folder and a store of this module's own."""
    folder = tmp_path_factory.mktemp("recipes")

    @cache
    def run(recipe: str) -> Built:
        out = folder / recipe
        done = subprocess.run(
            [sys.executable, "-m", "onnxbuild", "run", f"recipes/{recipe}.yaml", "--out", str(out), "--quiet"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),  # the code beside these tests
                "HOME": str(folder / "home"),
                "ONNXBUILD_CACHE": str(folder / "store"),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        [report] = out.glob("*/report.json")
        return Built(report.parent / "model.onnx", json.loads(report.read_text(encoding="utf-8")))

    return run


@pytest.fixture
def through_openvino() -> Callable[..., np.ndarray]:
    """What a built openvino target computes on the processor, in float32: `through_openvino(model, input=array)`."""
    if importlib.util.find_spec("openvino") is None:  # not imported as it is: it would count its users over the network
        pytest.skip("openvino is not installed (extra `openvino`)")
    from onnxbuild.runtimes import openvino as runtime

    def run(model: Path, **inputs: np.ndarray) -> np.ndarray:
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = runtime.library().Core().compile_model(model.parent / "openvino/model.xml", "CPU", exact)
        return compiled(inputs)[compiled.output(0)]

    return run


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test import `recipes.models` as the factories are: from the project root."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture(scope="module")
def package() -> Callable[[str], Path]:
    """`package("silero_vad")` is where that package lies, found without an import; skips where it is not there."""

    def find(name: str) -> Path:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"{name} is not installed (extra `recipes`)")
        return Path(next(iter(spec.submodule_search_locations)))

    return find
