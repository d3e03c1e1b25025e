"""The wine recipes: labels of the built files equal those of the estimators, on the real wines."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytestmark = [pytest.mark.recipes, pytest.mark.usefixtures("models")]


def test_the_pipeline_with_a_column_of_text(build) -> None:
    pytest.importorskip("skl2onnx")
    from recipes.models import wine

    built = build("wine")
    features, cultivar = wine.table()
    feeds = {name: features[[name]].to_numpy(np.float32) for name in wine.NUMBERS}
    label, probabilities = built.run(**feeds, colour=features[["colour"]].to_numpy(object))
    own = wine.pipeline()
    assert (label == own.predict(features)).all()
    np.testing.assert_allclose(probabilities, own.predict_proba(features), atol=1e-5)
    assert (label == cultivar).mean() > 0.95
    assert {row["status"] for row in built.report["parity"]} == {"passed"}


def test_gradient_boosted_trees_past_the_converters_opset(build) -> None:
    pytest.importorskip("onnxmltools")
    from recipes.models import wine

    built = build("wine-lightgbm")
    features, _ = wine.table()
    label, probabilities = built.run(**{name: features[[name]].to_numpy(np.float32) for name in wine.NUMBERS})
    own = wine.boosted(30)
    assert (label == own.predict(features[list(wine.NUMBERS)])).all()
    np.testing.assert_allclose(probabilities, own.predict_proba(features[list(wine.NUMBERS)]), atol=1e-5)
    assert {one.domain: one.version for one in onnx.load(built.model).opset_import} == {"": 21, "ai.onnx.ml": 1}
