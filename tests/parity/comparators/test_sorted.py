from __future__ import annotations

import numpy as np
from gating import judged, measured, options

SCORES = np.array([[9.0, 5.0, 5.0, 1.0], [4.0, 3.999, 2.0, 1.0]])
ORDER = np.array([[3, 0, 1, 2], [0, 1, 2, 3]])


def found(got, **own):
    return judged("sorted", np.array(got), ORDER, options("sorted", by="scores", **own), scores=SCORES)


def test_the_order_of_ties_is_free_and_no_other():
    assert found([[3, 1, 0, 2], [0, 1, 2, 3]]).passed
    assert found([[0, 3, 1, 2], [0, 1, 2, 3]]).figure == 0.5
    assert found([[3, 0, 0, 2], [0, 1, 2, 3]]).figure == 0.5  # a tie has to hold the same elements


def test_how_near_scores_tie_is_the_recipes_to_say():
    other = [[3, 0, 1, 2], [1, 0, 2, 3]]
    assert not found(other).passed
    assert found(other, atol=0.01).passed
    assert found(other, rtol=0.001).passed


def test_what_cannot_be_compared_or_proves_nothing():
    flat = np.zeros((2, 4))
    assert judged("sorted", ORDER, ORDER, scores=flat, opts=options("sorted", by="scores")).hollow == (
        "all scores tie: any order would do"
    )
    one = judged("sorted", ORDER[:, :1], ORDER[:, :1], options("sorted", by="scores"), scores=SCORES[:, :1])
    assert one.hollow == "a list of one element is in order whatever it is"
    short = judged("sorted", ORDER, ORDER, options("sorted", by="scores"), scores=SCORES[:, :2])
    assert (short.passed, short.told) == (
        False,
        "the scores have to be numbers, one for each element along the last axis: [2, 2] of float64 for [2, 4]",
    )


def test_infinite_scores_tie_with_themselves_and_nan_with_nothing():
    scores = np.array([[np.inf, np.inf, np.nan, np.nan]])
    order = np.array([[0, 1, 2, 3]])
    given = {"opts": options("sorted", by="scores"), "scores": scores}
    assert judged("sorted", np.array([[1, 0, 2, 3]]), order, **given).passed
    assert not judged("sorted", np.array([[0, 1, 3, 2]]), order, **given).passed


def test_nan_is_in_its_place_where_the_reference_has_it():
    listed = np.array([[1.0, np.nan, 3.0]])
    given = options("sorted", by="scores")
    scores = np.array([[3.0, 2.0, 1.0]])
    assert measured("sorted", listed, listed, given, scores=scores)["figure"] == 1
    assert measured("sorted", listed[:, [1, 0, 2]], listed, given, scores=scores)["figure"] == 0


def test_labels_that_are_text():
    got = np.array([["c", "b", "a", "d"]], object)
    reference = np.array([["c", "a", "b", "d"]], object)
    given = {"opts": options("sorted", by="scores"), "scores": SCORES[:1]}
    assert judged("sorted", got, reference, **given).passed
