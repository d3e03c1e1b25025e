"""The float16 pass: a valid graph in half precision, its losses named, and no overflow that onnxruntime would hide."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from onnxruntime.transformers import float16 as library
from workspace import Workspace

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, tensors
from onnxbuild.passes import Beside, excluding, float16

# Max is on the converter's list of what stays: a value that it makes, and one that two of it take, among others.
MODEL = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N, 64] x) => (float[N, 64] y, float[N, 64] z) <float k = {{{factor}}}> {{
    c = Constant<value_float = 1.0>()
    p = MatMul(x, w)
    r = Relu(p)
    m = Max(r, c)
    e = Sub(m, c)
    [up] q = Mul(e, k)
    [down] s = Div(q, k)
    y = Max(s, c)
    f = Add(e, v)
    z = Sigmoid(f)
}}
"""
RECIPE = """\
version: 1
name: half
model: {onnx: {path: m.onnx}}
export: {dims: {N: {min: 1, max: 3}}}
optimize:
  - float16: {node_block_list: []}
parity: {rtol: 1.0e-2, atol: 1.0e-2, reason: r}
"""


def model(factor: float = 300.0) -> onnx.ModelProto:
    made = parser.parse_model(MODEL.format(factor=factor))
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8
    weight[0, :2] = 1e-9
    offset = np.zeros(64, np.float32)
    offset[3] = -1e6
    made.graph.initializer.extend([numpy_helper.from_array(weight, "w"), numpy_helper.from_array(offset, "v")])
    return made


def kept(made: onnx.ModelProto, tmp_path):
    ref, _ = modelfile.save(made, None, tmp_path / "objects")
    return tmp_path / "objects" / ref


def converted(made, tmp_path, *feeds, **options):
    """The model after the pass, what it said, and where it lies."""
    (tmp_path / "scratch").mkdir()
    beside = Beside(lambda: iter(feeds))
    got, folder = float16.run(kept(made, tmp_path), float16.Options(**options), tmp_path / "scratch", beside)
    ref, _ = modelfile.save(got, folder, tmp_path / "objects")
    path = tmp_path / "objects" / ref
    onnx.checker.check_model(str(path), full_check=True)
    return modelfile.load(path), beside.notes, path


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("half") / "project")
    onnx.save(model(), workspace.root / "m.onnx")
    workspace.write("half.yaml", RECIPE)
    workspace.run("run", "half.yaml")
    return workspace


def test_it_is_half_as_large_keeps_its_interface_and_says_what_it_lost(project):
    report = project.report("half")
    before, after = report["graphs"]
    assert after["dtypes"]["float16"] > 4000
    assert after["bytes"] < 0.6 * before["bytes"]
    assert (after["inputs"], after["outputs"]) == (before["inputs"], before["outputs"])
    (stage,) = [one for one in report["stages"] if one["name"] == "optimize/1-float16"]
    assert stage["facts"]["notes"][:2] == [
        "clamped to ±65504, weights too large for float16: v (1 value, 1e+06)",
        "clamped to ±5.96e-08, weights too small for float16: w (2 values, 1e-09)",
    ]
    assert stage["facts"]["notes"][3].startswith("true half precision (onnx's reference evaluator): all that is finite")


def test_inputs_and_outputs_are_published_in_float16_where_the_recipe_says_so(tmp_path):
    """The casts that the recipe puts around the model are there before the pass, and fall away in it."""
    workspace = Workspace.make(tmp_path / "project")
    onnx.save(model(), workspace.root / "m.onnx")
    steps = {
        "prepend": {
            "x": {"dtype": "float16", "shape": [2, 64], "dynamic_axes": {0: "N"}, "steps": [{"cast": "float32"}]}
        },
        "append": {name: {"dtype": "float32", "shape": [2, 64], "steps": [{"cast": "float16"}]} for name in "yz"},
    }
    workspace.write("half.yaml", RECIPE.replace("node_block_list: []", "keep_io_types: true") + yaml.safe_dump(steps))
    workspace.run("run", "half.yaml")
    made = onnx.load(workspace.root / "build/half/model.onnx")
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    types = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float16)
    whole = onnxruntime.InferenceSession(model().SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = whole.run(None, {"x": x.astype(np.float32)})

    assert types == ["tensor(float16)"] * 3
    assert [node for node in made.graph.node if node.op_type == "Cast" and "x" in node.input] == []
    for got, want in zip(session.run(None, {"x": x}), wanted, strict=True):
        np.testing.assert_allclose(got.astype(np.float32), want, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("[in] a = Cast<to = 1>(x) [n] b = Neg(a) [out] y = Cast<to = 10>(b)", ["Neg"]),
        ("[in] a = Cast<to = 1>(x) [out] y = Cast<to = 10>(a)", ["Cast"]),  # one value can't have two names
        ("[in] a = Cast<to = 1>(x) [two] b = Cast<to = 1>(a) [n] y = Neg(b) [s] z = Add(b, a)",
         ["Neg", "Add", "Cast", "Cast"]),
        ("[in] a = Cast<to = 1>(x) [n] b = Neg(a) [out] y = Cast<to = 10>(b) [o] z = Cast<to = 10>(b)", ["Neg", "Cast"]),
        ("[in] a = Cast<to = 1>(x) [n] b = Neg(a) [whole] c = Cast<to = 7>(b) [back] y = Cast<to = 1>(c)",
         ["Neg", "Cast", "Cast", "Cast"]),
        ("[in] a = Cast<to = 1>(x) [n] b = Max(a, a) [out] y = Cast<to = 10>(b)", ["Cast", "Max", "Cast"]),  # Max stays
    ],
)  # fmt: skip
def test_casts_of_the_models_own_that_are_needless_now_fall_away(tmp_path, nodes, left):
    kinds = {
        name: "float16" if f"{name} = Cast<to = 10>" in nodes else "float" for name in "yz" if f"{name} = " in nodes
    }
    given = ", ".join(f"{kind}[N] {name}" for name, kind in kinds.items())
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g (float16[N] x) => ({given}) {{ {nodes} }}')
    x = np.array([1.5, -2.25, 3], np.float16)
    got, _, path = converted(made, tmp_path, {"x": x})
    wanted = ReferenceEvaluator(made).run(None, {"x": x})

    assert sorted(node.op_type for node in got.graph.node) == sorted(left)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for one, other in zip(session.run(None, {"x": x}), wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_the_same_bytes_in_another_folder(project):
    assert "the same" in project.run("verify", "--rebuild", "half.yaml").text


def test_an_overflow_that_onnxruntime_hides_fails_and_its_remedy_helps(project):
    head = '<ir_version: 8, opset_import: ["": 18]>'
    chain = f"{head} g (float[4] x) => (float[4] y) <float k = {{3e4}}> {{q = Mul(x, k) y = Div(q, k)}}"
    theirs = library.convert_float_to_float16(parser.parse_model(chain))
    feed = {"x": np.full(4, 30, np.float16)}
    (seen,) = onnxruntime.InferenceSession(theirs.SerializeToString()).run(["y"], feed)
    assert np.isfinite(seen).all()
    with np.errstate(over="ignore"):
        assert not np.isfinite(ReferenceEvaluator(theirs).run(["y"], feed)[0]).all()

    elsewhere = project.copy(project.root.parent / "overflow")
    onnx.save(model(60000.0), elsewhere.root / "m.onnx")
    said = elsewhere.run("run", "half.yaml", code=1).text
    assert "float16: more than float16 holds (65504): 'q' reaches" in said
    assert "leave them in float32: node_block_list: [up, down]" in said
    elsewhere.replace("half.yaml", "node_block_list: []", "node_block_list: [up, down]")
    elsewhere.run("run", "half.yaml")
    assert {one.op_type for one in onnx.load(elsewhere.root / "build/half/model.onnx").graph.node} >= {"Mul", "Div"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dwn", "did you mean 'down'?"),
        ("elsewhere", "a node is named by its name or by a value that it makes; onnxbuild view shows them"),
    ],
)
def test_a_listed_node_that_is_not_there_is_refused(tmp_path, name, hint):
    with pytest.raises(StageError, match=f"node_block_list: the graph has no node '{name}'") as told:
        converted(model(), tmp_path, node_block_list=["s", name])
    assert told.value.hint == hint


def test_a_mask_that_was_clamped_leaves_room_where_it_is_asked_to(tmp_path):
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 4] x) => (float[N, 4] y) <float[4] m = {0, 0, -3.4e38, 0}>'
        " { s = Add(x, m) y = Softmax(s) }"
    )
    feed = {"x": np.full((2, 4), -30, np.float32)}
    with pytest.raises(StageError, match=r"'s' reaches 6\.55e\+04") as told:
        converted(made, tmp_path, feed)
    assert told.value.hint == (
        "clamp weights, such as a mask's, to less, and sums with them fit: max_finite_val: 60000; "
        "or leave them in float32: node_block_list: [s, y]"
    )
    (tmp_path / "2").mkdir()
    _, notes, _ = converted(made, tmp_path / "2", feed, max_finite_val=60000.0)
    assert "clamped to ±60000, weights too large for float16: m (1 value, 3.4e+38)" in notes


def test_a_sum_inside_an_operator_that_overflows_fails(tmp_path):
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[N, 32] x) => (float[N] y)'
        " { h = ReduceL2<axes = [1], keepdims = 0>(x) y = Sqrt(h) }"
    )
    with pytest.raises(StageError, match="'h' is not finite in true half precision; in float32 it is") as told:
        converted(made, tmp_path, {"x": np.full((2, 32), 100, np.float32)})
    assert told.value.hint == "leave them in float32: node_block_list: [h, y]"


def test_a_batch_of_0_shows_nothing_where_there_is_another(tmp_path):
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[N, 32] x) => (float[N] y)'
        " { h = ReduceL2<axes = [1], keepdims = 0>(x) y = Sqrt(h) }"
    )
    empty, full = np.zeros((0, 32), np.float32), np.full((2, 32), 100, np.float32)
    for number, feeds in enumerate([(empty, full), (full, empty)]):
        (tmp_path / f"{number}").mkdir()
        with pytest.raises(StageError, match="'h' is not finite in true half precision"):
            converted(made, tmp_path / f"{number}", *({"x": feed} for feed in feeds))
    _, notes, _ = converted(made, tmp_path, {"x": empty})
    assert notes == ["the range of values was not measured: no case could be run, or all are empty"]


BRANCHES = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N, 8] x, bool flag) => (float[N, 8] y) <float[8] w = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{
    h = Mul(x, w)
    y = If(flag) <
        then_branch = t () => (float[N, 8] a) <float[1] s = {{2}}> {{ d = Max(h, s) e = Exp(d) a = Max(e, s) }},
        else_branch = f () => (float[N, 8] b) <float[1] s = {{3}}> {{ {inner} }}
    >
}}
"""


def test_branches_whose_weights_have_one_name_and_casts_in_them(tmp_path):
    made = parser.parse_model(BRANCHES.format(inner="c = Neg(h) b = Mul(c, s)"))
    feeds = [{"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8), "flag": np.array(f)} for f in (True, False)]
    wanted = [onnxruntime.InferenceSession(made.SerializeToString()).run(None, feed)[0] for feed in feeds]
    _, notes, path = converted(made, tmp_path, *feeds)
    session = onnxruntime.InferenceSession(str(path))
    for feed, expected in zip(feeds, wanted, strict=True):
        np.testing.assert_allclose(session.run(None, feed)[0], expected, rtol=5e-3)
    assert "true half precision (onnx's reference evaluator)" in notes[-1]
    assert "values inside branches and loops were not measured" in notes


@pytest.mark.parametrize("lists", [{"node_block_list": ["y"]}, {"op_block_list": ["If"]}])
def test_a_branch_that_is_listed_stays_with_all_that_is_in_it(tmp_path, lists):
    """The node itself computes nothing, and the converter would leave it and convert half of what is in it."""
    made = parser.parse_model(BRANCHES.format(inner="c = Neg(h) b = Mul(c, s)"))
    feed = {"x": np.ones((2, 8), np.float32), "flag": np.array(True)}
    own = {"op_block_list": [], "node_block_list": ["d", "e", "a", "c", "b"]}
    ways = [{"op_block_list": [], **lists}, own]
    graphs = []
    for number, way in enumerate(ways):
        (tmp_path / f"{number}").mkdir()
        graphs.append(converted(made, tmp_path / f"{number}", feed, **way)[0])
    assert graphs[0] == graphs[1]
    (tmp_path / "forced").mkdir()
    converted(
        made, tmp_path / "forced", feed, **ways[1], force_fp16_initializers=True
    )  # weights in branches, cast there
    found = excluding.candidates("float16", float16.Options(op_block_list=[]), made)
    assert found.keys() == {"h", *own["node_block_list"]}


def test_nothing_is_cast_between_two_nodes_that_stay(tmp_path):
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[4] x, float[4] u) => (float[4] y, float[4] z)'
        " { a = Max(x, u) b = Min(a, u) y = Max(b, x) z = Exp(b) }"
    )
    got, _, _ = converted(made, tmp_path, {"x": np.ones(4, np.float32), "u": np.ones(4, np.float32)})
    assert [node.op_type for node in got.graph.node] == ["Max", "Min", "Max", "Cast", "Exp", "Cast"]


# Operators that take no float16 in that opset, and are not on the converter's list; the last one is onnxruntime's own.
ONLY_FLOAT32 = {
    "Celu": "e = Exp(x) c = Celu(e) y = Exp(c)",
    "DynamicQuantizeLinear": ("e = Exp(x) q, s, z = DynamicQuantizeLinear(e) i = Cast<to = 1>(q) y = Mul(i, s)"),
    "QuantizeLinear": (
        "e = Exp(x) s = Constant<value_float = 0.1>() z = Constant<value = int8 {3}>()"
        " q = QuantizeLinear(e, s, z) d = DequantizeLinear(q, s, z) y = Exp(d)"
    ),
    # Its result has a type that onnx does not know, and goes into a node that stays.
    "FusedMatMul": "f = com.microsoft.FusedMatMul(x, x) g = com.microsoft.FusedMatMul(f, f) m = Max(g, x) y = Exp(m)",
    "CDist": 'e = Exp(x) d = com.microsoft.CDist<metric = "euclidean">(e, e) y = Exp(d)',
}


@pytest.mark.parametrize("operator", ONLY_FLOAT32)
def test_what_takes_no_float16_stays_in_float32_whatever_the_list_says(tmp_path, operator):
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float[4, 4] x) => (float[4, 4] y)'
        f" {{ {ONLY_FLOAT32[operator]} }}"
    )
    feed = {"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)}
    (wanted,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feed)
    got, _, path = converted(made, tmp_path, feed, op_block_list=["Max"])
    assert operator in {node.op_type for node in got.graph.node}
    np.testing.assert_allclose(onnxruntime.InferenceSession(str(path)).run(None, feed)[0], wanted, rtol=0.1)


def test_operators_that_are_not_there_are_told_and_functions_refused(tmp_path):
    made = model()
    feed = {"x": np.zeros((1, 64), np.float32)}
    got, notes, _ = converted(made, tmp_path, feed, op_block_list=["Relu", "Softmax"])
    assert "op_block_list: the graph has no Softmax" in notes
    assert [node.op_type for node in got.graph.node if node.op_type == "Cast"] == ["Cast"] * 5
    function = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "own": 1]> g (float[2] x) => (float[2] y) { y = own.f(x) }'
        '<domain: "own", opset_import: ["": 18]> f (x) => (y) { y = Relu(x) }'
    )
    with pytest.raises(StageError, match="functions of its own") as told:
        float16.run(kept(function, tmp_path), float16.Options(), tmp_path)
    assert told.value.hint == "inline them first, with the pass onnxscript: {}"


def test_what_can_not_be_measured_is_told(tmp_path):
    old = parser.parse_model('<ir_version: 4, opset_import: ["": 9]> g (float[2] x) => (float[2] y) { y = Relu(x) }')
    assert "the range of values was not measured: it takes opset 10" in converted(old, tmp_path)[1]
    (tmp_path / "2").mkdir()
    assert (
        "the range of values was not measured: no case could be run, or all are empty"
        in converted(model(), tmp_path / "2")[1]
    )


PEAK = """
import resource, sys
from pathlib import Path
import numpy, onnx, onnxruntime.transformers.float16
from onnxbuild.graphs import modelfile
from onnxbuild.passes import Beside, float16
path, scratch = map(Path, sys.argv[1:])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model, folder = float16.run(path, float16.Options(), scratch)
onnx.save(model, scratch / "model.onnx")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
(scratch / "again").mkdir()
beside = Beside(lambda: iter([{"x": numpy.ones((1, 2304), numpy.float32)}]))
float16.run(path, float16.Options(), scratch / "again", beside)
assert "float16 holds 65504" in beside.notes[0], beside.notes
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


@pytest.mark.heavy
def test_past_2_gib_it_takes_the_memory_of_one_piece_and_that_of_a_session_to_measure(tmp_path):
    (tmp_path / "objects").mkdir()
    (tmp_path / "scratch").mkdir()
    path = tmp_path / "objects/graph.onnx"
    with open(tmp_path / "objects/zeros", "wb") as file:
        file.truncate(2304 << 20)
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 2304] x) => (float[N, 262144] y) { y = MatMul(x, w) }'
    )
    made.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2304, 1 << 18])
    tensors.set_external(made.graph.initializer[0], "zeros")
    path.write_bytes(made.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(tmp_path / "scratch")], capture_output=True, text=True, check=True
    )
    converting, measuring = map(int, done.stdout.split())
    assert converting < 200 << 10  # KiB
    assert measuring < float16.MEMORY * (2304 << 20)
    onnx.checker.check_model(str(tmp_path / "scratch/model.onnx"))
    assert sum(one.stat().st_size for one in (tmp_path / "scratch").iterdir()) < 1160 << 20
