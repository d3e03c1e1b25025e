from __future__ import annotations

import math

import msgspec
import pytest
from samples import failed, resnet50

from onnxbuild.report import figures
from onnxbuild.report.types import ParityRow, Worst


def row(status="passed", **fields) -> ParityRow:
    return ParityRow("parity/export", "example", "y", fields.pop("passed", status == "passed"), status, **fields)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (row(max_abs=0.002, rtol=0.01, atol=0.1, worst=Worst([0], 10.05, 10.0)), 0.25),
        (row("failed", max_abs=1.0, rtol=0.0, atol=0.5, worst=Worst([0], 2.0, 1.0)), 2.0),
        (row(max_abs=0.0, rtol=1e-3, atol=1e-5), 0.0),
        (row(max_abs=0.0), 0.0),  # integers that are equal
        (row("failed", max_abs=1.0, worst=Worst([0], 3, 2)), math.inf),  # integers that differ
        (row("failed", rtol=1e-3, atol=1e-5, worst=Worst([0], "nan", 2.0)), math.inf),
        (row("failed", max_abs=1.0, rtol=0.0, atol=0.0, worst=Worst([0], 1.0, 0.0)), math.inf),
        (row("failed", note="output is missing"), math.inf),
        (row("vacuous", max_abs=0.0), None),
        (row("not run"), None),
    ],
)
def test_ratio_is_the_error_over_what_numpy_allows_there(given, expected):
    assert figures.ratio(given) == (None if expected is None else pytest.approx(expected))


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
