from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest
from onnx import parser

from onnxbuild.contracts import Task
from onnxbuild.recipe.running import Runtime
from onnxbuild.report.types import BenchmarkReport
from onnxbuild.stages import benchmark


def test_the_facts_are_a_benchmark_report(tmp_path):
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[N, 64] x) => (float[N, 64] y) { y = Relu(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "graph.onnx")
    options = {
        "inputs": {"x": {"dtype": "float32", "shape": [2, 64]}},
        "case": {"name": "N=4", "dims": {"N": 4}, "shapes": {"x": [4, 64]}, "data": {}},
        "seed": 0,
        "runtime": msgspec.to_builtins(Runtime()),
        "warmup": 1,
        "runs": 20,
    }
    files = {"graph": str(tmp_path / "graph.onnx")}
    outcome = benchmark.run(Task("benchmark", "benchmark", options, files, str(tmp_path), "", ""))
    report = msgspec.convert(outcome.facts, BenchmarkReport)
    assert report.providers == ["CPUExecutionProvider"]
    assert (report.dims, report.warmup, report.runs) == ({"N": 4}, 1, 20)
    assert 0 < report.p50 <= report.p90 <= report.p99
    assert len(report.quantiles) == 20 and report.quantiles == sorted(report.quantiles)
    assert report.throughput == pytest.approx(1000 / report.mean)


def test_warm_up_runs_are_not_timed():
    calls = []
    (times,) = benchmark.measure([lambda: calls.append(1)], warmup=3, runs=5)
    assert (len(calls), len(times)) == (8, 5)
    assert all(time >= 0 for time in times)


def test_summary():
    found = benchmark.summary([1_000_000 * n for n in range(1, 102)])
    assert found.pop("quantiles") == [float(n) for n in range(1, 102)], "each run, the fastest first"
    assert found == {"mean": 51.0, "p50": 51.0, "p90": 91.0, "p99": 100.0, "throughput": pytest.approx(1000 / 51)}
    assert all(type(value) is float for value in found.values())
    assert np.isfinite(benchmark.summary([5])["p99"]) and len(benchmark.summary([5])["quantiles"]) == 1
    many = benchmark.summary([1_000_000 * n for n in range(1, 2002)])["quantiles"]
    assert (len(many), many[0], many[100], many[-1]) == (201, 1.0, 1001.0, 2001.0)


def test_a_busy_machine_is_noted():
    assert benchmark.load_notes(2.0, 2) == []
    assert benchmark.load_notes(3.5, 2) == [
        "machine was busy: load average 3.5 on 2 cores at the start; expect slower numbers"
    ]
    assert benchmark.machine_load() >= 0
