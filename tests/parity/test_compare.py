from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onnxbuild.parity import compare, diagnosis
from onnxbuild.recipe.types import Parity

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
anything = st.floats(width=32)
shapes = npst.array_shapes(min_dims=1, max_dims=2, max_side=12)


def row(got, reference):
    facts = compare.unravel(compare.compare(got, reference), got.shape)
    shape = {"dtype": got.dtype.name, "shape": list(got.shape), "reference_shape": list(got.shape)}
    return {"case": "c", "dims": {}, "output": "y", "error": None, "vacuous": None, **shape, **facts}


def passes(got, reference, rtol, atol):
    return judged(row(got, reference), rtol, atol)


def judged(facts, rtol, atol):
    return diagnosis.judge({"not_run": None, "results": [facts]}, Parity(rtol=rtol, atol=atol))[0].passed


def margin(got, reference, rtol, atol):
    """How far the closest element is from the tolerance's edge, relative to the numbers involved."""
    a, b = got.astype(float), reference.astype(float)
    ok = np.isfinite(a) & np.isfinite(b)
    excess = np.abs(a - b)[ok] - (atol + rtol * np.abs(b)[ok])
    scale = np.abs(a)[ok] + np.abs(b)[ok] * (1 + rtol) + atol
    return np.min(np.abs(excess) / np.where(scale > 0, scale, 1), initial=1.0)


@given(
    st.data(),
    st.floats(0, 10) | st.sampled_from([0.0, 1e-3, 1e-5]),
    st.floats(0, 10) | st.sampled_from([0.0, 1e-5]),
)
@settings(max_examples=400)
def test_judging_the_corners_is_judging_every_element(data, rtol, atol):
    kind = data.draw(st.sampled_from([anything, finite, st.floats(-2, 2, width=32)]))
    reference = data.draw(npst.arrays(np.float32, shapes, elements=kind))
    got = data.draw(npst.arrays(np.float32, reference.shape, elements=kind))
    near = data.draw(st.booleans())
    with np.errstate(all="ignore"):
        if near and np.isfinite(got).all():
            got = (reference + np.float32(1e-3) * got).astype(np.float32)
        expected = np.allclose(got.astype(float), reference.astype(float), rtol, atol, equal_nan=True)
        if margin(got, reference, rtol, atol) > 1e-14:
            assert passes(got, reference, rtol, atol) == expected


@given(st.integers(0, 2**32), st.floats(0, 2), st.floats(0, 2), st.sampled_from([1, 7, 64]))
def test_chunks_make_no_difference(seed, rtol, atol, chunk):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=100) * 10.0 ** rng.integers(-6, 6, 100)
    got = reference + rng.normal(size=100) * 10.0 ** rng.integers(-8, 3, 100)
    whole = row(got, reference)
    before, compare.CHUNK = compare.CHUNK, chunk
    try:
        assert row(got, reference) == whole
    finally:
        compare.CHUNK = before
    assert passes(got, reference, rtol, atol) == np.allclose(got, reference, rtol, atol)


def test_a_smooth_error_keeps_few_corners_and_never_passes_what_fails():
    reference = np.linspace(0.0, 100.0, 300_000)
    got = reference + np.sqrt(reference)  # concave: every element is a corner
    facts = row(got, reference)
    assert len(facts["points"]) <= compare.CORNERS
    assert 0 < facts["slack"] < 0.01 * facts["max_abs"]
    for rtol in np.geomspace(1e-3, 10, 40):
        needed = (np.abs(got - reference) - rtol * reference).max()
        assert not judged(facts, rtol, needed * 0.999)
        assert judged(facts, rtol, needed + facts["slack"] * 1.001)


def test_errors_in_proportion_make_few_corners():
    reference = np.linspace(1, 2, 1000)
    assert len(row(reference * 1.5, reference)["points"]) <= 20


def test_facts_of_floats():
    facts = row(np.array([[1.0, 2.0], [0.5, 5.0]]), np.array([[1.0, 2.5], [0.0, 5.0]]))
    assert facts["exact"] is False
    assert facts["max_abs"] == 0.5
    assert facts["max_rel"] == 0.2  # where the reference is 0 there is none
    assert facts["points"] == [{"index": [1, 0], "got": 0.5, "reference": 0.0}]
    assert facts["nonfinite"] is None
    assert facts["slack"] == 0


def test_nan_and_infinity():
    inf, nan = np.inf, np.nan
    facts = row(np.array([nan, inf, -inf, 1, nan]), np.array([nan, inf, inf, nan, 1]))
    assert facts["nonfinite"] == {"equal": 2, "mismatches": 3, "index": [2], "got": "-inf", "reference": "inf"}
    assert facts["mismatches"] == 3
    assert facts["points"] == []
    facts = row(np.array([nan, 1.0]), np.array([nan, 1.0]))
    assert facts["nonfinite"] == {"equal": 1, "mismatches": 0}
    assert passes(np.array([nan, 1.0]), np.array([nan, 1.0]), 0, 0)
    assert not passes(np.array([inf]), np.array([1.0]), 1e9, 1e9)
    assert not passes(np.array([1.0]), np.array([nan]), 1e9, 1e9)


def test_a_difference_beyond_float64_stays_a_number():
    facts = row(np.array([1.7e308]), np.array([-1.7e308]))
    assert facts["max_abs"] == np.finfo(float).max
    assert not passes(np.array([1.7e308]), np.array([-1.7e308]), 0.5, 1e308)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_small_floats_are_compared_in_float64(dtype):
    reference = np.array([1.0, 256.0]).astype(dtype)
    got = np.array([1.0, 258.0]).astype(dtype)
    facts = row(got, reference)
    assert facts["max_abs"] == 2.0
    assert facts["points"][-1] == {"index": [1], "got": 258.0, "reference": 256.0}


@pytest.mark.parametrize(
    ("got", "reference", "mismatches", "worst", "max_abs"),
    [
        (np.array([1, 2, 9]), np.array([1, 3, 4]), 2, {"index": [2], "got": 9, "reference": 4}, 5.0),
        (
            np.array([2**63 - 1, 0]),
            np.array([-(2**63), 1]),
            2,
            {"index": [0], "got": 2**63 - 1, "reference": -(2**63)},
            float(2**64 - 1),
        ),
        (np.array([0], np.uint8), np.array([255], np.uint8), 1, {"index": [0], "got": 0, "reference": 255}, 255.0),
        (np.array([True, False]), np.array([True, True]), 1, {"index": [1], "got": False, "reference": True}, 1.0),
        (
            np.array(["a", "b"], object),
            np.array(["a", "c"], object),
            1,
            {"index": [1], "got": "b", "reference": "c"},
            None,
        ),
    ],
)
def test_everything_else_is_compared_exactly(got, reference, mismatches, worst, max_abs):
    facts = row(got, reference)
    assert (facts["exact"], facts["mismatches"], facts["points"]) == (True, mismatches, [worst])
    assert facts["max_abs"] == max_abs
    assert type(facts["points"][0]["got"]) in (int, bool, str)
    assert not passes(got, reference, 1e9, 1e9)
    assert passes(got, got, 0, 0)


def test_scalars_and_empty_outputs():
    facts = row(np.array(1.0), np.array(2.0))
    assert facts["points"] == [{"index": [], "got": 1.0, "reference": 2.0}]
    assert row(np.zeros((0, 3)), np.zeros((0, 3)))["points"] == []
    assert row(np.zeros((0,), np.int64), np.zeros((0,), np.int64))["mismatches"] == 0


def test_memory_stays_below_the_outputs_own():
    import tracemalloc

    reference = np.random.default_rng(0).normal(size=4_000_000).astype(np.float32)
    got = reference + np.float32(1e-4)
    tracemalloc.start()
    try:
        compare.compare(got, reference)
        assert tracemalloc.get_traced_memory()[1] < reference.nbytes
    finally:
        tracemalloc.stop()
