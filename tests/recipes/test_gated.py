from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.recipes


@pytest.mark.sample(2)
@pytest.mark.parametrize("recipe", ["gated", "gated-torchscript"])
def test_both_branches_are_in_the_graph_and_right(build, models, recipe: str) -> None:
    import torch

    from recipes.models.gated import CondGate

    torch.manual_seed(0)
    model = CondGate(features=64, threshold=0.5).eval()
    built = build(recipe)
    assert built.report["graphs"][-1]["ops"]["If"] == 1
    noise = np.random.default_rng(3).standard_normal((9, 64), dtype=np.float32)
    for frames, branch in ((noise, model.loud), (0.1 * noise, model.quiet)):
        [result] = built.run(frames=frames)
        with torch.no_grad():
            expected = branch(torch.from_numpy(frames)).numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("recipe", ["gated", "gated-torchscript"])
def test_parity_took_both_branches(build, recipe: str) -> None:
    rows = [row for row in build(recipe).report["parity"] if row["stage"] == "parity/export"]
    assert {"quiet", "quiet-batch", "loud"} <= {row["case"] for row in rows}
    assert all(row["passed"] for row in rows)
