"""Photographs of scikit-image and scikit-learn, as EfficientNet-Lite takes them. Calibration and validation share none.

Labels are ImageNet's: what a photograph shows, as far as ImageNet has a class for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

CALIBRATION = ("astronaut.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "retina.jpg")
LABELLED = {"coffee.png": 967, "chelsea.png": 282, "rocket.jpg": 657}  # espresso, tiger cat, missile
SIDE = 224


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Four cuts of each photograph, one a run: input (1, 3, 224, 224), float32."""
    import sklearn.datasets
    from PIL import Image

    folder = _folder()
    pictures = [np.asarray(Image.open(folder / name).convert("RGB")) for name in CALIBRATION]
    pictures += sklearn.datasets.load_sample_images().images
    for picture in pictures:
        for cut in _cuts(picture)[:4]:
            yield {"input": cut[None]}


def validation() -> Iterator[dict[str, np.ndarray]]:
    """Ten cuts of each labelled photograph, one photograph a run: input (10, 3, 224, 224), float32; label (10,), int64."""
    from PIL import Image

    folder = _folder()
    for name, label in LABELLED.items():
        cuts = _cuts(np.asarray(Image.open(folder / name).convert("RGB")))
        yield {"input": np.stack([*cuts, *(cut[:, :, ::-1] for cut in cuts)]), "label": np.full(2 * len(cuts), label)}


def top1(outputs: dict[str, np.ndarray], data: dict[str, np.ndarray]) -> float:
    """The share of rows whose largest logit is their label's."""
    return float((outputs["logits"].argmax(1) == data["label"]).mean())


def _folder() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data"


def _cuts(picture: np.ndarray) -> list[np.ndarray]:
    """The middle and four corners of the photograph's largest square, 7/8 of its side; (x - 127) / 128, CHW, float32."""
    from PIL import Image

    height, width = picture.shape[:2]
    square = min(height, width)
    side = square * 7 // 8
    top, left, rest = (height - square) // 2, (width - square) // 2, square - side
    places = [(rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest)]
    cuts = []
    for down, right in places:
        cut = picture[top + down : top + down + side, left + right : left + right + side]
        resized = Image.fromarray(cut).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        cuts.append(((np.asarray(resized, dtype=np.float32) - 127) / 128).transpose(2, 0, 1))
    return cuts
