from __future__ import annotations

import pytest

from onnxbuild.graphs import axes

SIZES = [(2, 16), (1, 5), (3, 1), (8, 128)]


def cases(**outputs):
    """Cases over batch and seq; each output is a function from those to a shape."""
    return [
        {
            "name": f"batch={b},seq={s}",
            "dims": {"batch": b, "seq": s},
            "outputs": {name: {"shape": list(shape(b, s))} for name, shape in outputs.items()},
        }
        for b, s in SIZES
    ]


def facts(declared, made, related=None):
    return [one.fact for one in axes.problems(declared, related or {}, made)]


@pytest.mark.parametrize(
    ("size", "means"),
    [
        (lambda b, s: 3 * b, "3*batch"),
        (lambda b, s: s, "'seq'"),
        (lambda b, s: b * s, "batch*seq"),
        (lambda b, s: b + s, "batch + seq"),
        (lambda b, s: s // 2, "seq // 2"),
        (lambda b, s: (s + 1) // 2, "(seq + 1) // 2"),
        (lambda b, s: (s - 1) // 2 + 1, "(seq + 1) // 2"),
        (lambda b, s: 2 * s + 1, "2*seq + 1"),
        (lambda b, s: b + 1, "batch + 1"),
        (lambda b, s: 4 * b * s, "4*batch*seq"),
    ],
)
def test_an_axis_that_is_another_expression_is_told_it(size, means):
    (one,) = axes.problems({"y": {"0": "batch"}}, {}, cases(y=lambda b, s: (size(b, s), 4)))
    assert one.fact.startswith("output 'y', axis 0 is declared 'batch' and is not: ")
    assert one.fact.endswith(f"; it is {means}")
    assert means.strip("'") in one.hint


def test_a_transposed_output():
    found = facts({"y": {"0": "batch", "1": "seq"}}, cases(y=lambda b, s: (s, b)))
    assert [one.rpartition("; ")[2] for one in found] == ["it is 'seq'", "it is 'batch'"]


def test_an_axis_that_depends_on_the_data_is_no_expression():
    seen = iter([7, 2, 9, 400])
    (one,) = axes.problems({"y": {"0": "batch"}}, {}, cases(y=lambda b, s: (next(seen),)))
    assert "it is" not in one.fact.partition(" and is not")[2]
    assert "depends on the data" in one.hint


def test_an_undeclared_axis_has_one_size():
    (one,) = axes.problems({}, {}, cases(y=lambda b, s: (b, 4)))
    assert one.fact == (
        "output 'y', axis 0 is not declared dynamic and has several sizes: 2 at batch=2,seq=16, 1 at batch=1,seq=5, "
        "3 at batch=3,seq=1, 8 at batch=8,seq=128; it is 'batch'"
    )
    assert one.hint == "write export.dynamic_axes: {y: {0: batch}}"


def test_a_declared_axis_of_one_size():
    (one,) = axes.problems({"y": {"0": "batch"}}, {}, cases(y=lambda b, s: (1, 4)))
    assert one.hint == "take axis 0 of y out of export.dynamic_axes: it is 1 in every case"


def test_a_name_of_outputs_alone_has_one_size_in_a_case():
    declared = {"a": {"0": "found"}, "b": {"0": "found", "1": "seq"}}
    assert facts(declared, cases(a=lambda b, s: (b + s,), b=lambda b, s: (b + s, s))) == []
    (one,) = facts(declared, cases(a=lambda b, s: (b + s,), b=lambda b, s: (b, s)))
    assert one == (
        "the dimension 'found' has two sizes at batch=2,seq=16: 18 on axis 0 of output 'a', 2 on axis 0 of output 'b'"
    )


def test_related_dimensions_are_evaluated():
    declared, related = {"y": {"0": "half"}}, {"half": "seq // 2"}
    assert facts(declared, cases(y=lambda b, s: (s // 2,)), related) == []
    (one,) = facts(declared, cases(y=lambda b, s: (s // 2 + 1,)), related)
    assert one.startswith("output 'y', axis 0 is declared half = seq // 2 and is not: 9 at ")


def test_ranks():
    (one,) = facts({}, cases(y=lambda b, s: (4,) * min(b, 2)))
    assert one.startswith("output 'y' has several ranks: 2 at batch=2,seq=16; 1 at")
    assert facts({"y": {"3": "batch"}}, cases(y=lambda b, s: (4,))) == [
        "output 'y' has rank 1, so there is no axis 3 ('batch')"
    ]


def test_what_tells_the_cases_that_work_from_those_that_fail():
    works = [{"past": 5, "sequence": 3, "total": 8}]
    fails = [{"past": 5, "sequence": 1, "total": 8}, {"past": 1, "sequence": 3, "total": 80}]
    assert axes.relation(works, fails) == "total: past + sequence"
    assert axes.relation([{"a": 2, "b": 2}, {"a": 3, "b": 3}], [{"a": 2, "b": 3}]) == "a: b"
    assert axes.relation([], fails) == ""
    assert axes.relation([{"a": 2, "b": 7}, {"a": 3, "b": 20}], [{"a": 2, "b": 3}]) == ""


@pytest.mark.parametrize(
    ("said", "wrong"),
    [("batch", True), (4, True), ("3*batch", False), ("2*batch + seq", True), (None, False), ("unk__13", False),
     ("3*floor(batch)", False)],
)  # fmt: skip
def test_what_a_graph_says_of_its_outputs_is_held_against_them(said, wrong):
    signature = {
        "inputs": [{"name": "x", "shape": ["batch", "seq"]}],
        "outputs": [{"name": "y", "shape": [said, 4]}],
    }
    seen = [({"name": f"batch={b}", "shapes": {"x": [b, 5]}}, "y", [3 * b, 4]) for b in (2, 1, 3)]
    found = axes.published(signature, seen)
    assert bool(found) is wrong
    if said == "batch":
        assert found == ["the graph says 'batch' of output 'y', axis 0, which is 6 at batch=2"]
