from __future__ import annotations

import numpy as np
import pytest
from gating import judged, measured, options

BOXES = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 8], [0, 5, 4, 6]], np.float32)


def figure(got, reference=BOXES, **own):
    return measured("boxes", np.asarray(got, np.float32), reference, options("boxes", **own))["figure"]


def test_a_partner_is_had_from_the_threshold_on_in_any_order():
    assert figure(BOXES[::-1]) == 1
    shifted = BOXES + np.array([0.5, 0, 0.5, 0], np.float32)  # of a box of width 2: 1.5 / 2.5
    assert figure(shifted[:2], BOXES[:2], iou=0.6) == 1
    assert figure(shifted[:2], BOXES[:2], iou=0.61) == 0


def test_boxes_that_are_dropped_added_or_doubled_count():
    assert figure(BOXES[1:]) == 0.75
    assert figure(BOXES, BOXES[1:]) == 0.75
    assert figure(np.concatenate([BOXES, BOXES[:1]])) == 0.8  # each has one partner
    assert figure(BOXES[:0], BOXES[:1]) == 0
    assert figure(BOXES[:0], BOXES[:0]) == 1


def test_images_do_not_mix():
    two = np.stack([BOXES[:2], BOXES[2:]])
    assert figure(two, two) == 1
    assert figure(two[::-1], two) == 0


@pytest.mark.parametrize("form", ["xywh", "cxcywh"])
def test_other_forms_of_a_box(form):
    sizes = BOXES[:, 2:] - BOXES[:, :2]
    places = BOXES[:, :2] if form == "xywh" else BOXES[:, :2] + sizes / 2
    other = np.concatenate([places, sizes], 1)
    moved = other + np.array([0.5, 0, 0, 0], np.float32)
    assert figure(moved[:2], other[:2], iou=0.6, format=form) == 1
    assert figure(moved[:2], other[:2], iou=0.61, format=form) == 0


def test_what_fills_a_list_up_does_not_outvote_the_boxes_in_it():
    """As EfficientNMS and TensorFlow give them: a list of one length, the rest of it zeros."""
    full = np.zeros((2, 100, 4), np.float32)
    full[0, :4], full[1, :2] = BOXES, BOXES[:2]
    wrong = np.where(full == 0, 0, full + 50)
    wrong[:, :4] += np.arange(4, dtype=np.float32)[:, None] * 90 * (full[:, :4] > 0).any(-1, keepdims=True)
    assert figure(full, full) == 1
    assert figure(wrong, full) == 0
    short = full.copy()
    short[0, 3] = 0  # one box is missing, so there is one zero too many
    assert figure(short, full) == pytest.approx(5 / 6)
    assert figure(full[:, ::-1], full) == 1
    many = np.zeros((1, 20_000, 4), np.float32)
    many[0, 0] = BOXES[0]
    assert figure(many, many) == 1


def test_boxes_without_an_area_have_no_partner_but_their_like_and_nan_has_none():
    empty = np.zeros((2, 4), np.float32)
    assert figure(empty, empty) == 1
    assert judged("boxes", empty, empty).hollow == "no box of the reference has an area"
    assert figure(np.full((1, 4), np.nan), BOXES[:1]) == 0
    assert figure(np.full((1, 4), np.nan), np.full((1, 4), np.nan)) == 0
    assert figure(np.ones((2, 4)), empty) == 0


def test_what_is_no_list_of_boxes_is_refused():
    gate = judged("boxes", np.zeros((2, 5)), np.zeros((2, 5)))
    assert (gate.passed, gate.told) == (False, "boxes are numbers [..., number, 4], and this is [2, 5] of float64")
