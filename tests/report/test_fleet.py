"""What is on the page over all recipes of a folder."""

from __future__ import annotations

import msgspec
from samples import failed, resnet50

from onnxbuild.report import fleet
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
