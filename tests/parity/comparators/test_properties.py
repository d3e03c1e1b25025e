"""What holds of every comparator: the same result has nothing off, noise makes it worse, a figure stands alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gating import OPTIONS, judged, measured, options
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxbuild.parity import gates
from onnxbuild.parity.comparators import COMPARATORS


def drawn(seed, name, dtype="float32"):
    rng = np.random.default_rng(seed)
    if name == "boxes":
        low = rng.uniform(0, 4, (2, 5, 2))
        return np.concatenate([low, low + rng.uniform(0.5, 3, (2, 5, 2))], -1).astype(dtype)
    return rng.normal(size=(3, 7)).astype(dtype)


def test_every_comparator_is_tried():
    assert OPTIONS.keys() == COMPARATORS.keys()


@pytest.mark.parametrize("name", COMPARATORS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float16", "float32", "float64"]))
def test_the_same_result_has_nothing_off(name, seed, dtype):
    reference = drawn(seed, name, dtype)
    gate = judged(name, reference.copy(), reference)
    assert (gate.passed, gate.used, gate.loss, gate.hollow, gate.unseen) == (True, 0.0, 0.0, "", "")


@pytest.mark.parametrize("name", ["cosine", "sqnr"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 0.1))
def test_more_of_the_same_noise_is_worse(name, seed, scale):
    reference = drawn(seed, name, "float64")
    noise = drawn(seed + 1, name, "float64")
    noise -= reference * (noise * reference).sum() / (reference**2).sum()  # across: what cosine sees
    little, more = (judged(name, reference + factor * noise, reference) for factor in (scale, 2 * scale))
    assert little.loss < more.loss
    assert little.used < more.used


@pytest.mark.parametrize("name", ["top_k", "argmax", "boxes", "exact", "sorted"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 3))
def test_a_share_falls_with_each_row_that_is_wrong(name, seed, rows):
    reference = drawn(seed, name)
    wrong = reference.copy()
    if name == "boxes":
        wrong[0, :rows] += 100
        expected = 1 - rows / 10
    else:
        wrong[:rows] = -wrong[:rows]
        expected = 1 - rows / 3
    figure = measured(name, wrong, reference)["figure"]
    if name in ("exact", "boxes", "argmax", "sorted"):
        assert figure == pytest.approx(expected)
    else:
        assert figure <= 1 and (figure == 1) == (rows == 0)


@pytest.mark.parametrize("name", COMPARATORS)
def test_the_figure_of_a_script_is_the_figure(name):
    """Its source alone, with no import of ours around it."""
    source, given_, least = gates.script(name, options(name))
    space = {"case": {"reference/y": drawn(1, name)}, "got": drawn(2, name), "reference": drawn(1, name)}
    exec(f"from __future__ import annotations\n{source}\nfound = {name}_figure(got, reference, {given_})", space)
    figure = float(measured(name, space["got"], space["reference"], y=space["reference"])["figure"])
    assert space["found"] == figure
    assert isinstance(least, float)
    assert math.isfinite(figure)


@pytest.mark.parametrize("name", COMPARATORS)
@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (0, 3, 4)])
def test_nothing_at_all_agrees(name, shape):
    assert judged(name, np.zeros(shape), np.zeros(shape)).passed


@pytest.mark.parametrize("name", ["cosine", "sqnr", "top_k", "argmax"])
def test_integers_are_compared_and_strings_are_refused(name):
    numbers = np.array([[1, 5, 3], [9, 2, 4]])
    assert judged(name, numbers, numbers).passed
    gate = judged(name, np.array([["a", "b"]], object), np.array([["a", "b"]], object))
    assert not gate.passed
    assert "'exact' compares it" in gate.told
