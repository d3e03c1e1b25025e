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


def test_equal_boxes_without_an_area_are_partners_and_nan_has_none():
    empty = np.zeros((2, 4), np.float32)
    assert figure(empty, empty) == 1
    assert judged("boxes", empty, empty).hollow == "no box of the reference has an area"
    assert figure(np.full((1, 4), np.nan), BOXES[:1]) == 0


def test_what_is_no_list_of_boxes_is_refused():
    gate = judged("boxes", np.zeros((2, 5)), np.zeros((2, 5)))
    assert (gate.passed, gate.told) == (False, "boxes are numbers [..., number, 4], and this is [2, 5] of float64")
