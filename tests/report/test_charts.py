"""Where a chart's marks lie, in percent of its width."""

from __future__ import annotations

import msgspec
import pytest
from samples import failed, resnet50

from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import charts


def rows(*headrooms: float | None, resolution: float | None = 1000.0) -> list[Verdict]:
    return [
        Verdict(
            "parity/export", f"case {n}", "y", passed=bool(value is not None and value <= 1),
            status="passed" if value is not None and value <= 1 else "failed", headroom=value, resolution=resolution,
        )
        for n, value in enumerate(headrooms)
    ]  # fmt: skip


def chart(verdicts: list[Verdict]) -> charts.Errors:
    found = charts.errors(msgspec.structs.replace(resnet50(), parity=verdicts))
    assert found is not None
    return found


def test_errors_lie_on_a_logarithmic_axis_with_the_tolerance_on_it():
    found = chart(rows(0.1, 0.001, 0.01))
    (row,) = found.rows

    assert [dot.at for dot in row.dots] == pytest.approx([0, 100 / 6, 200 / 6], abs=0.1)
    assert found.tolerance == 50.0 and row.resolution == 100.0
    assert (row.worst, row.apart) == ("10.0 %", "1,000 ×")
    assert {tick.at: tick.label for tick in found.ticks}[50.0] == "tolerance"
    assert len(found.ticks) <= charts.LABELS


def test_no_error_at_all_and_one_without_a_number_lie_at_the_edges():
    (row,) = chart(rows(0.0, None)).rows

    assert [(dot.at, dot.beyond) for dot in row.dots] == [(0.0, False), (100.0, True)]
    assert row.worst == "∞"


@pytest.mark.parametrize("low", [1e-300, 1e-9, 1e-6, 0.5])
@pytest.mark.parametrize("high", [1.0, 40.0, 1e300])
def test_every_axis_names_the_tolerance_and_few_others(low, high):
    found = chart(rows(low, resolution=high))

    assert [tick.label for tick in found.ticks].count("tolerance") == 1
    assert 2 <= len(found.ticks) <= charts.LABELS
    assert all(0 <= at <= 100 for at in (found.tolerance, *(tick.at for tick in found.ticks)))


def test_of_very_many_comparisons_the_worst_is_drawn():
    (row,) = chart(rows(*(n / 10_000 for n in range(1, 5001)))).rows

    assert len(row.dots) <= charts.DOTS + 1 and row.dots[-1].title == "y at case 4999: 50.0 %"


def test_where_nothing_was_compared_there_is_no_chart():
    assert charts.errors(msgspec.structs.replace(resnet50(), parity=[])) is None


def test_a_failing_stage_is_beyond_the_tolerance():
    found = charts.errors(failed())
    assert found is not None
    assert [row.dots[-1].beyond for row in found.rows] == [False, False, True]


def test_a_distribution_has_every_run_and_says_what_it_does_not_draw():
    bench = resnet50().benchmark
    assert bench is not None
    found = charts.latency(bench)
    assert found is not None
    assert found.beyond == "" and max(one.height for one in found.bins) == charts.HIGH
    assert [tick.label for tick in found.marks] == ["p50", "p90", "p99"]

    late = charts.latency(msgspec.structs.replace(bench, quantiles=[*bench.quantiles[:-1], 900.0]))
    assert late is not None
    assert late.beyond == "Not drawn: 1 % of the runs, which took up to 900 ms."
    assert late.ticks[-1].label != "900 ms"


@pytest.mark.parametrize("kept", [[], [1.0] * 100, [3.0]])
def test_of_one_latency_there_is_no_distribution(kept):
    bench = resnet50().benchmark
    assert bench is not None
    assert charts.latency(msgspec.structs.replace(bench, quantiles=kept)) is None


def test_fast_models_have_ticks_that_differ():
    bench = resnet50().benchmark
    assert bench is not None
    fast = [0.0101 + 0.0001 * n for n in range(50)]
    found = charts.latency(msgspec.structs.replace(bench, quantiles=fast, p50=0.0125, p90=0.0145, p99=0.015))
    assert found is not None
    assert [tick.label for tick in found.ticks] == ["10.1 µs", "11.3 µs", "12.5 µs", "13.8 µs", "15.0 µs"]


def test_operators_that_changed_come_first():
    found = charts.ops(resnet50().graphs)

    assert [(bar.label, bar.text, bar.look) for bar in found[:3]] == [
        ("BatchNormalization", "53 → 0", "less"), ("Identity", "3 → 0", "less"), ("Conv", "53", ""),
    ]  # fmt: skip
    assert (found[0].before, found[0].share, found[2].share) == (100.0, 0.0, 100.0)
    assert charts.ops([]) == []


def test_costs_are_shares_of_the_most():
    found = {cost.stage: cost for cost in charts.costs(failed().stages)}

    assert (found["export"].seconds, found["export"].memory) == (100.0, 100.0)
    assert found["reference"].time == "4.9 s" and found["reference"].seconds == pytest.approx(51.8, abs=0.1)
    assert "package" not in found, "it was skipped"
