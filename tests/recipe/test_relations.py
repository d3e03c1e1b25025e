from __future__ import annotations

import msgspec
import pytest

from onnxbuild.recipe import export_rules, relations
from onnxbuild.recipe.types import Export


def export(dims, shapes, axes, outputs=None):
    inputs = {name: {"dtype": "float32", "shape": shape} for name, shape in shapes.items()}
    section = {"inputs": inputs, "outputs": ["y"], "dims": dims, "dynamic_axes": {**axes, "y": outputs or {}}}
    return msgspec.convert(section, Export)


def decoder(total="past + sequence", mask=8, **dims):
    return export(
        {"past": {"min": 0, "max": 64}, "total": total, **dims},
        {"ids": [2, 3], "past": [2, 5], "mask": [2, mask]},
        {"ids": {"0": "batch", "1": "sequence"}, "past": {"0": "batch", "1": "past"}, "mask": {"1": "total"}},
    )


def facts(made):
    return [finding.fact for finding in export_rules.check(made)]


def test_a_related_dimension_is_never_free():
    assert facts(decoder()) == []
    assert relations.free(decoder()) == {"batch": 2, "sequence": 3, "past": 5}
    assert relations.all_sizes(decoder(), {"batch": 1, "sequence": 2, "past": 0}) == (
        {"batch": 1, "sequence": 2, "past": 0, "total": 2},
        "",
    )


@pytest.mark.parametrize(
    ("made", "fact"),
    [
        (decoder("past +"), "'past +' is no expression of dimensions"),
        (decoder("past / 2"), "'past / 2' holds more than +, -, * and //"),
        (decoder("past + sequense"), "unknown dimension 'sequense' in 'past + sequense'"),
        (decoder("8"), "'8' names no dimension"),
        (decoder("total + 1"), "'total' rests on itself: total + 1"),
        (decoder(mask=9), "the example's size 9 on axis 1 ('total') is not past + sequence at past=5, sequence=3"),
        (decoder(other="past + 1"), "no axis in dynamic_axes uses the dimension 'other'"),
        (decoder("past - 6"), "the example's size 8 on axis 1 ('total') is not past - 6 at past=5"),
    ],
)
def test_what_is_wrong_with_an_expression(made, fact):
    assert fact in facts(made)


def test_a_dimension_on_no_input_axis_follows_from_a_relation():
    made = export({"cells": {"max": 8}, "height": "32*cells"}, {"x": [96, 4]}, {"x": {"0": "height"}}, {"0": "cells"})
    assert facts(made) == []
    assert relations.free(made) == {"cells": 3}
    wrong = export({"cells": {}, "height": "32*cells"}, {"x": [95, 4]}, {"x": {"0": "height"}})
    assert "the example's size of 'cells' can't be told: it is on no input axis" in facts(wrong)


def test_sizes_of_a_related_dimension_are_not_asked_for():
    from onnxbuild.recipe.running import Benchmark
    from onnxbuild.recipe.types import Parity

    parity = msgspec.convert({"cases": {"long": {"dims": {"total": 9}}}}, Parity)
    found = list(export_rules.sizes_asked(decoder(), parity, Benchmark(dims={"past": 7})))
    assert [one.fact for one in found] == ["the size of 'total' follows from past + sequence"]


def test_a_relation_that_gives_no_size_is_told_of_a_named_case():
    from onnxbuild.recipe.types import Parity

    made = export({"left": "n - 4"}, {"x": [6]}, {"x": {"0": "n"}}, {"0": "left"})
    parity = msgspec.convert({"cases": {"short": {"dims": {"n": 3}}}}, Parity)
    (one,) = export_rules.sizes_asked(made, parity, None)
    assert one.fact == "there is no size left = n - 4 there"
