from __future__ import annotations

import html

import msgspec
import numpy as np
import onnx
import pytest
from onnx import parser
from workspace import Workspace

from onnxbuild.contracts import Task
from onnxbuild.recipe.running import Runtime
from onnxbuild.report import figures
from onnxbuild.report.types import BenchmarkReport, Report
from onnxbuild.stages import benchmark
from onnxbuild.system import memory
from onnxbuild.text import units


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


MODEL = """
<ir_version: 8, opset_import: ["": 18]>
lossy (float[N, 64] x) => (float[N, 64] y) { d = Neg(x) p = MatMul(x, w) q = MatMul(p, v) y = Relu(q) }
"""
RECIPE = """\
version: 1
name: lossy
model: {onnx: {path: m.onnx}}
export: {dims: {N: {min: 1, max: 3}}}
optimize:
  - onnxoptimizer: [eliminate_deadend, nop]
  - quantize_dynamic: {}
  - onnxoptimizer: [eliminate_deadend]
parity: {rtol: 5.0e-2, atol: 5.0e-2, reason: weights in int8}
runtime: {session: {intra_op_num_threads: 1}}
benchmark: {warmup: 1, runs: 20}
"""


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("lossy") / "project")
    model = parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for name in "wv":
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=(64, 64)).astype("f4") / 8, name))
    onnx.save(model, workspace.root / "m.onnx")
    workspace.write("lossy.yaml", RECIPE)
    workspace.write(
        "exact.yaml", RECIPE.replace("name: lossy", "name: exact").replace("  - quantize_dynamic: {}\n", "")
    )
    out = workspace.run("run", "lossy.yaml").out
    workspace.run("run", "lossy.yaml", "exact.yaml")
    return workspace, out


def test_the_graph_before_precision_is_lost_is_timed_in_the_same_run(lossy):
    workspace, out = lossy
    report = msgspec.convert(workspace.report("lossy"), Report)
    assert report.benchmark.before.stage == "optimize/1-onnxoptimizer" and report.benchmark.before.p50 > 0
    found = figures.beside_before(report)
    sizes = {graph.stage: graph.bytes for graph in report.graphs}
    assert found.name == "float32" and found.latency == report.benchmark.p50 / report.benchmark.before.p50
    assert found.size == sizes["optimize/3-onnxoptimizer"] / sizes["optimize/1-onnxoptimizer"] < 0.5
    assert "the float32 graph's" in found.told and found.told.endswith("(optimize/1-onnxoptimizer)")
    page, fleet = html.unescape(workspace.read("build/lossy/report.html")), workspace.read("build/index.html")
    for text in (out, workspace.read("build/lossy/report.md").replace("\\", ""), page):
        assert found.told in " ".join(text.split())
    assert "float32’s</div>" in fleet and f"{units.times(found.size)} the size</div>" in fleet


def test_an_earlier_graph_that_changed_is_timed_again(lossy):
    """What the last pass makes is the same with and without the first: only the graph between them is another."""
    workspace = lossy[0].copy(lossy[0].root.parent / "changed")
    workspace.replace("lossy.yaml", "[eliminate_deadend, nop]", "[nop]")
    workspace.run("run", "lossy.yaml")
    assert workspace.statuses("lossy")["check/3-onnxoptimizer"] == "cached"
    why = {stage["name"]: stage["why"] for stage in workspace.report("lossy")["stages"] if stage["status"] == "built"}
    assert why["benchmark"] == ["input graph_before changed"]


def test_a_recipe_that_loses_nothing_is_timed_alone(lossy):
    report = lossy[0].report("exact")
    assert report["benchmark"]["p50"] > 0 and report["benchmark"]["before"] is None
    assert figures.beside_before(msgspec.convert(report, Report)) is None
    (stage,) = [one for one in report["stages"] if one["name"] == "benchmark"]
    assert not {"export", "optimize/1-onnxoptimizer"} & {*stage["needs"]}


@pytest.mark.parametrize(
    ("free", "body", "why"),
    [
        (100, "y = Relu(x)", "it may take "),
        (1 << 40, "y = Cast<to = 16>(z) z = Relu(x)", "onnxruntime can't open the graph: "),
        (1 << 40, "s = Constant<value_ints = [7, 7]>() y = Reshape(x, s)", "onnxruntime can't run it: Non-zero status"),
    ],
    ids=["memory", "open", "run"],
)
def test_a_graph_that_can_not_be_timed_beside_the_final_one_is_left_out_and_the_report_says_why(
    tmp_path, monkeypatch, free, body, why
):
    head = '<ir_version: 10, opset_import: ["" : 18]> g (float[N, 64] x) => (float[N, 64] y)'
    onnx.save(parser.parse_model(f"{head} {{ y = Relu(x) }}"), tmp_path / "graph.onnx")
    onnx.save(parser.parse_model(f"{head} {{ {body} }}"), tmp_path / "before.onnx")
    monkeypatch.setattr(memory, "available", lambda: free)
    options = {
        "inputs": {"x": {"dtype": "float32", "shape": [2, 64]}},
        "case": {"name": "N=4", "dims": {"N": 4}, "shapes": {"x": [4, 64]}, "data": {}},
        "seed": 0, "runtime": msgspec.to_builtins(Runtime()), "warmup": 0, "runs": 3,
    }  # fmt: skip
    files = {"graph": str(tmp_path / "graph.onnx"), benchmark.BEFORE: str(tmp_path / "before.onnx")}
    facts = benchmark.run(Task("benchmark", "benchmark", options, files, str(tmp_path), "", "")).facts
    assert "before" not in facts and len(facts["quantiles"]) == 3
    assert f"the graph before precision is lost was not timed beside this one: {why}" in facts["notes"][0]


def test_turns_of_several_runs_give_every_run_and_one_more_a_turn_where_it_is_warmed_up():
    order = []
    times = benchmark.in_turns([lambda: order.append(1), lambda: order.append(2)], warmup=2, runs=12)
    assert [len(own) for own in times] == [12, 12] and len(order) == 2 * (2 + 10 + 12)
    assert order[4:8] == [1, 1, 2, 2] and order[8:14] == [2, 2, 1, 1, 1, 1], "who starts is another one each time"
    order.clear()
    benchmark.in_turns([lambda: order.append(1), lambda: order.append(2)], warmup=0, runs=3)
    assert order == [1, 2, 2, 1, 1, 2]
