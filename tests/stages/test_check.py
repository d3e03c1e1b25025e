from __future__ import annotations

from hashlib import sha256

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, weights
from onnxbuild.stages import check

CONTRACT = {
    "inputs": {"x": {"dtype": "float32", "shape": [2, 3]}},
    "outputs": ["y"],
    "dynamic_axes": {"x": {"0": "batch"}, "y": {"0": "batch"}},
    "opset": 18,
    "exporter": "dynamo",
}


def model(signature="(float[batch, 3] x) => (float[batch, 3] y)", body="y = Relu(x)", *, opset=18, ir=10, more=""):
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "com.microsoft.nchwc": 1, "local": 1]>'
    return parser.parse_model(f"{header} g {signature} {{ {body} }} {more}")


@pytest.fixture
def run(tmp_path):
    def run(model, **contract):
        if isinstance(model, str):
            path = tmp_path / model
        else:
            path = tmp_path / "graph.onnx"
            onnx.save(model, path)
        return check.run(Task("check/export", "check", CONTRACT | contract, {"graph": str(path)}, "", "", "")).facts

    return run


@pytest.fixture
def problems(run):
    def problems(model, **contract):
        with pytest.raises(StageError) as caught:
            run(model, **contract)
        return caught.value.fact.splitlines()

    return problems


def test_facts(run):
    facts = run(model())
    assert facts == {
        "opset_imports": {"": 18, "com.microsoft.nchwc": 1, "local": 1},
        "ir_version": 10,
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
        "nodes": 1,
        "ops": {"Relu": 1},
        "parameters": 0,
        "dtypes": {},
        "bytes": facts["bytes"],
        "graph_sha256": facts["graph_sha256"],  # see tests/graphs/test_weights.py
        "weights_sha256": sha256().hexdigest(),
        "notes": [],
    }


def test_a_declared_dynamic_axis_that_is_static(problems):
    assert problems(model("(float[2, 3] x) => (float[2, 3] y)")) == [
        "input 'x', axis 0 (batch) is static 2",
        "output 'y', axis 0 (batch) is static 2",
    ]


def test_a_declared_output_axis_that_the_nodes_fix_though_the_graph_names_it(problems):
    body = "shape = Constant <value = int64[2] {2, 3}> ()\n y = Reshape (x, shape)"
    wrong = "output 'y', axis 0 (batch) is static 2"
    assert problems(model(body=body)) == [wrong]
    named = body.replace("y = ", "[flat] a = ") + "\n y = Relu (a)"
    assert problems(model(body=named)) == [wrong, "    batch ends at node 'flat'"]  # the engine adds its line


def test_an_undeclared_dynamic_axis(problems):
    found = problems(model("(float[batch, width] x) => (float[batch, width] y)"), dynamic_axes=CONTRACT["dynamic_axes"])
    assert found == ["input 'x', axis 1 is dynamic ('width'); the recipe says static 3"]
    axes = {"x": {"0": "batch"}}
    assert problems(model(), dynamic_axes=axes) == [
        "output 'y', axis 0 is dynamic (batch), which export.dynamic_axes does not say"
    ]


def test_an_expression_of_a_declared_dimension_is_dynamic_too(problems):
    made = model("(float[batch, 3] x) => (float[N, 3] y)", "y = Concat <axis = 0> (x, x)")
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "2*batch"
    assert problems(made, dynamic_axes={"x": {"0": "batch"}}) == [
        "output 'y', axis 0 is dynamic (2*batch), which export.dynamic_axes does not say"
    ]


def test_an_unnamed_output_axis_is_inferred_or_noted(run):
    fixed = model("(float[batch, 3] x) => (float[batch, unknown] y)")
    assert run(fixed)["notes"] == []  # Relu keeps the 3
    open_ = model("(float[batch, 3] x) => (float[batch, unknown] y)", "y = Compress <axis = 1> (x, c)")
    open_.graph.initializer.append(numpy_helper.from_array(np.array([True, False, True]), "c"))
    assert run(open_)["notes"] == ["output 'y', axis 1 has no fixed size in the graph; parity checks it in every case"]


def test_another_name_for_a_dimension_is_noted(run):
    notes = run(model("(float[s0, 3] x) => (float[s0, 3] y)"))["notes"]
    assert notes == ["input 'x', axis 0 (batch) is called 's0' in the graph"]


def test_sizes_dtypes_and_ranks_that_differ(problems):
    two = "(float[batch, 4] x, int32[batch] n) => (float[batch, 4] y, int32[batch] m)"
    found = problems(
        model(two, "y = Relu(x)\n m = Identity(n)"),
        inputs=CONTRACT["inputs"] | {"n": {"dtype": "int64", "shape": [2, 1]}},
        outputs=["y", "m"],
        dynamic_axes={"x": {"0": "batch"}, "y": {"0": "batch"}, "n": {"0": "batch"}, "m": {"0": "batch", "3": "batch"}},
    )
    assert found == [
        "input 'x', axis 1 is static 4; the recipe says 3",
        "input 'n' is int32; the recipe says int64",
        "input 'n' has rank 1; the recipe's shape [2, 1] has rank 2",
        "output 'm' has rank 1, so there is no axis 3 (batch)",
    ]


def test_names_and_their_order(problems):
    two = "(float[batch, 3] x) => (float[batch, 3] y, float[batch, 3] z)"
    made = model(two, "y = Relu(x)\n z = Relu(y)")
    axes = {name: {"0": "batch"} for name in "xyz"}
    assert problems(made, outputs=["z", "y"], dynamic_axes=axes) == [
        "outputs are in the order y, z; the recipe says z, y"
    ]
    inputs = CONTRACT["inputs"] | {"mask": {"dtype": "bool", "shape": [2]}}
    assert problems(made, inputs=inputs, dynamic_axes=axes) == [
        "input 'mask' is not in the graph",
        "the graph has an output 'z' that export.outputs does not name",
    ]


def test_an_opset_that_changed(problems):
    assert problems(model(opset=17)) == ["the graph is of opset 17; the recipe says 18"]


def test_versions_that_onnxruntime_can_not_read():
    ((one, _, _),) = check.runtime_problems(model(opset=999))
    assert one.startswith("onnxruntime ")
    assert "can't read opset 999: " in one
    assert "/onnxruntime_src" not in one
    ((one, _, _),) = check.runtime_problems(model(ir=999))
    assert "can't read IR version 999: " in one
    assert check.runtime_problems(model()) == []


def test_what_the_checker_finds_comes_with_the_rest(problems):
    found = problems(model(body="y = Relu(nothing)"), opset=17)
    assert found[0].startswith("onnx.checker: ")
    assert "nothing" in found[0]
    assert found[-1] == "the graph is of opset 18; the recipe says 17"


def test_nodes_are_counted_in_subgraphs_and_functions(run):
    body = """
        c = Constant <value = bool {1}> ()
        t = local.Twice (x)
        u = local.Twice (t)
        y = If (c) <
            then_branch = g1 () => (float[batch, 3] a) { a = Relu(u) },
            else_branch = g2 () => (float[batch, 3] b) { d = Neg(u)\n b = Relu(d) }
        >
    """
    function = '<domain: "local", opset_import: ["" : 18]> Twice (x) => (y) { y = Add(x, x) }'
    facts = run(model(body=body, more=function))
    assert facts["ops"] == {"Relu": 2, "local::Twice": 2, "Add": 1, "Constant": 1, "If": 1, "Neg": 1}
    assert facts["nodes"] == 8


def test_parameters_and_bytes_count_tensors_in_the_store(run, tmp_path):
    made = model(body="t = Add(x, w)\n u = Add(t, v)\n y = Add(u, b)")
    weight = np.arange(3000, dtype=np.float32).reshape(1000, 3)[:1].repeat(1, 0)
    big = np.arange(3, dtype=np.float32).reshape(1, 3)
    made.graph.initializer.extend(
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(big, "v"), numpy_helper.from_array(big, "b")]
    )
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), "spare"))
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), "spare2"))
    ref, _ = modelfile.save(made, None, tmp_path)
    facts = run(ref)
    assert facts["parameters"] == 9 + 2000
    assert facts["bytes"] == (tmp_path / ref).stat().st_size + 4000  # the two spares are one object


LEARNED = """\
from torch import nn


class Plain(nn.Module):
    def forward(self, x):
        y = nn.functional.interpolate(x.reshape(-1, 1, 4, 4), scale_factor=(2.0, 3.0)) * 0.5
        return y.transpose(1, 2).reshape(-1, 12, 8)[:, 1:3]


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 6, (2, 3)), nn.LayerNorm(8), nn.Linear(8, 5, bias=False)
        self.plain = Plain()

    def forward(self, x):
        return self.conv(self.out(self.norm(self.plain(x)))[:, None])
"""


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(("factory", "count"), [("Plain", 0), ("Learned", 6 * 6 + 6 + 8 + 8 + 5 * 8)])
def test_parameters_are_those_that_torch_counts(run, torch_model, tmp_path, exporter, factory, count):
    """Of shapes, slices, scales and numbers in the model's code there are many in these graphs."""
    (tmp_path / "learned.py").write_text(LEARNED)
    inputs = {"x": {"dtype": "float32", "shape": [2, 4, 4]}}
    made = torch_model(f"learned:{factory}", inputs, ["y"], exporter=exporter, root=tmp_path)
    exported = made.export()
    import learned

    assert sum(parameter.numel() for parameter in getattr(learned, factory)().parameters()) == count
    graph = modelfile.structure(made.path(exported))
    assert sum(weights.counted(graph).values()) == count


@pytest.mark.parametrize(
    ("tensor", "count"),
    [
        ("float[2, 3] w = {1, 2, 3, 4, 5, 6}", 6),
        ("float16[3] w = {1, 2, 3}", 3),
        ("bfloat16[3] w = {1, 2, 3}", 3),
        ("double[3] w = {1, 2, 3}", 3),
        ("int8[2, 2] w = {1, 2, 3, 4}", 4),  # a quantised weight
        ("uint8[2] w = {1, 2}", 0),  # its zero points
        ("int64[2, 2] w = {1, 2, 3, 4}", 0),
        ("int32[2] w = {1, 2}", 0),
        ("bool[2, 2] w = {1, 0, 1, 0}", 0),
        ("float w = {1}", 0),
    ],
)
def test_what_is_a_parameter(tensor, count):
    text = tensor.rpartition(" w =")
    constant = f"w = Constant <value = {text[0]} {text[2].strip()}> ()\n i = Identity(w)\n y = Relu(x)"
    assert sum(weights.counted(model(body=constant)).values()) == count
    held = model(
        signature=f"(float[batch, 3] x) => (float[batch, 3] y) <{tensor}>", body="i = Identity(w)\n y = Relu(x)"
    )
    assert sum(weights.counted(held).values()) == count


def test_nodes_bound_to_hardware_are_noted(run):
    made = model(body="t = com.microsoft.nchwc.ReorderInput(x)\n y = Relu(x)")
    assert run(made)["notes"] == ["bound to hardware like this machine's: com.microsoft.nchwc::ReorderInput"]
