from __future__ import annotations

from fractions import Fraction
from math import isfinite

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onnxbuild.parity import probes, tolerance
from onnxbuild.parity.verdict import Element
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
    found = {name: tolerance.limit(own, name) for name in ("y", "z", "other")}
    assert {name: (held.elements.rtol, held.elements.atol) for name, held in found.items()} == {
        "y": (0.5, 0.0),
        "z": (0.125, 0.25),
        "other": (0.5, 0.25),
    }


def test_elements_are_not_right_for_want_of_any_where_a_comparator_lets_the_size_differ():
    known = {"shape": [1, 4], "reference_shape": [2, 4], "points": []}
    known["measured"] = {"boxes": {"figure": 0.5, "refused": "", "hollow": "", "unseen": ""}}
    own = {"boxes": {"agreement": 0.5}, "reason": "r"}
    assert tolerance.verdict(row(**known), None, parity(outputs={"y": own})).passed
    found = tolerance.verdict(row(**known), None, parity(outputs={"y": {"rtol": 0.1, **own}}))
    assert (found.status, found.why) == ("failed", "interface")
    assert found.note == "shape [1, 4], the reference has [2, 4]: rtol and atol are of as many elements"


def test_integers_that_comparators_judge_are_held_against_other_data_too():
    one, other = ({"y": np.array(values)} for values in ([101, 250, 30, 47], [180, 120, 66, 90]))
    for name, least, hollow in (("cosine", 0.5, True), ("cosine", 0.99, False), ("sqnr", 20, False)):
        own = parity(outputs={"y": {name: {"min": least}, "reason": "r"}})
        facts = probes.apart("y", one, other, tolerance.asked(own)["y"])
        found = tolerance.resolution("y", facts, own)
        assert bool(found.hollow) == hollow, (name, least)
    assert probes.apart("y", one, other) is None  # they have to be equal


def test_a_verdict_says_what_was_allowed():
    found = tolerance.verdict(row(1.5, 1.0), None, parity(rtol=0.25, atol=0.125))
    assert (found.passed, found.status) == (False, "failed")
    assert (found.rtol, found.atol, found.max_abs, found.max_rel) == (0.25, 0.125, 0.5, 0.25)
    assert found.worst == Element([0, 1], 1.5, 1.0)
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


any_float = st.floats(allow_nan=False, allow_infinity=False)


@given(any_float, any_float, st.floats(0, 1e308), st.floats(0, 1e308))
@example(1e308, -1e308, 0.0, 0.0)  # apart by more than a float holds
@example(1.7e308, 0.0, 0.0, 0.0)  # two digits more are more than a float holds
@example(1.7e308, -1.7e308, 1e3, 0.0)  # so is what is allowed
@example(5e-324, 0.0, 0.0, 0.0)  # the smallest float
def test_the_extremes_of_float64(got, reference, rtol, atol):
    found = tolerance.verdict(row(got, reference), None, parity(rtol=rtol, atol=atol))
    distance, limit = (
        abs(Fraction(got) - Fraction(reference)),
        Fraction(atol) + Fraction(rtol) * abs(Fraction(reference)),
    )
    if abs(distance - limit) > distance / 10**13 and distance < 1.7e308:  # else it may fail, by rounding
        assert found.passed == (distance < limit)
    assert distance <= limit * (1 + Fraction(1, 10**13)) or not found.passed
    enough = needed(rtol, row(got, reference))
    if enough is None:
        assert abs(got - reference) > 1.6e308
    else:
        assert isfinite(enough)
        assert tolerance.verdict(row(got, reference), None, parity(rtol=rtol, atol=enough)).passed


@pytest.mark.parametrize(("wrong", "right"), [(1e308, -1e308), (5e-324, 0.0)])
def test_a_failure_at_the_extremes_is_a_failed_stage(workspace, wrong, right):
    workspace.write(
        "extreme.py",
        f"""\
        import torch


        class Extreme(torch.nn.Module):
            def forward(self, x):
                return torch.full_like(x, {wrong} if torch.onnx.is_in_onnx_export() else {right})
        """,
    )
    workspace.write(
        "extreme.yaml",
        """\
        version: 1
        name: extreme
        model: {pytorch: {factory: "extreme:Extreme"}}
        export:
          exporter: torchscript
          inputs:
            x: {dtype: float64, shape: [3]}
          outputs: [y]
        parity: {rtol: 0.0, atol: 0.0}
        """,
    )
    ran = workspace.run("run", "extreme.yaml", code=1)
    assert "✗ parity/export failed" in ran.err
    assert "y[0] is" in ran.err
    assert "Traceback" not in ran.text


@pytest.mark.parametrize("nonfinite", [None, {"equal": 2, "mismatches": 0}])
def test_equal_nan_passes(nonfinite):
    assert tolerance.verdict(row(nonfinite=nonfinite, points=[]), None, parity()).passed
