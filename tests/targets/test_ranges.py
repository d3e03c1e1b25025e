from __future__ import annotations

import pytest

from onnxbuild.contracts import Shapes
from onnxbuild.targets import ranges
from onnxbuild.targets.ranges import Range

FREE = {"past": {"min": 0, "max": 60}, "sequence": {"min": 1, "max": 4}}


def of(dims, dim, example=6):
    """The range of an axis that is this dimension."""
    shapes = Shapes({"x": {"dtype": "float32", "shape": [example, 7]}}, ["y"], {"x": {"0": dim}}, dims)
    (axis, static) = ranges.of_inputs(shapes)["x"]
    assert static == Range(7, 7, 7)
    return axis


@pytest.mark.parametrize(
    ("relation", "least", "most"),
    [
        ("past + sequence", 1, 64),
        ("past - sequence", 0, 59),
        ("3 * sequence", 3, 12),
        ("past * sequence", 0, 240),
        ("past // 2", 0, 30),
        ("past // sequence", 0, 60),
        ("60 // past", 1, 60),
        ("total - 1", 0, 63),
        ("(sequence - 3) // 2", 0, 0),
        ("sequence - sequence", 0, 3),  # wider than what is met: a dimension stands in it twice
    ],
)
def test_related_dimensions(relation, least, most):
    dims = {"all": relation, **FREE, "total": "past + sequence"}

    assert of(dims, "all") == Range(least, 6, most)


def test_free_dimensions():
    assert of({}, "N") == Range(1, 6, None)
    assert of({"N": {"min": 2}}, "N") == Range(2, 6, None)
    assert of({"N": {"min": 3, "max": 30, "multiple_of": 8}}, "N") == Range(8, 6, 24)


@pytest.mark.parametrize(
    ("relation", "most"),
    [
        ("N + 1", None),
        ("2 * N", None),
        ("N // 2", None),
        ("5 - N", 4),
        ("12 // N", 12),
        ("0 * N", 0),
        ("M + N - M", None),
    ],
)
def test_without_an_upper_bound(relation, most):
    dims = {"all": relation, "N": {"min": 1}, "M": {"min": 1, "max": 3}}

    assert of(dims, "all").most == most
    shapes = Shapes(
        {"x": {"dtype": "float32", "shape": [6]}}, ["y"], {"x": {"0": "all"}, "y": {"0": "only_of_an_output"}}, dims
    )
    assert ranges.unbounded(shapes) == ["N"]
