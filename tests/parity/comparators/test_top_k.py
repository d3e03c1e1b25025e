from __future__ import annotations

import numpy as np
import pytest
from gating import judged, measured, options

SCORES = np.array([[1.0, 9.0, 5.0, 7.0], [4.0, 3.0, 2.0, 1.0]])


def figure(got, k, reference=SCORES, **own):
    return measured("top_k", np.array(got), reference, options("top_k", k=k, **own))["figure"]


def test_the_definition():
    assert figure([[1, 9, 8, 7], [4, 3, 2, 1.0]], 2) == 0.75  # 1 and 2 instead of 1 and 3 in the first row
    assert figure([[9, 1, 5, 7], [4, 3, 2, 1.0]], 1) == 0.5
    assert figure(SCORES.T * 1, 2, SCORES.T, axis=0) == 1.0
    assert figure(SCORES[:, ::-1], 1) == 0.0


def test_what_ties_with_the_kth_is_as_right():
    tied = np.array([[5.0, 5.0, 5.0, 1.0]])
    assert figure([[1, 2, 9, 0.0]], 1, tied) == 1.0
    assert figure([[1, 2, 0, 9.0]], 1, tied) == 0.0


def test_nan_is_less_than_anything():
    assert figure([[np.nan, 9, 5, 7], [4, np.nan, 2, 1]], 1, np.where(SCORES == 1, np.nan, SCORES)) == 1.0


@pytest.mark.parametrize(
    ("k", "reference", "why"),
    [
        (4, SCORES, "k is 4, and there are 4 classes: any graph would agree"),
        (1, SCORES * 0, "all classes have one value: any graph would agree"),
        (3, np.maximum(SCORES - 5, 0), "in every row all the rest ties for place 3: any graph would agree"),
        (2, np.maximum(SCORES - 5, 0), ""),
        (1, SCORES, ""),
    ],
)
def test_where_any_graph_agrees(k, reference, why):
    assert judged("top_k", reference, reference, options("top_k", k=k)).hollow == why
