from __future__ import annotations

import numpy as np
from gating import judged, measured, options

MAP = np.random.default_rng(3).normal(size=(2, 5, 4, 4)).astype(np.float32)  # classes on axis 1


def test_the_definition_along_an_axis():
    wrong = MAP.copy()
    wrong[0, :, 0, 0] = -wrong[0, :, 0, 0]
    found = judged("argmax", wrong, MAP, options("argmax", axis=1, agreement=0.9))
    assert found.figure == 31 / 32
    assert found.told == "argmax 0.96875, at least 0.9, 0.06875 to spare"
    assert measured("argmax", np.roll(MAP, 1, 1), MAP, options("argmax", axis=1))["figure"] == 0


def test_of_equal_ones_each_is_right_and_nan_is_none():
    tied = np.array([[2.0, 2.0, 1.0]])
    assert measured("argmax", np.array([[0.0, 3.0, 1.0]]), tied)["figure"] == 1
    assert measured("argmax", np.array([[0.0, 1.0, 3.0]]), tied)["figure"] == 0
    assert measured("argmax", np.array([[np.nan, 1.0, 0.0]]), np.array([[np.nan, 7.0, 0.0]]))["figure"] == 1


def test_where_any_graph_agrees():
    assert judged("argmax", MAP[:, :1], MAP[:, :1], options("argmax", axis=1)).hollow == (
        "there is one class: any graph would agree"
    )
    assert judged("argmax", MAP, MAP * 0).hollow == "all classes have one value: any graph would agree"
