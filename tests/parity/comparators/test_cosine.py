from __future__ import annotations

import numpy as np
import pytest
from gating import judged, measured, options

ROW = np.array([[3.0, 4.0], [1.0, 0.0]])


def test_the_definition_over_all_elements_and_along_an_axis():
    got = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert measured("cosine", got, ROW)["figure"] == pytest.approx(25 / 26)
    assert measured("cosine", got, ROW, options("cosine", min=0.5, axis=-1))["figure"] == 0  # the worst of the vectors
    assert measured("cosine", -ROW, ROW)["figure"] == -1


def test_scale_is_not_seen_and_that_is_said():
    gate = judged("cosine", ROW * 3, ROW)
    assert gate.passed and gate.loss == pytest.approx(0, abs=1e-15)
    assert gate.unseen == "it is 3 times as long as the reference, which a cosine does not see: name sqnr beside it"
    assert judged("cosine", ROW * 1.01, ROW).unseen == ""


def test_small_losses_keep_their_digits_and_large_numbers_are_no_trouble():
    reference = np.random.default_rng(0).normal(size=1000)
    gate = judged("cosine", reference + 1e-6 * np.random.default_rng(1).normal(size=1000), reference)
    assert gate.loss == pytest.approx(5e-13, rel=0.1)
    assert measured("cosine", ROW * 1e300, ROW * 1e300)["figure"] == 1


def test_what_is_nearly_1_is_not_told_as_1():
    opts = options("cosine", min=0.9999999)
    reference = np.random.default_rng(0).normal(size=1000)
    gate = judged("cosine", reference + 1e-3 * np.random.default_rng(1).normal(size=1000), reference, opts)
    assert not gate.passed
    assert gate.told == "cosine 0.99999949, at least 0.9999999, 4.1005e-07 short"
    assert judged("cosine", reference, reference, opts).told == "cosine 1, at least 0.9999999, 1e-07 to spare"


def test_zeros_and_what_is_not_finite():
    assert measured("cosine", ROW * 0, ROW)["figure"] == 0
    assert measured("cosine", ROW * 0, ROW * 0)["figure"] == 1
    with_nan = np.array([[3.0, np.nan], [1.0, np.inf]])
    assert measured("cosine", with_nan, with_nan)["figure"] == 1


def test_where_a_direction_is_no_news():
    assert judged("cosine", np.full(5, 2.0), np.full(5, 3.0)).hollow.startswith("all values are one")
    assert judged("cosine", np.ones((1, 1)), ROW[:1, :1]).hollow == "one number has no direction, but for its sign"
    axis = options("cosine", min=0.5, axis=1)
    assert judged("cosine", np.ones((5, 1)), np.arange(5.0)[:, None], axis).hollow.startswith("one number")
    assert (
        judged("cosine", ROW, ROW, options("cosine", min=0.5, axis=2)).told == "there is no axis 2: the shape is [2, 2]"
    )
