from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

pytestmark = pytest.mark.recipes


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 40, 136), (2, 504, 72), (1, 512, 512)])
def test_logits_at_odd_sizes(build, models, size: tuple[int, int, int]) -> None:
    import torch

    from recipes.models.segmenter import UNet

    torch.manual_seed(0)
    model = UNet(num_classes=4).eval()
    batch, height, width = size
    image = np.random.default_rng(1).standard_normal((batch, 3, height, width), dtype=np.float32)
    [logits] = build("segmenter").run(image=image)
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).numpy()
    assert logits.shape == (batch, 4, height, width)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_all_three_axes_were_checked_at_several_sizes(build) -> None:
    stage = next(s for s in build("segmenter").report["stages"] if s["kind"] == "reference")
    dims = [case["dims"] for case in stage["facts"]["cases"]]
    for axis in ("batch", "height", "width"):
        assert len({case[axis] for case in dims}) >= 3
    assert all(case["height"] % 8 == 0 and case["width"] % 8 == 0 for case in dims)


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 40, 136)])
def test_images_of_any_size_through_openvino(build, through_openvino, size: tuple[int, int, int]) -> None:
    built = build("segmenter")
    batch, height, width = size
    image = np.random.default_rng(1).standard_normal((batch, 3, height, width), dtype=np.float32)

    [logits] = through_openvino(built.model, image=image)
    np.testing.assert_allclose(logits, built.run(image=image)[0], rtol=1e-3, atol=1e-4)
    (told,) = (target for target in built.report["targets"] if target["name"] == "openvino")
    assert told["p50"] > 0  # at 256 x 256, which no case has: the files take any size


def test_the_engine_takes_every_size_between(build) -> None:
    """TensorRT-RTX builds it without a GPU; without one nothing runs it, and the report calls it neither run nor right."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed (extra `tensorrt`)")
    built = build("segmenter")
    folder = built.model.with_name("tensorrt")
    told = next(target for target in built.report["targets"] if target["name"] == "tensorrt")
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))

    assert (folder / "model.engine").stat().st_size > 1e6
    assert about["profiles"] == [{"image": {"min": [1, 3, 32, 32], "opt": [2, 3, 64, 96], "max": [4, 3, 512, 512]}}]
    assert about["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [None, 4, None, None]}]
    rows = [row for row in built.report["parity"] if row["stage"] == "parity/tensorrt"]
    assert bool(rows) == (told["level"] == "run")
    assert told["level"] == "run" or (told["level"], bool(told["why"])) == ("built, not run", True)
