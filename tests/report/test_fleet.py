"""What is on the page over all recipes of a folder."""

from __future__ import annotations

import msgspec
from samples import failed, resnet50, scored

from onnxbuild.report import fleet, render
from onnxbuild.report.types import Report


def at(report: Report, started: str) -> Report:
    return msgspec.structs.replace(report, run=msgspec.structs.replace(report.run, started=started))


def test_builds_that_failed_come_first_and_ages_are_told_beside_the_newest():
    found = {
        "a": at(resnet50(), "2026-01-17T09:12:44+00:00"),
        "b": at(failed(), "2026-01-03T08:00:00Z"),
        "c": at(resnet50(), "no time"),
    }
    page = fleet.of(found, ["z", "y"])

    assert [(row.page, row.status, row.age) for row in page.rows] == [
        ("b/report.html", "failed", "14 days older"), ("a/report.html", "built", ""), ("c/report.html", "built", ""),
    ]  # fmt: skip
    assert page.unread == ["y", "z"] and page.opsets == [("18", 3, 100.0)]
    assert [(row.latency, row.latency_share) for row in page.rows] == [
        ("", 0.0),
        ("40.9 ms", 100.0),
        ("40.9 ms", 100.0),
    ]
    tiles = {tile.label: (tile.value, tile.tone) for tile in page.tiles}
    assert tiles["Built"] == ("2 of 3", "bad") and tiles["Largest error"] == ("28.3 ×", "bad")


def test_of_no_reports_there_is_an_empty_page():
    page = fleet.of({}, ["a"])

    assert page.rows == [] and page.unread == ["a"]


def test_a_metric_is_told_beside_the_source_models_and_of_a_failed_build_where_it_failed():
    done = scored()
    reference, final = done.scores
    worse = msgspec.structs.replace(final, value=0.5, drop=0.2613, passed=False)
    lost = msgspec.structs.replace(failed(), name="lost", scores=[reference, worse, final])
    page = fleet.of({"a": done, "b": resnet50(), "c": lost}, [])

    told = {
        row.page: (row.metric.value, row.metric.passed, row.metric.told) if row.metric else None for row in page.rows
    }
    name = "evaluation.metrics:top_1_accuracy_of_the_validation_set"
    assert told == {
        "a/report.html": (
            "0.7587",
            True,
            f"{name} on 500 samples; the source model's is 0.7613, worse by 0.0026 of 0.01 allowed",
        ),
        "b/report.html": None,
        "c/report.html": (
            "0.5",
            False,
            f"{name} on 500 samples; the source model's is 0.7613, worse by 0.261 of 0.01 allowed",
        ),
    }
    text = render.fleet({"a": done, "b": resnet50()}, [])
    assert ">Metric</th>" in text and 'data-label="Metric"' in text and "0.7587" in text and "source 0.7613" in text
    assert "Metric" not in render.fleet({"b": resnet50()}, []), "no column where no recipe has one"


def test_the_size_is_that_of_what_was_published():
    page = fleet.of({"a": resnet50(), "b": failed()}, [])

    assert {row.page: row.size for row in page.rows} == {"a/report.html": "102 MB", "b/report.html": ""}
