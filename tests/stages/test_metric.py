"""A metric on data: of the source model, of every graph and target; what may be lost, what runs again, what is refused."""

from __future__ import annotations

import io
import json
import sys
import time
import xml.etree.ElementTree as ET
from types import SimpleNamespace
from typing import Any

import mutations
import numpy as np
import onnxruntime
import pytest
from mutations import put, swap
from onnx import numpy_helper, parser, save
from test_mutations import mutate
from workspace import Workspace

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.parity.datasets import Dataset
from onnxbuild.parity.metric import Metric, judge
from onnxbuild.queries import scores
from onnxbuild.stages import metric

GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 16] x) => (float[N, 4] y) { i = Identity(x) h = MatMul(i, w) r = Relu(h) y = MatMul(r, v) }
"""
METRICS = """\
import numpy as np
from helping import rows


def top1(outputs, data):
    assert list(outputs) == ["y"] and set(data) == {"x", "label", "exact"}, (list(outputs), list(data))
    return (rows(outputs["y"]) == data["label"]).mean()


def error(outputs, data):
    return np.abs(outputs["y"] - data["label"][:, None]).mean()


def constant(outputs, data):
    return 0.5


def near(outputs, data):  # how many samples are within what a float16 loses
    return (np.abs(outputs["y"] - data["exact"]).max(axis=1) < 1e-3).mean()
"""
RECIPE = """\
version: 1
name: net
model: {onnx: {path: m.onnx}}
export:
  opset: 17
  inputs: {x: {dtype: float32, shape: [2, 16]}}
  outputs: [y]
  dynamic_axes: {x: {0: N}, y: {0: N}}
  dims: {N: {min: 1, max: 8}}
optimize:
  - onnxoptimizer: [eliminate_identity]
  - float16: {}
    parity: {rtol: 0.05, atol: 0.05, reason: half precision}
metric: {function: "metrics:top1", data: {npz: {path: val.npz, batch_size: 32}}, max_drop: 0.02}
targets: {ort: {optimization_level: basic}}
"""
GRAPHS = {"metric/export", "metric/1-onnxoptimizer", "metric/2-float16", "metric/ort"}
ALL = {"metric/reference"} | GRAPHS
CHECKED = {f"{kind}/{graph}" for kind in ("check", "parity") for graph in ("export", "1-onnxoptimizer", "2-float16")}
OF_MODEL = {
    "export",
    "reference",
    "optimize/1-onnxoptimizer",
    "optimize/2-float16",
    "target/ort",
    "parity/ort",
    "package",
}


def model(seed: int = 0):
    rng = np.random.default_rng(seed)
    made = parser.parse_model(GRAPH)
    for name, shape in (("w", (16, 32)), ("v", (32, 4))):
        made.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    return made


def validation(seed: int = 0, wrong: int = 10) -> bytes:
    """200 samples, of which so many are labelled otherwise than the model has them."""
    x = np.random.default_rng(seed).normal(size=(200, 16)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(model().SerializeToString()).run(None, {"x": x})
    label = y.argmax(1)
    label[:wrong] = (label[:wrong] + 1) % 4
    return npz(x=x, label=label, exact=y, names=np.array(["a", "b", "c"]))


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("metric") / "project")
    root = workspace.root
    save(model(), root / "m.onnx")
    (root / "val.npz").write_bytes(validation())
    workspace.write("metrics.py", METRICS)
    workspace.write("helping.py", "def rows(y):\n    return y.argmax(1)\n")
    workspace.write("net.yaml", RECIPE)
    with mutations.bench(root) as bench:
        assert bench.build("net.yaml") == OF_MODEL | CHECKED | ALL
        time.sleep(2.1)  # until digests are remembered: a memory that is wrong must have its chance
        yield bench


def test_the_figure_of_the_source_model_and_of_every_graph_is_told(net):
    report = net.workspace.report("net")
    told = [(row["stage"], row["of"], row["value"], row["rows"], row["drop"]) for row in report["scores"]]

    assert told[0] == ("metric/reference", "", 0.95, 200, None)
    assert [row[1] for row in told[1:]] == ["export", "optimize/1-onnxoptimizer", "optimize/2-float16", "target/ort"]
    data = np.load(net.root / "val.npz")
    (y,) = onnxruntime.InferenceSession(str(net.root / "build/net/model.onnx")).run(None, {"x": data["x"]})
    final = (y.argmax(1) == data["label"]).mean()
    assert told[-2][2] == pytest.approx(final) and told[-2][4] == pytest.approx(0.95 - final)
    assert "| ✅ | optimize/2-float16 | 0.95 | 0 | 0.02 |" in net.workspace.read("build/net/report.md")
    assert "<h2>Metric on 200 samples</h2>" in net.workspace.read("build/net/report.html")

    card = json.loads(net.workspace.read("build/net/bom.cdx.json"))["metadata"]["component"]["modelCard"]
    first = card["quantitativeAnalysis"]["performanceMetrics"][0]
    assert first == {
        "type": "metrics:top1",
        "value": repr(told[-2][2]),
        "slice": "200 samples; of the source model it is 0.95",
    }

    deployed = json.loads(net.workspace.read("build/net/manifest.json"))["targets"]
    assert {one["target"]: one["metric"]["value"] for one in deployed} == {"onnx": told[-2][2], "ort": told[-1][2]}

    net.workspace.run("lock", "net.yaml")
    lock = net.workspace.read("net.lock.yaml")
    assert "    metric:\n      onnx: 0.95\n      ort: 0.95\n      source: 0.95\n" in lock
    (net.root / "net.lock.yaml").write_text(lock.replace("onnx: 0.95", "onnx: 0.97").replace("ort: 0.95", "ort: 0.951"))
    ran = net.workspace.run("run", "--locked", "net.yaml", code=1)
    assert "metric onnx: 0.97 -> 0.95" in ran.text and "metric ort" not in ran.text
    (net.root / "net.lock.yaml").unlink()
    net.build("net.yaml")


ROWS = {
    "the function": (swap("metrics.py", ".mean()\n\n\ndef error", ".mean() * 1.0\n\n\ndef error"), ALL),
    "a module that it imports": (swap("helping.py", "argmax(1)", "argmax(axis=1)"), ALL),
    "labels": (put("val.npz", validation(wrong=20)), ALL),
    "the batch size": (swap("net.yaml", "batch_size: 32", "batch_size: 20"), ALL),
    "how much may be lost": (swap("net.yaml", "max_drop: 0.02", "max_drop: 0.03"), set()),
    "a pass that changes nothing": (
        swap("net.yaml", "[eliminate_identity]", "[eliminate_identity, eliminate_deadend]"),
        {"optimize/1-onnxoptimizer"},
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_change_around_a_metric_runs_what_it_can_affect(net, row):
    edit, runs = ROWS[row]
    mutate(net, "net.yaml", edit, runs, clean=False)


def test_one_that_loses_too_much_is_refused_and_nothing_is_published(net, tmp_path):
    copy = net.workspace.copy(tmp_path / "copy")
    for path in (copy.root / "build/net").iterdir():
        if path.is_file():
            path.unlink()
    copy.replace("net.yaml", 'function: "metrics:top1"', 'function: "metrics:near"')
    copy.replace("net.yaml", "max_drop: 0.02", "max_drop: 0.25")
    ran = copy.run("run", "net.yaml", "--junit", "junit.xml", code=1)

    assert "metrics:near is 0" in ran.text
    assert "and metric.max_drop allows 0.25; of optimize/1-onnxoptimizer it was 1" in ran.text
    assert "hint: onnxbuild tune finds the nodes that optimize[1].float16 has to leave as they are" in ran.text
    assert copy.statuses("net")["package"] == "skipped"
    assert not (copy.root / "build/net/model.onnx").exists()
    failed = [row for row in copy.report("net")["scores"] if not row["passed"]]
    assert [row["of"] for row in failed] == ["optimize/2-float16"]
    cases = ET.parse(copy.root / "junit.xml").getroot().iter("testcase")
    (failure,) = [
        case.find("failure")
        for case in cases
        if case.get("classname") == "net.metric/2-float16" and case.get("name") == "metrics:near"
    ]
    assert failure is not None and failure.get("message", "").endswith("of 0.25 allowed")

    plan = json.loads(copy.run("plan", "net.yaml", "--json").out)["recipes"][0]
    states = {stage["name"]: stage["state"] for stage in plan["stages"]}
    assert states["metric/2-float16"] == "fails" and states["metric/1-onnxoptimizer"] == "up to date"
    copy.replace("net.yaml", "max_drop: 0.25", "max_drop: 1.0")
    copy.run("run", "net.yaml")
    assert "metric/2-float16" not in copy.built("net"), "another max_drop measures nothing"

    copy.replace("net.yaml", 'function: "metrics:near"', 'function: "metrics:constant"')
    ran = copy.run("run", "net.yaml")
    assert "the metric metrics:constant is 0.5, and 0.5 where every sample gets the outputs of the first" in " ".join(
        ran.text.split()
    )
    assert copy.built("net") == ALL | {"package"}, "a stamp says which recipe it was"


def test_steps_around_the_model_are_part_of_what_is_measured(net, tmp_path):
    copy = net.workspace.copy(tmp_path / "copy")
    data = np.load(copy.root / "val.npz")
    (copy.root / "val.npz").write_bytes(npz(raw=data["x"].astype(np.float64), label=data["label"]))
    steps = (
        "prepend: {x: {name: raw, dtype: float64, shape: [2, 16], dynamic_axes: {0: N}, steps: [{cast: float32}]}}\n"
    )
    copy.write(
        "net.yaml",
        RECIPE.split("optimize:", maxsplit=1)[0] + steps + next(x for x in RECIPE.splitlines() if "metric:" in x),
    )
    copy.replace("metrics.py", '{"x", "label", "exact"}', '{"raw", "label"}')
    copy.run("run", "net.yaml")
    told = [(row["stage"], row["value"]) for row in copy.report("net")["scores"]]
    assert told == [("metric/reference", 0.95), ("metric/attach", 0.95)]


def test_a_drop_is_how_much_worse_it_is():
    asked = Metric("m:f", Dataset(), 0.02)
    assert judge(0.95, 0.97, asked).passed, "0.97 - 0.95 is a little more in floats"
    assert not judge(0.9499, 0.97, asked).passed and judge(1.5, 0.97, asked).passed
    loss = Metric("m:f", Dataset(), 0.02, higher_is_better=False)
    assert judge(0.1, 0.97, loss).passed and not judge(1.0, 0.97, loss).passed
    assert judge(1.0, 0.97, loss).drop == pytest.approx(0.03)


REFUSED = """\
def one(outputs):
    return 1.0


def nothing(outputs, data):
    pass


def nan(outputs, data):
    return float("nan")


def several(outputs, data):
    return outputs["y"].mean(axis=1)


def truth(outputs, data):
    return True


def missing(outputs, data):
    return data["labels"].mean()


def huge(outputs, data):
    return 10**400


def leaves(outputs, data):
    raise SystemExit(0)
"""


def task(tmp_path, function: str, data: dict, **options) -> Task:
    """Of a graph whose output is its input, in two runs."""
    inputs = {"x": {"dtype": "float32", "shape": [1, 2]}}
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, M] x) => (float[N, M] y) { y = Neg(x) }'
    )
    save(graph, tmp_path / "g.onnx")
    runtime = {
        "providers": ["CPUExecutionProvider"],
        "provider_options": {},
        "require": [],
        "session": {
            "graph_optimization_level": "all",
            "config_entries": {},
            "execution_mode": "sequential",
            "intra_op_num_threads": 1,
            "inter_op_num_threads": 1,
            "enable_mem_pattern": True,
            "enable_cpu_mem_arena": True,
        },
    }
    asked = {"function": function, "data": data, "inputs": inputs, "outputs": ["y"], "runtime": runtime, **options}
    return Task("metric/export", "", asked, {"graph": str(tmp_path / "g.onnx")}, str(tmp_path), "", str(tmp_path))


@pytest.mark.parametrize(
    ("function", "fact", "hint"),
    [
        ("one", "the metric refused:one(outputs) can't be called so: too many positional arguments", metric.CALLED),
        ("nothing", "the metric refused:nothing gives a NoneType, not a finite number", "return a float"),
        ("nan", "the metric refused:nan gives nan, not a finite number", "return a float"),
        ("several", "the metric refused:several gives a ndarray, not a finite number", "return a float"),
        ("truth", "the metric refused:truth gives a bool, not a finite number", "return a float"),
        ("missing", "the metric refused:missing failed: KeyError: 'labels'", "outputs has y; data has x, label"),
        ("huge", "the metric refused:huge gives inf, not a finite number", "return a float"),
        ("leaves", "the metric refused:leaves failed: SystemExit: 0", "outputs has y; data has x, label"),
        ("gone", "refused:gone: 'gone' is not there", ""),
    ],
)
def test_a_function_that_is_no_metric_is_refused(tmp_path, function, fact, hint):
    (tmp_path / "refused.py").write_text(REFUSED)
    x = np.ones((2, 2), np.float32)
    np.savez(tmp_path / "d.npz", x=x, label=np.arange(2))
    asked = task(tmp_path, f"refused:{function}", {"npz": {"path": "d.npz"}})
    asked.inputs["data:d.npz"] = str(tmp_path / "d.npz")
    with pytest.raises(StageError) as told:
        metric.run(asked)
    assert told.value.fact.startswith(fact) and hint in told.value.hint


FEEDS = """\
import numpy as np


def ragged():
    return [{"x": np.ones((1, size), np.float32)} for size in (2, 3)]


def uneven():
    return [{"x": np.ones((1, 2), np.float32), "label": 1}, {"x": np.ones((1, 2), np.float32)}]


def several():
    return [{"x": np.full((2, 2), i, np.float32), "label": i} for i in range(3)]


def total(outputs, data):
    assert data["label"].tolist() == [0, 1, 2] and outputs["y"].shape == (6, 2)
    return outputs["y"].sum()
"""


def test_what_a_generator_gives_is_one_array_or_refused(tmp_path):
    (tmp_path / "feeds.py").write_text(FEEDS)
    given = lambda name: task(tmp_path, "feeds:total", {"generator": {"function": f"feeds:{name}"}})
    assert metric.run(given("several")).facts["value"] == -12.0
    with pytest.raises(StageError, match="output 'y' has other sizes from run to run") as told:
        metric.run(given("ragged"))
    assert told.value.hint == "pad the data to one size"
    with pytest.raises(StageError, match="the data has 'label' in some of its samples alone") as told:
        metric.run(given("uneven"))
    assert told.value.hint == "give every sample the same arrays"


GIVES = """\
def nothing():
    return None


def fails():
    yield {"x": [[1.0, 2.0]]}
    raise OSError("the disk is gone")


def asks(folder):
    yield {}


def figure(outputs, data):
    return 1.0
"""


@pytest.mark.parametrize(
    ("function", "fact", "hint"),
    [
        ("nothing", "gives:nothing gives a NoneType, not samples", "yield arrays by input name, or return a list of them"),
        ("fails", "gives:fails failed at gives.py:7: OSError: the disk is gone", ""),
        ("asks", "gives:asks(folder) can't be called so: missing a required argument: 'folder'",
         "say what it takes under generator.kwargs"),
    ],
)  # fmt: skip
def test_a_generator_that_fails_is_told_by_name(tmp_path, monkeypatch, function, fact, hint):
    monkeypatch.delitem(sys.modules, "gives", raising=False)  # another case's
    (tmp_path / "gives.py").write_text(GIVES)
    inputs = {"x": {"dtype": "float64", "shape": [1, 2]}}
    asked = task(tmp_path, "gives:figure", {"generator": {"function": f"gives:{function}"}}, inputs=inputs)
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (double[N, M] x) => (double[N, M] y) { y = Neg(x) }'
    )
    save(graph, tmp_path / "g.onnx")
    with pytest.raises(StageError) as told:
        metric.run(asked)
    assert (told.value.fact, told.value.hint) == (fact, hint)


def test_data_that_the_graph_can_not_be_run_on_is_told(tmp_path):
    (tmp_path / "feeds2.py").write_text(FEEDS)
    asked = task(tmp_path, "feeds2:total", {"generator": {"function": "feeds2:several"}})
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1, 2] x) => (float[1, 2] y) { y = Neg(x) }'
    )
    save(graph, tmp_path / "g.onnx")
    with pytest.raises(StageError, match=r"the graph can't be run on the data, 'x' of shape \[2, 2\]: ") as told:
        metric.run(asked)
    assert told.value.hint == "the data has to be of sizes that the recipe's dims allow"


def test_what_is_wrong_with_it_is_told_with_its_place(tmp_path):
    workspace = Workspace.make(tmp_path / "project")
    save(model(), workspace.root / "m.onnx")
    (workspace.root / "val.npz").write_bytes(validation())
    workspace.write("metrics.py", METRICS)
    text = RECIPE.replace("metrics:top1", "metrics:top2").replace("batch_size: 32", "count: 300")
    workspace.write("net.yaml", text.replace("max_drop: 0.02", "max_drop: -1"))
    assert "metric.max_drop: must be at least 0, found -1" in workspace.run("check", "net.yaml", code=2).text
    workspace.write("net.yaml", text)
    ran = workspace.run("check", "net.yaml", code=2)
    assert "metric.function: 'metrics:top2' cannot be imported" in ran.text
    assert "metric.data.npz.count: 'val.npz' holds 200 samples" in ran.text
    workspace.write("net.yaml", RECIPE.replace("data: {npz: {path: val.npz, batch_size: 32}}", "data: {}"))
    assert "metric.data: " in workspace.run("check", "net.yaml", code=2).text


def test_a_metric_that_can_not_fail_is_cautioned_of():
    asked: Any = SimpleNamespace(metric=Metric("m:f", Dataset(), 0.02))
    assert not list(scores.blind(asked, {"function": "m:f", "value": 0.9, "blind": 0.3}))
    (told,) = scores.blind(asked, {"function": "m:f", "value": 0.9, "blind": 0.89})
    assert told.endswith("with metric.max_drop 0.02 it proves nothing")
