from __future__ import annotations

import numpy as np
import pytest
from gating import judged, measured, options

REFERENCE = np.array([3.0, -4.0])


@pytest.mark.parametrize(("factor", "decibels"), [(1.1, 20), (0.9, 20), (1.01, 40), (2.0, 0), (0.0, 0), (11.0, -20)])
def test_the_definition(factor, decibels):
    assert measured("sqnr", REFERENCE * factor, REFERENCE)["figure"] == pytest.approx(decibels, abs=1e-9)


def test_headroom_is_in_decibels_and_as_amplitudes():
    gate = judged("sqnr", REFERENCE * 1.01, REFERENCE)
    assert (gate.told, gate.passed) == ("sqnr 40 dB, at least 20 dB, 20 dB to spare", True)
    assert gate.loss == pytest.approx(0.01)
    assert gate.used == pytest.approx(0.1)
    gate = judged("sqnr", REFERENCE * 0, REFERENCE)
    assert (gate.told, gate.passed) == ("sqnr 0 dB, at least 20 dB, 20 dB short", False)


def test_a_signal_that_few_values_hold_is_told():
    plain = np.random.default_rng(0).standard_normal((4, 8))
    assert judged("sqnr", plain, plain, options("sqnr", min=10)).few == ""
    plain[0, 0] = -1e9  # as masks have it
    told = "zeros in place of all but its largest tenth would pass: "
    assert judged("sqnr", plain, plain, options("sqnr", min=10)).few.startswith(f"{told}sqnr 16")
    assert judged("cosine", plain, plain, options("cosine", min=0.9)).few == f"{told}cosine 1"


def test_what_is_not_finite_is_no_signal():
    rest = np.array([np.nan, 0.0, -np.inf])
    assert (
        judged("sqnr", rest, rest, options("sqnr", min=10)).hollow == "the reference is all zeros: there is no signal"
    )
    assert judged("cosine", rest, rest, options("cosine", min=0.9)).hollow.startswith("all values are one")


def test_no_noise_and_no_signal():
    assert judged("sqnr", REFERENCE, REFERENCE).told == "sqnr ∞ dB, at least 20 dB"
    gate = judged("sqnr", REFERENCE, REFERENCE * 0)
    assert (gate.passed, gate.figure, gate.used) == (False, None, None)
    assert gate.told == "sqnr -∞ dB, at least 20 dB"
    assert gate.hollow == "the reference is all zeros: there is no signal"
    assert judged("sqnr", REFERENCE * 1e300, REFERENCE * 1e300, options("sqnr", min=90.0)).passed
