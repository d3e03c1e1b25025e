from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from samples import resnet50

from onnxbuild.report import dag


def overlap(a: dag.Box, b: dag.Box) -> bool:
    return abs(a.x - b.x) < dag.BOX[0] and abs(a.y - b.y) < dag.BOX[1]


def check(needs: dict[str, list[str]]) -> dag.Picture:
    """What holds of every picture: all boxes are within it and none overlaps, arrows go one way."""
    picture = dag.layout(needs)
    assert {box.name for box in picture.boxes} == set(needs)
    assert not any(overlap(a, b) for a, b in itertools.combinations(picture.boxes, 2))
    for box in picture.boxes:
        assert 0 <= box.x <= picture.width - dag.BOX[0]
        assert 0 <= box.y <= picture.height - dag.BOX[1]
    at = {box.name: box for box in picture.boxes}
    for arrow in picture.arrows:
        source, target = at[arrow.source], at[arrow.target]
        assert source.x + dag.BOX[0] < target.x or source.y + dag.BOX[1] < target.y
        assert all(-1 <= float(n) <= max(picture.width, picture.height) for n in re.findall(r"[-\d.]+", arrow.path))
    return picture


def test_a_short_recipe_goes_from_left_to_right():
    stages = [stage for stage in resnet50().stages if "2-" not in stage.name]
    picture = check({stage.name: stage.needs for stage in stages})

    at = {box.name: box for box in picture.boxes}
    assert at["export"].x == at["reference"].x < at["optimize/1-onnxsim"].x < at["benchmark"].x < at["package"].x
    assert picture.width <= dag.WIDEST


def test_a_longer_recipe_goes_from_top_to_bottom_with_its_chain_straight():
    picture = check({stage.name: stage.needs for stage in resnet50().stages})

    at = {box.name: box for box in picture.boxes}
    assert picture.height > picture.width
    spine = [at[name].x for name in ("optimize/1-onnxsim", "optimize/2-onnxoptimizer", "benchmark", "package")]
    assert max(spine) - min(spine) < 1


def test_an_arrow_that_others_imply_is_left_out():
    picture = check({"export": [], "optimize": ["export"], "package": ["export", "optimize"]})

    assert [(a.source, a.target) for a in picture.arrows] == [("export", "optimize"), ("optimize", "package")]


def test_a_long_chain_goes_from_top_to_bottom():
    picture = check({str(n): [str(n - 1)] if n else [] for n in range(20)})

    assert picture.height > picture.width
    assert len({box.x for box in picture.boxes}) == 1


def test_a_chain_is_straight():
    picture = check({"a": [], "b": ["a"], "c": ["b"]})

    assert len({box.y for box in picture.boxes}) == 1


def test_no_stages_give_an_empty_picture():
    assert dag.layout({}) == dag.Picture(0, 0, [], [])


def test_names_that_are_not_there_are_ignored_and_a_cycle_still_gives_a_picture():
    check({"a": ["nowhere", "a"], "b": ["a", "a"]})
    assert len(dag.layout({"a": ["b"], "b": ["a"], "c": ["b"]}).boxes) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 11), max_size=4), min_size=1, max_size=12))
def test_any_graph_is_drawn_without_overlaps(graph):
    check({str(n): [str(m) for m in sorted(of) if m < n] for n, of in enumerate(graph)})


def test_the_same_graph_gives_the_same_picture():
    needs = {stage.name: stage.needs for stage in resnet50().stages}
    assert dag.layout(needs) == dag.layout(needs)
