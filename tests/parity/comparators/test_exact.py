from __future__ import annotations

import numpy as np
from gating import judged, measured


def test_the_definition():
    reference = np.array([0.0, np.nan, 1.5, np.inf])
    assert measured("exact", np.array([-0.0, np.nan, 1.5, np.inf]), reference)["figure"] == 1
    assert measured("exact", np.array([0.0, 1.0, np.nextafter(1.5, 2), np.inf]), reference)["figure"] == 0.5
    assert not judged("exact", np.array([np.nextafter(1, 2)]), np.array([1.0])).passed


def test_text_and_numbers_of_every_kind():
    for array in (np.array(["a", "é"], object), np.array([2**63 - 1, 1]), np.array([True, False])):
        assert judged("exact", array.copy(), array).passed
        assert not judged("exact", array[::-1], array).passed
