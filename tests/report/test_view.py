from __future__ import annotations

import msgspec
import pytest
from samples import failed, parity, resnet50, shipped

from onnxbuild.report import view


def test_headlines():
    done, bad = resnet50(), failed()
    idle = [msgspec.structs.replace(stage, status="cached") for stage in done.stages]

    assert view.headline(done) == "Built in 13.1 s: 5 stages run, 7 found in the store."
    assert (
        view.headline(msgspec.structs.replace(done, stages=idle))
        == "Up to date: all 12 stages were found in the store."
    )
    assert view.headline(bad) == "Failed at parity/2-onnxoptimizer after 13.1 s. Nothing was published."
    stopped = msgspec.structs.replace(bad, status="interrupted", failures=[])
    assert view.headline(stopped) == "Interrupted after 13.1 s, with 2 stages built. Nothing was published."


def test_parity_in_a_sentence():
    done, bad = resnet50(), failed()
    rows = done.parity
    odd = [msgspec.structs.replace(rows[0], status="vacuous"), msgspec.structs.replace(rows[1], status="not run")]

    assert view.parity_sentence(done) == (
        "All 12 comparisons with the source model are within tolerance; the closest uses 2.6 % of it, "
        "where results for other data are 2,400 × of it apart."
    )
    assert view.parity_sentence(bad) == "4 of 12 comparisons with the source model out of tolerance."
    assert view.parity_sentence(msgspec.structs.replace(done, parity=odd)) == "1 of 2 was not run. 1 of 2 was vacuous."
    assert view.parity_sentence(msgspec.structs.replace(done, parity=[])) == ""


def test_what_nothing_but_a_stand_in_ran_is_told_beside_what_passed():
    said = view.parity_sentence(shipped())

    assert said.startswith("All 14 comparisons with the source model are within tolerance; ")
    assert said.endswith(" Emulated: coreml. Built, not run: tensorrt. Skipped: web.")
    assert view.tiles(shipped())[0].detail == "121 nodes, 3 targets"
    assert view.parity_sentence(msgspec.structs.replace(shipped(), parity=[])).startswith("Emulated: coreml.")


def test_groups_put_failing_rows_first_and_then_the_nearest_to_the_tolerance():
    rows = parity(100.0)[8:]
    group = view.parity_groups(rows)[0]

    assert group.counts == {"failed": 3, "passed": 1}
    assert group.status == "failed"
    assert [item.row.case for item in group.rows] == ["batch=5", "batch=3", "example", "batch=1"]
    assert group.worst is group.rows[0]
    assert group.max_abs == max(row.max_abs or 0 for row in rows)


@pytest.mark.parametrize(
    ("ratio", "length"), [(0.0, 0.0), (1e-30, 1.5), (1.0, 83.3), (10.0, 100.0), (float("inf"), 100.0)]
)
def test_bars_are_logarithmic_and_stay_on_their_track(ratio, length):
    assert view.bar(ratio) == length


def test_op_table_counts_what_each_pass_did():
    rows = view.op_table(resnet50().graphs)

    assert [(row.op, row.counts, row.deltas) for row in rows if row.changed] == [
        ("BatchNormalization", [53, 0, 0], [0, -53, 0]),
        ("Identity", [3, 1, 0], [0, -2, -1]),
    ]
    assert [row.op for row in rows[2:5]] == ["Conv", "Relu", "Add"]


def test_tiles_show_only_what_there_is():
    empty = msgspec.structs.replace(resnet50(), graphs=[], artifacts=[], parity=[], benchmark=None, stages=[])

    assert [(tile.label, tile.value) for tile in view.tiles(empty)] == [("Stages built", "0 of 0"), ("Time", "13.1 s")]
    assert ("Largest error", "28.3 ×", "bad") in [(tile.label, tile.value, tile.tone) for tile in view.tiles(failed())]


def test_tested_sizes_come_from_the_reference():
    assert view.tested(resnet50()) == {"batch": [1, 2, 3, 5]}


def test_source_is_flattened():
    assert view.source_facts(resnet50().source) == [
        ("pytorch.factory", "recipes.models.resnet:resnet50"),
        ("pytorch.kwargs.num_classes", "1000"),
        ("pytorch.seed", "0"),
    ]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"min": 1, "max": 64, "multiple_of": 1}, "1 to 64"),
        ({"min": 2, "multiple_of": 1}, "2 or more"),
        ({"min": 48, "max": 48, "multiple_of": 1}, "48 alone"),
        ({"min": 32, "max": 512, "multiple_of": 32}, "32 to 512, multiples of 32"),
        ("past + sequence", "= past + sequence"),
        (None, "1 or more"),
    ],
)
def test_what_is_declared_of_a_dimension(declared, words):
    report = msgspec.structs.replace(resnet50(), dims={} if declared is None else {"batch": declared})

    assert view.dimensions(report) == [view.Dimension("batch", words, "1, 2, 3, 5")]
