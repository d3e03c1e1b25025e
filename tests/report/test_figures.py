from __future__ import annotations

import math

import msgspec
import pytest
from samples import failed, resnet50

from onnxbuild.parity.comparators import allclose
from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import figures


def row(status="passed", **fields) -> Verdict:
    return Verdict("parity/export", "example", "y", fields.pop("passed", status == "passed"), status, **fields)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (row(headroom=0.25), 0.25),
        (row("failed", headroom=2.0), 2.0),
        (row(headroom=0.0), 0.0),
        (row("failed", max_abs=1.0), math.inf),
        (row("failed", note="output is missing"), math.inf),
        (row("vacuous", max_abs=0.0), None),
        (row("not run"), None),
    ],
)
def test_ratio_is_the_share_of_what_is_allowed(given, expected):
    assert figures.ratio(given) == expected


@pytest.mark.parametrize(
    ("points", "rtol", "atol", "expected"),
    [
        ([(10.05, 10.0)], 0.01, 0.1, 0.25),
        ([(2.0, 1.0)], 0.0, 0.5, 2.0),
        ([(0.1, 0.0), (10.5, 10.0)], 0.1, 0.1, 1.0),  # not the largest difference, but the one with least room
        ([(1.0, 0.0)], 0.0, 0.0, None),
        ([], 0.0, 0.0, 0.0),
    ],
)
def test_headroom_is_the_largest_error_over_what_numpy_allows_there(points, rtol, atol, expected):
    facts = {
        "exact": False,
        "points": [{"index": [0], "got": got, "reference": reference} for got, reference in points],
        "slack": 0.0,
        "nonfinite": None,
    }
    judged = allclose.judge(facts, allclose.Options(rtol, atol))
    assert judged.headroom == (None if expected is None else pytest.approx(expected))


def test_closest_is_the_row_with_least_headroom():
    assert figures.closest([]) is None
    assert figures.closest([row("not run")]) is None
    worst = figures.closest(failed().parity)
    assert worst is not None
    assert (worst.stage, worst.case) == ("parity/2-onnxoptimizer", "batch=5")


def test_sizes_are_what_was_published_else_the_last_graph():
    assert figures.published_bytes(resnet50()) == 102_341_120
    assert figures.published_bytes(failed()) == failed().graphs[-1].bytes


def test_a_note_that_several_stages_make_is_said_once():
    done = resnet50()
    same = [f"{stage.name}: asked for CUDA, got CPU" for stage in done.stages if stage.kind == "parity"]
    more = "parity/export and 2 more: another process was running"
    report = msgspec.structs.replace(done, notes=[*same, "export: opset 18", "no stage: at all", more])

    assert figures.notes(report) == [
        "parity/export and 2 more: asked for CUDA, got CPU", "export: opset 18", "no stage: at all",
        "parity/export and 3 more: another process was running",
    ]  # fmt: skip


def test_a_latency_that_is_no_single_figure_is_flagged_with_the_figure():
    bench = resnet50().benchmark
    assert bench is not None
    assert figures.disturbed(bench) == ""
    late = msgspec.structs.replace(bench, p50=10.0, p90=35.0)
    assert figures.disturbed(late).startswith(
        "p90 is 3.5 × p50 (35.0 ms against 10.0 ms), so these runs were disturbed:"
    )
    report = msgspec.structs.replace(resnet50(), benchmark=late)
    assert f"benchmark: {figures.disturbed(late)}" in figures.notes(report)


def test_passes_that_changed_nothing_are_noted_once():
    done = resnet50()
    graphs = [done.graphs[0], *(msgspec.structs.replace(graph, modified=False) for graph in done.graphs[1:])]

    told = figures.notes(msgspec.structs.replace(done, graphs=graphs))
    assert f"optimize/1-onnxsim and 1 more: {figures.UNCHANGED}" in told


def test_the_precision_of_mixed_weights_names_both_and_no_scales():
    def of(**dtypes):
        return figures.precisions(msgspec.structs.replace(resnet50().graphs[-1], dtypes=dtypes))

    assert of(float32=44, int8=4600) == "int8"
    assert of(float32=12, int8=10) == "float32 + int8"
    assert of() == ""
