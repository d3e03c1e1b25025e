from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxbuild import tolerance
from onnxbuild.recipe.types import Parity


def row(got=1.0, reference=1.0, **known):
    point = {"index": [0, 1], "got": got, "reference": reference}
    return {
        "case": "c",
        "dims": {"batch": 2},
        "output": "y",
        "dtype": "float32",
        "shape": [2, 2],
        "reference_shape": [2, 2],
        "exact": False,
        "max_abs": 0.5,
        "max_rel": 0.25,
        "points": [point],
        "slack": 0.0,
        "nonfinite": None,
        "mismatches": 0,
        "error": None,
        "vacuous": None,
        **known,
    }


def parity(**section):
    return msgspec.convert(section, Parity)


def test_an_outputs_own_tolerances_come_first():
    own = parity(rtol=0.5, atol=0.25, outputs={"y": {"atol": 0.0}, "z": {"rtol": 0.125}})
    assert tolerance.tolerances(own, "y") == (0.5, 0.0)
    assert tolerance.tolerances(own, "z") == (0.125, 0.25)
    assert tolerance.tolerances(own, "other") == (0.5, 0.25)


def test_a_verdict_says_what_was_allowed():
    found = tolerance.verdict(row(1.5, 1.0), None, parity(rtol=0.25, atol=0.125))
    assert (found.passed, found.status) == (False, "failed")
    assert (found.rtol, found.atol, found.max_abs, found.max_rel) == (0.25, 0.125, 0.5, 0.25)
    assert found.worst == tolerance.Element([0, 1], 1.5, 1.0)
    assert found.note == "0.5 off, 0.375 allowed"
    found = tolerance.verdict(row(1.5, 1.0), None, parity(rtol=0.25, atol=0.25))
    assert (found.passed, found.status, found.note) == (True, "passed", "")


def test_the_worst_element_depends_on_the_tolerances():
    points = [{"index": [0], "got": 0.1, "reference": 0.0}, {"index": [1], "got": 101.0, "reference": 100.0}]
    strict = tolerance.verdict(row(points=points), None, parity(rtol=0.0, atol=0.0))
    relative = tolerance.verdict(row(points=points), None, parity(rtol=0.1, atol=0.0))
    assert strict.worst.index == [1]
    assert relative.worst.index == [0]


def test_what_was_dropped_from_the_hull_counts_against_it():
    near = tolerance.verdict(row(1.5, 1.0, slack=0.1), None, parity(rtol=0.0, atol=0.55))
    assert not near.passed
    assert near.note == "within 0.1 of the tolerance, too near to be sure of every element"
    assert tolerance.verdict(row(1.5, 1.0, slack=0.1), None, parity(rtol=0.0, atol=0.7)).passed


def test_vacuous_passes_unless_it_fails():
    assert tolerance.verdict(row(vacuous="always 1.0"), None, parity()).status == "vacuous"
    assert tolerance.verdict(row(2.0, vacuous="always 1.0"), None, parity()).status == "failed"


def test_an_error_with_and_without_a_result():
    failed = tolerance.verdict(row(error="onnxruntime failed: no", shape=None), None, parity())
    assert (failed.passed, failed.ran, failed.note) == (False, False, "onnxruntime failed: no")
    assert tolerance.verdict(row(error="dtype int32"), None, parity()).ran


def test_not_run_passes_and_says_so():
    found = tolerance.verdict(row(), "no operator", parity())
    assert (found.status, found.passed, found.note) == ("not run", True, "no operator")


def needed(rtol, *rows):
    return tolerance.needed_atol({"results": list(rows)}, "y", rtol)


def test_needed_atol_covers_every_case_of_its_output():
    assert needed(0.0, row(1.5), row(2.25), row(9.0, output="z")) == 1.3
    assert needed(1.0, row(1.5)) == 0.0
    assert needed(0.0, row(error="no")) is None
    assert needed(0.0, row(exact=True)) is None
    assert needed(0.0, row(mismatches=1)) is None


@given(st.floats(1e-12, 1e12), st.floats(0, 1))
def test_needed_atol_is_enough_and_not_much_more(difference, rtol):
    atol = needed(rtol, row(1.0 + difference))
    assert tolerance.verdict(row(1.0 + difference), None, parity(rtol=rtol, atol=atol)).passed
    really = abs(1.0 + difference - 1.0) - rtol
    assert atol == 0 if really <= 0 else atol <= really * 1.11


@pytest.mark.parametrize("nonfinite", [None, {"equal": 2, "mismatches": 0}])
def test_equal_nan_passes(nonfinite):
    assert tolerance.verdict(row(nonfinite=nonfinite, points=[]), None, parity()).passed
