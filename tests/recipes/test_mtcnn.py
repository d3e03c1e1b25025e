"""MTCNN's three networks on both backends of Keras, put together to find a face in a real picture; and MobileNetV2."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.recipes

NETS = ("pnet", "rnet", "onet")


@pytest.fixture(scope="module")
def nets(build, package):
    """The built networks by name, and those of the other backend as "pnet-tensorflow"."""
    for name in ("mtcnn", "keras", "tensorflow", "tf2onnx"):
        package(name)
    names = [*NETS, *(f"{net}-tensorflow" for net in NETS)]
    return dict(zip(names, build(*(f"mtcnn-{name}" for name in names)), strict=True))


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """As the package does it, by area; MTCNN's own range of pixels, NHWC."""
    from PIL import Image

    small = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
    return (np.asarray(small, np.float32)[None] - 127.5) / 128


def suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Which boxes (x1, y1, x2, y2) remain, the best first, of those that share more than `overlap` of their union."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for one in np.argsort(-scores):
        others = boxes[kept]
        low, high = np.maximum(boxes[one, :2], others[:, :2]), np.minimum(boxes[one, 2:], others[:, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        if np.all(shared / (areas[one] + areas[kept] - shared) <= overlap):
            kept.append(int(one))
    return np.array(kept, int)


def proposals(pnet, picture: np.ndarray) -> np.ndarray:
    """What PNet takes for a face, from 40 pixels on, at any size."""
    found, scores = [np.empty((0, 4))], [np.empty(0)]
    scale = 12 / 40
    while min(picture.shape[:2]) * scale >= 12:
        height, width = (round(size * scale) for size in picture.shape[:2])
        offsets, faces = pnet.run(image=resized(picture, height, width))
        rows, columns = np.nonzero(faces[0, :, :, 1] > 0.6)
        corners = np.stack([columns * 2, rows * 2, columns * 2 + 12, rows * 2 + 12], axis=1)
        boxes = (corners + offsets[0, rows, columns] * 12) / scale
        score = faces[0, rows, columns, 1]
        kept = suppressed(boxes, score, 0.5)
        found.append(boxes[kept])
        scores.append(score[kept])
        scale *= 0.709
    boxes = np.concatenate(found)
    return boxes[suppressed(boxes, np.concatenate(scores), 0.7)]


def judged(net, picture: np.ndarray, boxes: np.ndarray, size: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The boxes that a network keeps of those proposed, moved as it says, with its scores."""
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    low = np.clip((middle - side / 2).astype(int), 0, np.array(picture.shape[1::-1]) - 12)
    high = np.clip((middle + side / 2).astype(int), low + 12, picture.shape[1::-1])
    patches = [resized(picture[y1:y2, x1:x2], size, size) for (x1, y1), (x2, y2) in zip(low, high, strict=True)]
    offsets, *_, faces = net.run(image=np.concatenate(patches))
    squares = np.concatenate([low, high], axis=1)
    sides = np.tile(high - low, 2)
    boxes, scores = squares + offsets * sides, faces[:, 1]
    sure = scores > threshold
    kept = suppressed(boxes[sure], scores[sure], 0.7)
    return boxes[sure][kept], scores[sure][kept]


@pytest.mark.parametrize("backend", ["", "-tensorflow"])
def test_the_astronauts_face_is_found(nets, backend):
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra `recipes`)")
    picture = data.astronaut()
    boxes = proposals(nets[f"pnet{backend}"], picture)
    boxes, _ = judged(nets[f"rnet{backend}"], picture, boxes, 24, 0.7)
    boxes, scores = judged(nets[f"onet{backend}"], picture, boxes, 48, 0.8)
    best = boxes[scores.argmax()]
    assert scores.max() > 0.99
    eyes_and_mouth = np.array([195, 95, 250, 150])
    assert np.all(best[:2] < eyes_and_mouth[:2]), best
    assert np.all(best[2:] > eyes_and_mouth[2:]), best
    assert np.all(best[2:] - best[:2] < 160), best


@pytest.mark.parametrize(
    ("net", "shape"), [("pnet", (3, 61, 40, 3)), ("rnet", (5, 24, 24, 3)), ("onet", (5, 48, 48, 3))]
)
def test_both_backends_give_the_same(nets, net, shape):
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    one, other = nets[net].run(image=image), nets[f"{net}-tensorflow"].run(image=image)
    for got, want in zip(one, other, strict=True):
        assert got.std() > 1e-3
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
def test_mobilenet_v2_of_keras(build, package):
    package("keras")
    made = build("mobilenet-keras")
    rng = np.random.default_rng(0)
    [logits] = made.run(image=rng.uniform(-1, 1, (7, 96, 96, 3)).astype(np.float32))
    assert logits.shape == (7, 1000)
    assert {row["status"] for row in made.report["parity"]} == {"passed"}
    assert np.abs(logits[0] - logits[1]).max() > 0.1
