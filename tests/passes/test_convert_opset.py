"""The convert_opset pass: another opset, the same results, and what ONNX's converter gets wrong is refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser, version_converter

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile, opsets, tensors
from onnxbuild.passes import convert_opset

OPSETS = [17, 18, 21, 23]


def to(version):
    return convert_opset.Options(target_version=version)


def run(model, **feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def graph(body, signature="(float[2, 3, 4] x) => (float[2, 3, 4] y)", opset=12, domains="", functions=""):
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}{domains}]> g {signature} {{ {body} }} {functions}'
    )


def apart(model):
    """Where the large tensors lie."""
    return {tensors.location(one) for one in tensors.large_candidates(model) if tensors.is_external(one)}


@pytest.mark.parametrize("version", OPSETS)
def test_up_and_down_the_results_stay_and_the_weights_lie_where_they_were(convolution, tmp_path, version):
    path = convolution.after(convert_opset, to(version), tmp_path / "scratch")
    before, after = modelfile.structure(convolution.path), modelfile.structure(path)
    convolution.assert_same_outputs(path)
    onnx.checker.check_model(str(path), full_check=True)
    assert interface.opset(after) == version
    assert interface.signature(after) == interface.signature(before)
    assert apart(after) == apart(before) != set()


# Most of what a network is made of got more types in 13 to 16, and ONNX's converter has no step back for it.
NETWORK = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 4, 8, 8] x, bool flag) => (float[N, 16, 16] y)
<float[4] s = {1.0, 2.0, 3.0, 4.0}, float[4] m = {0.1, 0.2, 0.3, 0.4}, int64[1] one = {1}, float up = {6.0}> {
    b = BatchNormalization(x, s, m, m, s)
    r = Relu(b)
    a = Add(r, x)
    c = Clip(a, , up)
    p = Pow(c, c)
    n = Shape(p)
    first = Gather(n, zero)
    new = Concat<axis = 0>(first, size)
    v = Reshape<allowzero = 0>(p, new)
    t = Transpose<perm = [0, 2, 1]>(v)
    q = MatMul(v, t)
    w = If(flag) <then_branch = g1 () => (float[N, 16, 16] o) { o = Mul(q, q) },
                  else_branch = g2 () => (float[N, 16, 16] k) { k = Neg(q) }>
    h = Tanh(w)
    i = CumSum(h, axis)
    y = Identity(i)
}
"""


@pytest.mark.parametrize("version", [13, 11])
def test_down_past_the_opsets_that_added_types_alone(version):
    model = parser.parse_model(NETWORK)
    model.graph.initializer.extend([
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([16, 16]), "size"),
        numpy_helper.from_array(np.array(1), "axis"),
    ])  # fmt: skip
    got = opsets.convert(model, version)
    onnx.checker.check_model(got, full_check=True)
    assert {(entry.domain, entry.version) for entry in got.opset_import} == {("", version)}
    assert [node.op_type for node in got.graph.node] == [node.op_type for node in model.graph.node]
    assert [value.name for value in got.graph.value_info] == []
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    for flag in (True, False):
        np.testing.assert_array_equal(*(run(one, x=x, flag=np.array(flag))[0] for one in (model, got)))


def test_branches_with_weights_of_their_own(branches, tmp_path):
    path = branches.after(convert_opset, to(21), tmp_path / "scratch")
    branches.assert_same_outputs(path)
    assert interface.opset(modelfile.structure(path)) == 21


def test_the_same_bytes_twice(convolution, tmp_path):
    one, two = (convolution.after(convert_opset, to(21), tmp_path / name) for name in "ab")
    assert one == two


def test_attributes_that_became_inputs_in_a_branch_too():
    body = """
        s = Squeeze<axes = [0]>(x)
        y = If(c) <then_branch = t() => (float[1, 4] a) { a = Unsqueeze<axes = [0]>(s) },
                   else_branch = e() => (float[1, 4] b) { z = Neg(s) b = Unsqueeze<axes = [0]>(z) }>
    """
    model = graph(body, "(float[1, 4] x, bool c) => (float[1, 4] y)")
    made = opsets.convert(model, 18)
    x = np.ones((1, 4), np.float32)
    for flag in (True, False):
        assert (run(made, x=x, c=np.array(flag))[0] == run(model, x=x, c=np.array(flag))[0]).all()


def test_other_domains_functions_and_what_an_author_wrote_are_left_as_they_are():
    functions = '<domain: "own", opset_import: ["": 12]> f (x) => (y) { y = Relu(x) }'
    body = "a = own.f(x)\n s = ai.onnx.ml.Scaler<offset = [1.0], scale = [2.0]>(a)\n y = Softmax<axis = -1>(s)"
    model = graph(body, opset=12, domains=', "own": 1, "ai.onnx.ml": 1', functions=functions)
    helper.set_model_props(model, {"owner": "them"})
    made = opsets.convert(model, 21)
    assert {one.domain: one.version for one in made.opset_import} == {"": 21, "own": 1, "ai.onnx.ml": 1}
    assert [one.name for one in made.functions] == ["f"]
    assert made.functions[0].opset_import[0].version == 21
    assert made.metadata_props[0].value == "them"
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(made, x=x)[0], run(model, x=x)[0], rtol=1e-6)


# What ONNX's own converter gives without a word, though it computes something else.
SCALED = "(float[1, 1, 4, 4] x, float[4] s) => (float[1, 1, 6, 6] y)"
WRONG = {
    "Resize": (graph('y = Resize<mode = "linear">(x, s)', SCALED, 10), 11),
    "Upsample": (graph('y = Upsample<mode = "linear">(x, s)', SCALED, 9), 11),
    "Hardmax": (graph("y = Hardmax<axis = 1>(x)"), 13),
    "Softmax": (graph("y = Softmax<axis = 1>(x)", opset=13), 12),
    "LogSoftmax": (graph("y = LogSoftmax<axis = 0>(x)", opset=13), 12),
}


@pytest.mark.parametrize("operator", WRONG)
def test_what_onnxs_converter_gets_wrong_is_refused_by_name(operator):
    model, target = WRONG[operator]
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    if len(model.graph.input) > 1:
        feeds["s"] = np.array([1, 1, 1.5, 1.5], np.float32)
    theirs = version_converter.convert_version(model, target)
    assert not np.allclose(run(theirs, **feeds)[0], run(model, **feeds)[0], atol=1e-3), (
        "onnx has mended it: take it out"
    )

    with pytest.raises(StageError, match=f"^{operator} means something else from opset") as told:
        opsets.convert(model, target)
    assert told.value.hint == "export it in an opset from which it need not be converted"


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", ["<axis = -1>", "<axis = 2>", ""])
def test_along_the_last_axis_they_mean_the_same(operator, axis):
    model = graph(f"y = {operator}{axis}(x)", opset=13)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(opsets.convert(model, 12), x=x)[0], run(model, x=x)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "target", "fact", "hint"),
    [
        (graph("y = Gelu(x)", opset=20), 18, "Gelu is not in opset 18", "export it in an opset from which"),
        (
            graph(
                'y = GridSample<mode = "linear">(x, q)',
                "(float[1, 1, 3, 3] x, float[1, 2, 2, 2] q) => (float[1, 1, 2, 2] y)",
                20,
            ),
            19,
            "ONNX's converter can't bring GridSample from opset 20 to 19",
            "export it in an opset from which",
        ),
        (
            graph(
                "y = own.f(x)",
                domains=', "own": 1',
                functions='<domain: "own", opset_import: ["": 12]> f (x) => (y) { y = Softmax<axis = -1>(x) }',
            ),
            13,
            "the function own::f holds Softmax, which opset 13 reads otherwise",
            "inline it first, with the pass onnxscript: {}",
        ),
        (
            graph(
                "y = own.loop(x) <body = b(float[2, 3, 4] i) => (float[2, 3, 4] o) { o = Softmax(i) }>",
                domains=', "own": 1',
            ),
            13,
            "a subgraph of own::loop holds Softmax, which opset 13 reads otherwise",
            "export it in an opset from which",
        ),
        (
            graph("y = ai.onnx.ml.Scaler<offset = [1.0], scale = [2.0]>(x)", domains=', "ai.onnx.ml": 1'),
            13,
            None,
            "",
        ),
    ],
)
def test_what_can_not_be_converted_is_refused_by_name(model, target, fact, hint):
    if fact is None:  # nothing of the default domain changes
        assert interface.opset(opsets.convert(model, target)) == target
        return
    with pytest.raises(StageError) as told:
        opsets.convert(model, target)
    assert fact in told.value.fact
    assert hint in told.value.hint


def test_a_graph_of_another_domain_alone_has_nothing_to_convert(tmp_path):
    model = graph("y = ai.onnx.ml.Scaler<offset = [1.0], scale = [2.0]>(x)", domains=', "ai.onnx.ml": 1')
    del model.opset_import[0]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(StageError, match="convert_opset: the graph has no default operator set to convert"):
        convert_opset.run(tmp_path / "m.onnx", to(13), tmp_path)


RECIPE = """\
version: 1
name: m
model: {onnx: {path: m.onnx}}
export: {}
optimize:
  - onnxsim: {}
  - convert_opset: {target_version: 21}
  - onnxoptimizer: [eliminate_identity]
"""


def test_the_graphs_after_it_are_checked_by_the_new_opset(workspace):
    onnx.save(graph("a = Identity(x)\n y = Softmax<axis = 1>(a)"), workspace.root / "m.onnx")
    workspace.write("m.yaml", RECIPE)
    workspace.run("run", "m.yaml")
    imports = {one["stage"]: one["opset_imports"] for one in workspace.report("m")["graphs"]}
    assert {stage: found[""] for stage, found in imports.items()} == {
        "export": 12,
        "optimize/1-onnxsim": 12,
        "optimize/2-convert_opset": 21,
        "optimize/3-onnxoptimizer": 21,
    }
    assert interface.opset(onnx.load(workspace.root / "build/m/model.onnx")) == 21
