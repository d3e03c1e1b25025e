"""The quantizers: smaller, valid, the same bytes, and each fault of the library's that would make it otherwise."""

# ruff: noqa: E501  # a table reads by its columns

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from workspace import Workspace

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, tensors
from onnxbuild.passes import PASSES, Beside
from onnxbuild.system import memory

MODEL = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N, 64] x) => (float[N, 10] y) {
    [first] h = Gemm<transB = 1>(x, w, b)
    r = Relu(h)
    [second] p = MatMul(r, v)
    [third] q = MatMul(p, v)
    [fourth] e = MatMul(r, v)
    f = Add(q, e)
    y = Gemm<transB = 1>(f, u)
}
"""
RECIPE = """\
version: 1
name: small
model: {onnx: {path: m.onnx}}
export: {dims: {N: {min: 1, max: 3}}}
optimize:
  - PASS
parity: {rtol: 0.9, atol: 0.2, reason: r}
"""
DATA = "data: {npz: {path: data.npz, batch_size: 8}}"
X = np.random.default_rng(1).standard_normal((32, 64)).astype(np.float32)


def model() -> onnx.ModelProto:
    made = parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (64, 64)), ("b", (64,)), ("v", (64, 64)), ("u", (10, 64))):
        made.graph.initializer.append(
            numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(np.float32), name)
        )
    return made


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The model in a store."""
    objects = tmp_path_factory.mktemp("store") / "objects"
    ref, _ = modelfile.save(model(), None, objects)
    return objects / ref


def quantized(graph, folder, name, options="", feeds=(X,), notes=None):
    """The model after a pass, in memory."""
    folder.mkdir(exist_ok=True)
    text = f"{{{options}}}"
    decoded = msgspec.yaml.decode(text, type=PASSES[name].Options)
    beside = Beside(lambda: ({"x": feed} for feed in feeds))
    before = sorted(graph.parent.rglob("*"))
    made, where = PASSES[name].run(graph, decoded, folder, beside)
    assert sorted(graph.parent.rglob("*")) == before  # nothing beside the model that is read
    if notes is not None:
        notes += beside.notes
    modelfile.read_in(made, where)
    onnx.checker.check_model(made, full_check=True)
    return made


def ran(made, x=X):
    return onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]


def kinds(made):
    return [node.op_type for node in made.graph.node]


# Through the front door

WAYS = {
    "static": f"quantize_static: {{per_channel: true, {DATA}}}",
    "dynamic": "quantize_dynamic: {}",
    "blocks": "quantize_4bit: {block_size: 32}",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("quantized") / "project")
    onnx.save(model(), workspace.root / "m.onnx")
    np.savez(workspace.root / "data.npz", x=X)
    for name, way in WAYS.items():
        workspace.write(f"{name}.yaml", RECIPE.replace("name: small", f"name: {name}").replace("PASS", way))
    workspace.run("run", *(f"{name}.yaml" for name in WAYS))
    return workspace


@pytest.mark.parametrize(("name", "times"), [("static", 0.45), ("dynamic", 0.4), ("blocks", 0.7)])
def test_it_is_smaller_and_keeps_what_was_declared(project, name, times):
    before, after = project.report(name)["graphs"]
    assert after["bytes"] < times * before["bytes"]
    assert (after["inputs"], after["outputs"]) == (before["inputs"], before["outputs"])
    assert {*after["opset_imports"]} == ({"", "com.microsoft"} if name == "blocks" else {""})
    published = onnx.load(project.root / f"build/{name}/model.onnx")
    assert not published.graph.value_info
    assert all(entry.key.startswith("onnxbuild.") for entry in published.metadata_props)
    np.testing.assert_allclose(ran(published), ran(model()), atol=0.5, rtol=0.9)


def test_what_it_says(project):
    said = {name: {one["name"]: one for one in project.report(name)["stages"]} for name in WAYS}
    static, blocks = (
        said[name][f"optimize/1-quantize_{what}"] for name, what in (("static", "static"), ("blocks", "4bit"))
    )
    assert static["facts"]["notes"] == [
        "ranges are as this machine's processor rounds",
        "ranges of activations measured in 4 runs, MinMax",
    ]
    assert blocks["facts"]["notes"] == ["MatMulNBits is onnxruntime's own operator: others can't load it"]
    assert [one["warnings"] for of in said.values() for name, one in of.items() if "optimize" in name] == [[], [], []]


def test_the_same_bytes_in_other_folders_and_environments(project):
    said = project.run("verify", "--rebuild", *(f"{name}.yaml" for name in WAYS)).text
    assert said.count("the same") >= 3


# Each option does something

DIFFERENT = {
    "quantize_static": [
        "per_channel: true", "reduce_range: true", "activation_type: QUInt8", "quant_format: QOperator",
        "op_types_to_quantize: [MatMul]", "nodes_to_quantize: [second]", "nodes_to_exclude: [h]",
        "calibrate_method: Entropy", "calibrate_method: Entropy, num_bins: 200", "calibrate_method: Percentile",
        "calibrate_method: Percentile, percentile: 90.0", "symmetric: true",
        "moving_average: true", "moving_average: true, averaging_constant: 0.5", "extra_options: {QuantizeBias: false}",
        "extra_options: {ActivationSymmetric: true}", "extra_options: {WeightSymmetric: false}",
        "extra_options: {AddQDQPairToWeight: true}", "extra_options: {DedicatedQDQPair: true}",
        "extra_options: {MinimumRealRange: 100.0}",
        "extra_options: {QDQKeepRemovableActivations: true}, activation_type: QUInt8",
    ],
    "quantize_dynamic": [
        "per_channel: true", "reduce_range: true", "weight_type: QUInt8",
        "nodes_to_quantize: [second]", "nodes_to_exclude: [p, third]", "extra_options: {WeightSymmetric: false}",
    ],
    "quantize_4bit": [
        "bits: 8", "block_size: 16", "is_symmetric: true", "accuracy_level: 4", "nodes_to_exclude: [second]",
        "nodes_to_include: [q]",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_every_option_does_something(graph, tmp_path, name):
    halves = (X[:16], X[16:] * 0.5)
    seen = {}
    data = "data: {npz: {path: x}}, " if name == "quantize_static" else ""
    for number, options in enumerate(["", *DIFFERENT[name]]):
        made = quantized(graph, tmp_path / f"{number}", name, f"{data}{options}", halves)
        key = made.SerializeToString(deterministic=True)
        assert key not in seen, (options, seen[key])
        seen[key] = options
        assert ran(made).shape == (32, 10)


def test_with_standard_operators_alone(graph, tmp_path):
    ref, _ = modelfile.save(onnx.version_converter.convert_version(model(), 21), None, tmp_path / "objects")
    made = quantized(tmp_path / "objects" / ref, tmp_path / "1", "quantize_4bit", "quant_format: QDQ, block_size: 32")
    assert {entry.domain for entry in made.opset_import} == {""}
    assert kinds(made).count("DequantizeLinear") == 1
    assert len({one.name for one in made.graph.initializer}) == len(made.graph.initializer)  # two nodes share a weight
    whole = quantized(
        tmp_path / "objects" / ref, tmp_path / "2", "quantize_4bit", "quant_format: QDQ, channel_wised_quantize: true"
    )
    assert whole != made
    sixteen = "activation_type: QInt16, data: {npz: {path: x}}"
    exact = quantized(tmp_path / "objects" / ref, tmp_path / "3", "quantize_static", sixteen)
    np.testing.assert_allclose(ran(exact), ran(model()), atol=0.1)


def test_a_table_in_4_bits(tmp_path):
    made = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (int64[N] i) => (float[N, 64] y) { y = Gather(t, i) }'
    )
    made.graph.initializer.append(numpy_helper.from_array(X, "t"))
    ref, _ = modelfile.save(made, None, tmp_path / "objects")
    got = quantized(tmp_path / "objects" / ref, tmp_path / "1", "quantize_4bit", "op_types_to_quantize: [Gather]")
    assert kinds(got) == ["GatherBlockQuantized"]


# The library's faults


def test_a_stale_shape_is_no_trap(tmp_path):
    made = onnx.shape_inference.infer_shapes(model())
    for value in made.graph.value_info:  # what an author writes is kept in the store
        value.doc_string = "the author's"
    made.graph.value_info.add(name="u").type.CopyFrom(onnx.helper.make_tensor_type_proto(1, [10, 64]))
    made.graph.value_info[-1].doc_string = "the author's"
    from onnxbuild.graphs import notes

    ref, _ = modelfile.save(made, None, tmp_path / "objects", notes.of(made))
    kept = tmp_path / "objects" / ref
    assert len(modelfile.structure(kept).graph.value_info) == 7
    assert "MatMulInteger" in kinds(quantized(kept, tmp_path / "1", "quantize_dynamic"))


def test_pre_processing_leaves_nothing_behind(graph, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = quantized(graph, tmp_path / "1", "quantize_static", "pre_process: {}, data: {npz: {path: x}}")
    assert {entry.domain for entry in made.opset_import} == {""}
    strange = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "own": 1]> g (float[N, 64] x) => (float[N, 10] y) { a = own.odd(x)'
        " y = MatMul(a, z) }"
    )
    strange.graph.initializer.append(numpy_helper.from_array(X[:10].T.copy(), "z"))
    ref, _ = modelfile.save(strange, None, tmp_path / "objects")
    with pytest.raises(StageError, match="pre-processing: Incomplete symbolic shape inference") as told:
        quantized(
            tmp_path / "objects" / ref, tmp_path / "2", "quantize_static", "pre_process: {}, data: {npz: {path: x}}"
        )
    assert told.value.hint == "set pre_process: {skip_symbolic_shape: true}"
    assert [*(tmp_path / "here").iterdir()] == []


def test_entropy_is_not_minmax_under_another_name(graph, tmp_path):
    wild = X.copy()
    wild[0, 0] = 1000.0
    small = [np.abs(ran(quantized(graph, tmp_path / way, "quantize_static", f"calibrate_method: {way}, data: {{npz: {{path: x}}}}",
                                  (wild,))) - ran(model())).mean() for way in ("MinMax", "Entropy")]  # fmt: skip
    assert small[1] < 0.5 * small[0]


def test_a_range_that_ruins_all_others_is_told(tmp_path):
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 64] x) => (float[N, 64] y) <float m = {3e38}>'
        " { b = Mul(x, m) s = Add(b, x) y = MatMul(s, w) }"
    )
    made.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    ref, _ = modelfile.save(made, None, tmp_path / "objects")
    said = []
    quantized(
        tmp_path / "objects" / ref, tmp_path / "1", "quantize_static", "data: {npz: {path: x}}", (X * 1e-2,), notes=said
    )
    assert "ranges so wide that small values are lost: 'b' (" in said[-1]


# What is refused


@pytest.mark.parametrize(
    ("name", "options", "fact", "hint"),
    [
        ("quantize_dynamic", "nodes_to_exclude: [secnd]", "the graph has no node 'secnd'", "did you mean 'second'?"),
        ("quantize_dynamic", "op_types_to_quantize: [Conv]", "nothing was quantized", "look at its lists of operators and nodes"),
        ("quantize_4bit", "quant_format: QDQ", "take opset 21; the graph is of opset 18",
         "put convert_opset: {target_version: 21} before it, or export it so"),
        ("quantize_static", "activation_type: QInt16, data: {npz: {path: x}}", "take opset 21", "put convert_opset"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_refused(graph, tmp_path, name, options, fact, hint):
    with pytest.raises(StageError) as told:
        quantized(graph, tmp_path / "1", name, options)
    assert fact in told.value.fact
    assert hint in told.value.hint


IN_A_LOOP = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N, 64] x) => (float[N, 64] y) {
    n = Constant<value = int64 {3}>() c = Constant<value = bool {1}>()
    y = Loop(n, c, x) <body = b (int64 i, bool go, float[N, 64] a) => (bool on, float[N, 64] o)
        { on = Identity(go) m = MatMul(a, w) o = Tanh(m) }>
}
"""


def loop() -> onnx.ModelProto:
    made = parser.parse_model(IN_A_LOOP)
    made.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    return made


def halves() -> onnx.ModelProto:
    """As float16 leaves it."""
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 64] x) => (float[N, 64] y)'
        " { h = Cast<to = 10>(x) p = MatMul(h, w) y = Cast<to = 1>(p) }"
    )
    made.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=np.float16), "w"))
    return made


@pytest.mark.parametrize(
    ("made", "name", "options", "fact", "hint"),
    [
        (model, "quantize_dynamic", "op_types_to_quantize: [Matmul]",
         "nothing was quantized: the graph has no Matmul", "did you mean 'MatMul'?"),
        (model, "quantize_4bit", "op_types_to_quantize: [Gather]", "take opset 21", "put convert_opset"),
        (loop, "quantize_dynamic", "", "nothing was quantized: its MatMul are all in branches and loops",
         "use quantize_dynamic: {extra_options: {EnableSubgraph: true}}, which goes there"),
        (loop, "quantize_static", "data: {npz: {path: x}}", "its MatMul are all in branches", "EnableSubgraph: true"),
        (halves, "quantize_dynamic", "", "quantize_dynamic: float16 can't be made integers of here",
         "quantize a graph in float32, and put float16 after it, which leaves in float32 what has to be"),
        (halves, "quantize_static", "data: {npz: {path: x}}", "quantize_static: float16 can't", "put float16 after it"),
    ],
)  # fmt: skip
def test_why_nothing_came_of_it_is_told(tmp_path, made, name, options, fact, hint):
    ref, _ = modelfile.save(made(), None, tmp_path / "objects")
    with pytest.raises(StageError) as told:
        quantized(tmp_path / "objects" / ref, tmp_path / "1", name, options)
    assert fact in told.value.fact
    assert hint in told.value.hint


def test_what_the_remedy_of_a_loop_says_works(tmp_path):
    ref, _ = modelfile.save(loop(), None, tmp_path / "objects")
    made = quantized(
        tmp_path / "objects" / ref, tmp_path / "1", "quantize_dynamic", "extra_options: {EnableSubgraph: true}"
    )
    assert np.abs(ran(made) - np.tanh(np.tanh(np.tanh(X)))).max() < 0.1


@pytest.mark.parametrize("method", ["MinMax", "Entropy", "Percentile"])
def test_data_that_are_not_finite_make_no_range_and_are_named(graph, tmp_path, method):
    ref, _ = modelfile.save(rooted(), None, tmp_path / "objects")
    options = f"data: {{npz: {{path: x}}}}, calibrate_method: {method}"
    for number, (value, path, fact, hint) in enumerate([
        (np.nan, graph, "run 2 of the data has NaN or infinities in input 'x'", "take them out of the data"),
        (-np.inf, graph, "run 2 of the data has NaN or infinities in input 'x'", "take them out of the data"),
        (-1.0, tmp_path / "objects" / ref, "run 2 of the data gives NaN or infinities in ",
         "take that run out of the data, or exclude the nodes: nodes_to_exclude: [y]"),
    ]):  # fmt: skip
        other = np.abs(X) + 1
        other[3, 5] = value
        with pytest.raises(StageError) as told:
            quantized(path, tmp_path / f"{number}", "quantize_static", options, (np.abs(X) + 1, other))
        assert told.value.fact.startswith(f"quantize_static: {fact}")
        assert told.value.fact.endswith("'x'" if path == graph else "'y'")
        assert told.value.hint.startswith(hint)
    made = quantized(
        tmp_path / "objects" / masked(tmp_path), tmp_path / "3", "quantize_static", f"{options}, nodes_to_exclude: [a]"
    )
    assert np.abs(ran(made, np.abs(X)) - np.abs(X)).max() < 0.1


def masked(tmp_path) -> str:
    """A model with a mask of infinities in a node that need not be quantized."""
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 64] x) => (float[N, 64] y)'
        " { f = Constant<value_float = -inf>() a = Add(x, f) m = Max(a, x) y = MatMul(m, w) }"
    )
    made.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    return modelfile.save(made, None, tmp_path / "objects")[0]


def rooted() -> onnx.ModelProto:
    """A model that gives NaN for what is negative."""
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 64] x) => (float[N, 64] y) { r = Sqrt(x) y = MatMul(r, w) }'
    )
    made.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    return made


def test_without_data_there_are_no_ranges(graph, tmp_path):
    with pytest.raises(StageError, match="there is no data to measure ranges on") as told:
        quantized(graph, tmp_path / "1", "quantize_static", "data: {npz: {path: x}}", ())
    assert told.value.hint == "give it data: {npz: {path: …}}"


def test_what_the_memory_does_not_hold_is_refused_before_it_runs(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 50_000)
    with pytest.raises(
        StageError, match=r"quantize_dynamic: it would take about \S+ kB of memory, of which 50.0 kB are free"
    ) as told:
        quantized(graph, tmp_path / "1", "quantize_dynamic")
    assert told.value.hint == "run it on a machine with more memory"


def test_operators_that_the_graph_lacks_are_told(graph, tmp_path):
    said = []
    quantized(graph, tmp_path / "1", "quantize_dynamic", "op_types_to_quantize: [MatMul, LSTM]", notes=said)
    assert said == ["op_types_to_quantize: the graph has no LSTM"]


# Past 2 GiB

PEAK = """
import resource, sys
from pathlib import Path
import onnx, onnxruntime.quantization, msgspec
from onnxbuild.graphs import modelfile
from onnxbuild.passes import PASSES
path, scratch, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
model, folder = PASSES[name].run(path, PASSES[name].Options(), scratch)
onnx.save(model, folder / "whole.onnx")
onnx.checker.check_model(str(folder / "whole.onnx"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "share"), [("quantize_dynamic", 0.26), ("quantize_4bit", 0.16)])
def test_past_2_gib(tmp_path, name, share):
    """The memory that it took is what is asked for beforehand."""
    weights = 2304 << 20
    (tmp_path / "objects").mkdir()
    (tmp_path / "scratch").mkdir()
    with open(tmp_path / "objects/zeros", "wb") as file:
        file.truncate(weights)
    body = "\n".join(f"h{i + 1} = MatMul(h{i}, w{i})" for i in range(9))
    made = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (float[N, 8192] h0) => (float[N, 8192] h9) {{ {body} }}'
    )
    for i in range(9):
        made.graph.initializer.add(name=f"w{i}", data_type=onnx.TensorProto.FLOAT, dims=[8192, 8192])
        tensors.set_external(made.graph.initializer[i], "zeros", i << 28)
    (tmp_path / "objects/graph.onnx").write_bytes(made.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "objects/graph.onnx"), str(tmp_path / "scratch"), name],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    factor = {"quantize_dynamic": PASSES[name].MEMORY, "quantize_4bit": PASSES[name].MEMORY}[name]
    assert int(done.stdout) << 20 < factor * weights
    assert sum(one.stat().st_size for one in (tmp_path / "scratch/out").iterdir()) < share * weights
