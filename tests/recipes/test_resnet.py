from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.recipes


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((5, 3, 224, 224), dtype=np.float32)


@pytest.fixture
def resnet50(models):
    import torch

    from recipes.models.resnet import resnet50

    torch.manual_seed(0)
    return resnet50(num_classes=1000).eval()


def test_architecture_is_torchvisions(resnet50) -> None:
    assert sum(p.numel() for p in resnet50.parameters()) == 25_557_032
    names = resnet50.state_dict()
    assert len(names) == 320
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias", "fc.bias"} <= set(
        names
    )
    assert names["layer3.0.conv2.weight"].shape == (256, 256, 3, 3)
    assert resnet50.layer3[0].conv2.stride == (2, 2)  # v1.5


def test_batch_norms_are_not_trivial(resnet50) -> None:
    import torch

    norms = [module for module in resnet50.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 53
    for norm in norms:
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor.std() > 0.01


@pytest.mark.parametrize(
    ("recipe", "opset"), [("resnet", 18), pytest.param("resnet-torchscript", 17, marks=pytest.mark.heavy)]
)
def test_logits_are_the_models_own(build, resnet50, images, recipe: str, opset: int) -> None:
    import torch

    built = build(recipe)
    [logits] = built.run(input=images)
    with torch.no_grad():
        expected = resnet50(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    assert all(graph["opset_imports"] == {"": opset} for graph in built.report["graphs"])
    assert "BatchNormalization" not in built.report["graphs"][-1]["ops"]
