"""Builds recipes of this repository through the front door, once per test module."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "tests/web"  # where `make test` installs onnxruntime-web


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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module's own, with a store and an output folder."""
    return tmp_path_factory.mktemp("recipes")


def onnxbuild(folder: Path, root: Path, *arguments: str) -> str:
    """What `onnxbuild ARGUMENTS` prints on a recipe of this repository, with the store in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "onnxbuild", *arguments],
        cwd=root,
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
    return done.stdout


def copied(root: Path) -> Path:
    """A copy of the recipes, less the time that their benchmarks take: how fast a model is, no test asks."""
    shutil.copytree(ROOT / "recipes", root / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "pyproject.toml").touch()
    for path in (root / "recipes").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"\bwarmup: \d+, runs: \d+", "warmup: 1, runs: 4", text), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def project(folder: Path) -> Path:
    """Where node does not find onnxruntime-web."""
    return copied(folder / "project")


@pytest.fixture(scope="module")
def web_project(folder: Path) -> Path:
    """Where it does."""
    root = copied(folder / "web/project")
    (root.parent / "node_modules").symlink_to(WEB / "node_modules")
    return root


@pytest.fixture(scope="module")
def rebuild(folder: Path, project: Path) -> Callable[[str], str]:
    """What `onnxbuild verify --rebuild` says of a recipe that was built."""
    return lambda recipe: onnxbuild(
        folder, project, "verify", "--rebuild", f"recipes/{recipe}.yaml", "--out", str(folder / "build")
    )


@pytest.fixture(scope="module")
def build(folder: Path, request: pytest.FixtureRequest) -> Callable[..., Built]:
    """`build("resnet")` runs `onnxbuild run recipes/resnet.yaml` into a folder and a store of this module's own.

    Of several recipes it is one command, and gives a list. With `web` node finds onnxruntime-web.
    """

    @cache
    def run(*recipes: str, web: bool = False) -> Any:
        out = folder / "build"
        root = request.getfixturevalue("web_project" if web else "project")
        paths = [f"recipes/{recipe}.yaml" for recipe in recipes]
        onnxbuild(folder, root, "run", *paths, "--out", str(out), "--quiet")
        names = [yaml.safe_load((root / path).read_text(encoding="utf-8"))["name"] for path in paths]
        built = [
            Built(out / name / "model.onnx", json.loads((out / name / "report.json").read_bytes())) for name in names
        ]
        return built if len(built) > 1 else built[0]

    return run


@pytest.fixture
def through_openvino() -> Callable[..., list[np.ndarray]]:
    """The outputs of a built openvino target on the processor, in float32: `through_openvino(model, input=array)`."""
    if importlib.util.find_spec("openvino") is None:  # not imported as it is: it would count its users over the network
        pytest.skip("openvino is not installed (extra `openvino`)")
    from onnxbuild.runtimes import openvino as runtime

    def run(model: Path, **inputs: np.ndarray) -> list[np.ndarray]:
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = runtime.library().Core().compile_model(model.parent / "openvino/model.xml", "CPU", exact)
        results = compiled(inputs)
        return [results[port] for port in compiled.outputs]

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
