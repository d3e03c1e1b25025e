from __future__ import annotations

from itertools import combinations
from math import prod

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxbuild.plan import cases
from onnxbuild.recipe.types import Dim, Export, Parity


def export(**section):
    section = {"inputs": {"x": {"dtype": "float32", "shape": [2, 16]}}, "outputs": ["y"]} | section
    return msgspec.convert(section, Export)


def parity(**section):
    return msgspec.convert(section, Parity)


BATCH_SEQ = {
    "inputs": {
        "ids": {"dtype": "int64", "shape": [2, 16]},
        "mask": {"dtype": "int64", "shape": [2, 16]},
    },
    "dynamic_axes": {"mask": {"0": "batch", "1": "seq"}, "ids": {"1": "seq", "0": "batch"}, "y": {"0": "batch"}},
    "dims": {"seq": {"min": 1, "max": 128}, "batch": {"min": 1, "max": 8}},
}


def test_the_example_comes_first_and_is_named_in_the_dimensions_order():
    found, left_out = cases.derive(export(**BATCH_SEQ), parity())
    assert found[0] == {
        "name": "batch=2,seq=16",
        "dims": {"batch": 2, "seq": 16},
        "shapes": {"ids": [2, 16], "mask": [2, 16]},
        "dynamic": {"ids": [0, 1], "mask": [0, 1]},
        "data": {},
    }
    assert left_out == []
    assert len({case["name"] for case in found}) == len(found)


def test_min_example_an_odd_size_and_max_of_each_dimension():
    found, _ = cases.derive(export(**BATCH_SEQ), parity())
    assert {case["dims"]["batch"] for case in found} == {1, 2, 3, 8}
    # 3 is batch's odd size: one size for two dimensions would hide swapped axes
    assert {case["dims"]["seq"] for case in found} == {1, 5, 16, 128}


def test_without_dynamic_dimensions_there_is_one_case():
    found, left_out = cases.derive(export(), parity())
    assert [case["name"] for case in found] == ["example"]
    assert found[0]["shapes"] == {"x": [2, 16]}
    assert left_out == []


def test_too_big_cases_are_left_out_with_the_reason_but_never_the_example():
    section = {
        "inputs": {"x": {"dtype": "float32", "shape": [2, 100]}},
        "dynamic_axes": {"x": {"0": "batch"}},
        "dims": {"batch": {"max": 64}},
    }
    found, left_out = cases.derive(export(**section), parity(max_elements=300))
    assert [case["name"] for case in found] == ["batch=2", "batch=1", "batch=3"]
    assert left_out == [
        {
            "name": "batch=64",
            "dims": {"batch": 64},
            "reason": "6,400 input elements, more than parity.max_elements (300)",
        }
    ]
    found, _ = cases.derive(export(**section), parity(max_elements=1))
    assert [case["name"] for case in found] == ["batch=2", "batch=1"]


LARGE = {
    "inputs": {"image": {"dtype": "float32", "shape": [1, 3, 64, 64]}},
    "dynamic_axes": {"image": {"0": "batch", "2": "height", "3": "width"}},
    "dims": {"batch": {"max": 32}, "height": {"min": 64, "multiple_of": 32}, "width": {"min": 64, "max": 64}},
}


def test_every_dimension_is_compared_at_two_sizes_however_large_they_are():
    """At one size alone a size that was baked in looks right."""
    found, left_out = cases.derive(export(**LARGE), parity(max_elements=3 * 64 * 64))
    at = [(case["dims"]["batch"], case["dims"]["height"], case["dims"]["width"]) for case in found]

    assert at == [(1, 64, 64), (2, 64, 64), (1, 96, 64)]  # width has no other size
    assert all(case["name"] not in {case["name"] for case in found} for case in left_out)
    assert cases.remarks(export(**LARGE), parity(max_elements=12288), found, left_out) == [
        "4 cases are left out, larger than parity.max_elements (12,288): nothing is compared at batch=3, 32"
    ]


def test_a_second_size_that_the_recipe_names_is_enough():
    named = parity(max_elements=1, cases={"two": {"dims": {"batch": 5, "height": 128}}})

    assert [case["name"] for case in cases.derive(export(**LARGE), named)[0]] == [
        "batch=1,height=64,width=64",
        "two",
    ]


@pytest.mark.parametrize(
    ("dim", "example", "second"),
    [
        (Dim(), 2, 1),
        (Dim(min=0), 1, 2),  # what is empty proves nothing
        (Dim(min=0, max=1), 1, 0),
        (Dim(min=4, multiple_of=4), 4, 8),
        (Dim(min=2), 2, 3),
        (Dim(min=2, max=2), 2, None),
    ],
)
def test_the_second_size_is_the_smallest_other_one(dim, example, second):
    section = {
        "inputs": {"x": {"dtype": "float32", "shape": [example]}},
        "dynamic_axes": {"x": {"0": "n"}},
        "dims": {"n": msgspec.to_builtins(dim)},
    }
    one = [cases.case_at(export(**section), {})]

    assert cases.at_one_size(export(**section), one) == ({} if second is None else {"n": (example, second)})


def test_cases_that_leave_a_dimension_at_one_size_are_told_of():
    chosen = parity(derive=False, cases={"tall": {"dims": {"height": 96}}})
    found, left_out = cases.derive(export(**LARGE), chosen)

    assert cases.remarks(export(**LARGE), chosen, found, left_out) == [
        (
            "batch is dynamic and is compared at batch=1 alone, where a size that was baked in looks right: "
            "give another under parity.cases, such as {dims: {batch: 2}}, or leave parity.derive at true"
        )
    ]


def test_what_is_left_out_and_compared_elsewhere_is_told_too():
    section = {
        "inputs": {"x": {"dtype": "float32", "shape": [2, 2]}},
        "dynamic_axes": {"x": {"0": "n", "1": "m"}},
        "dims": {"n": {"max": 8}, "m": {"max": 8}},
    }
    found, left_out = cases.derive(export(**section), parity(max_elements=63))

    assert cases.remarks(export(**section), parity(max_elements=63), found, left_out) == [
        "1 case is left out, larger than parity.max_elements (63): all of the sizes are compared in other cases"
    ]


def test_named_cases_follow_with_the_example_size_where_they_give_none():
    found, _ = cases.derive(
        export(**BATCH_SEQ),
        parity(derive=False, cases={"long": {"dims": {"seq": 77}, "data": {"ids": {"constant": 7}}}}),
    )
    assert [case["name"] for case in found] == ["batch=2,seq=16", "long"]
    assert found[1]["dims"] == {"batch": 2, "seq": 77}
    assert found[1]["shapes"] == {"ids": [2, 77], "mask": [2, 77]}
    assert found[1]["data"] == {"ids": {"constant": 7}}


def test_a_case_that_the_user_names_example_takes_the_place_of_ours():
    found, _ = cases.derive(export(), parity(cases={"example": {"data": {"x": {"constant": 1.0}}}}))
    assert [(case["name"], case["data"]) for case in found] == [("example", {"x": {"constant": 1.0}})]


def test_case_at_names_every_size():
    case = cases.case_at(export(**BATCH_SEQ), {"seq": 4})
    assert (case["name"], case["shapes"]["ids"]) == ("batch=2,seq=4", [2, 4])


@pytest.mark.parametrize(
    ("dim", "example", "expected"),
    [
        (Dim(), 2, [2, 1, 3]),
        (Dim(max=64), 2, [2, 1, 3, 64]),
        (Dim(max=2), 2, [2, 1]),
        (Dim(min=1, max=1), 1, [1]),
        (Dim(min=32, multiple_of=32, max=512), 64, [64, 32, 96, 512]),
        (Dim(min=40, multiple_of=32, max=500), 64, [64, 96, 480]),
        (Dim(min=24, max=29), 29, [29, 24, 25]),
        (Dim(min=0, max=4), 2, [2, 0, 3, 4]),
        (Dim(min=100), 224, [224, 100, 101]),
    ],
)
def test_sizes(dim, example, expected):
    assert cases.sizes(dim, example) == expected


def test_sizes_reuse_an_avoided_size_rather_than_none():
    assert cases.sizes(Dim(max=3), 2, avoid=[3]) == [2, 1, 3]
    assert cases.sizes(Dim(max=4), 2, avoid=[3]) == [2, 1, 3, 4]


@st.composite
def dims(draw):
    step = draw(st.integers(1, 8))
    low = draw(st.integers(0, 40))
    first = -(-low // step)
    example = step * draw(st.integers(max(first, 1), first + 20))
    high = draw(st.none() | st.integers(max(example, 1), example + 200))
    return Dim(min=low, multiple_of=step) if high is None else Dim(min=low, max=high, multiple_of=step), example


@given(dims(), st.lists(st.integers(0, 12)))
def test_every_size_is_valid_and_the_ends_are_there(drawn, avoid):
    dim, example = drawn
    found = cases.sizes(dim, example, avoid)
    assert found[0] == example
    assert len(set(found)) == len(found)
    for size in found:
        assert size >= dim.min
        assert size % dim.multiple_of == 0
        assert dim.max is msgspec.UNSET or size <= dim.max
    assert -(-dim.min // dim.multiple_of) * dim.multiple_of in found
    if dim.max is not msgspec.UNSET:
        assert dim.max // dim.multiple_of * dim.multiple_of in found
    else:
        assert len(found) >= 2


columns = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True), min_size=2, max_size=5)


@given(columns)
def test_every_pair_is_covered(values):
    rows = cases.pairwise(values)
    assert rows[0] == tuple(column[0] for column in values)
    assert len(set(rows)) == len(rows)
    assert len(rows) <= prod(len(column) for column in values)
    for i, j in combinations(range(len(values)), 2):
        met = {(row[i], row[j]) for row in rows}
        assert met == {(a, b) for a in values[i] for b in values[j]}
    assert cases.pairwise(values) == rows


def test_pairwise_is_far_smaller_than_all_combinations():
    assert len(cases.pairwise([[2, 1, 3, 64]] * 4)) <= 24  # of 256


def test_a_pair_lost_with_a_case_too_big_is_tried_beside_small_sizes():
    section = {
        "inputs": {"x": {"dtype": "float32", "shape": [2, 4, 4]}},
        "dynamic_axes": {"x": {"0": "n", "1": "h", "2": "w"}},
        "dims": {"n": {"max": 8}, "h": {"max": 16}, "w": {"max": 16}},
    }
    budget = 16 * 16
    found, left_out = cases.derive(export(**section), parity(max_elements=budget))
    sizes = {dim: {case["dims"][dim] for case in [*found, *left_out]} for dim in "nhw"}
    for a, b in combinations("nhw", 2):
        (c,) = set("nhw") - {a, b}
        met = {(case["dims"][a], case["dims"][b]) for case in found}
        for size_a in sizes[a]:
            for size_b in sizes[b]:
                if size_a * size_b * min(sizes[c]) <= budget:
                    assert (size_a, size_b) in met
    assert left_out


def test_outputs_alone_make_no_dimension():
    found, _ = cases.derive(export(dynamic_axes={"y": {"0": "boxes"}}), parity())
    assert [case["name"] for case in found] == ["example"]


DECODER = {
    "inputs": {
        "ids": {"dtype": "int64", "shape": [2, 3]},
        "past": {"dtype": "float32", "shape": [2, 5]},
        "mask": {"dtype": "int64", "shape": [2, 8]},
    },
    "dynamic_axes": {
        "ids": {"0": "batch", "1": "sequence"}, "past": {"0": "batch", "1": "past"}, "mask": {"0": "batch", "1": "total"},
    },
    "dims": {"batch": {"max": 4}, "sequence": {"max": 16}, "past": {"min": 0, "max": 64}, "total": "past + sequence"},
}  # fmt: skip


def test_related_sizes_follow_and_are_never_free():
    found, left_out = cases.derive(export(**DECODER), parity())
    assert left_out == []
    assert found[0]["name"] == "batch=2,sequence=3,past=5"
    assert all(case["dims"]["total"] == case["dims"]["past"] + case["dims"]["sequence"] for case in found)
    assert all(case["shapes"]["mask"][1] == case["dims"]["total"] for case in found)
    assert 0 in {case["dims"]["past"] for case in found}
    pairs = {(case["dims"]["sequence"], case["dims"]["past"]) for case in found}
    assert {(s, p) for s in (1, 3, 16) for p in (0, 5, 64)} <= pairs


def test_sizes_that_can_not_be_are_not_tried():
    section = {
        "inputs": {"x": {"dtype": "float32", "shape": [6, 2]}},
        "dynamic_axes": {"x": {"0": "n", "1": "m"}, "y": {"0": "left"}},
        "dims": {"n": {"max": 9}, "m": {"max": 7}, "left": "n - m"},
    }
    found, left_out = cases.derive(export(**section), parity())
    assert left_out == []
    assert all(case["dims"]["left"] == case["dims"]["n"] - case["dims"]["m"] >= 0 for case in found)
    assert len({case["dims"]["n"] for case in found}) > 2
