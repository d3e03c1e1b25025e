"""Files as other tools write them, through the front door: what is right is built, what can't be is told in a sentence."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

RECIPE = """\
version: 1
name: m
model: {{onnx: {{path: m.onnx}}}}
export:
  opset: {opset}
  inputs: {inputs}
  outputs: {outputs}
  dynamic_axes: {axes}
  dims: {dims}
"""


@pytest.fixture
def build(workspace):
    def build(model, *more, code=0, opset=17, **changes):
        """Build a model, text or a message, by a recipe for x [2, 3] to y unless `changes` say otherwise."""
        model = parser.parse_model(model) if isinstance(model, str) else model
        onnx.save(model, workspace.root / "m.onnx")
        parts = {"inputs": "{x: {dtype: float32, shape: [2, 3]}}", "outputs": "[y]", "dims": "{N: {max: 4}}"}
        parts |= {"axes": "{x: {0: N}, y: {0: N}}", "opset": opset}
        workspace.write("m.yaml", RECIPE.format(**{**parts, **changes}) + "".join(more))
        return workspace.run("run", "m.yaml", code=code)

    return build


def text(body, signature="(float[N, 3] x) => (float[N, 3] y)", opset=17, ir=8, domains=""):
    return f'<ir_version: {ir}, opset_import: ["" : {opset}{domains}]> g {signature} {{ {body} }}'


TREES = helper.make_node(
    "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
    nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_values=[0.1, 0.0, 0.0],
    nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
    target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[-1.5, 2.5],
)  # fmt: skip


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def message(nodes, inputs, outputs, *, domain="", opset=17, **more):
    imports = [helper.make_opsetid(domain, opset)]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, **more), opset_imports=imports, ir_version=8
    )


def test_no_default_opset(build, workspace):
    build(message([TREES], [value("x", ["N", 3])], [value("y", ["N", 1])], domain="ai.onnx.ml", opset=3))
    assert {row["status"] for row in workspace.report("m")["parity"]} == {"passed"}


@pytest.mark.parametrize("of_nodes", ["", "ai.onnx"])
def test_the_default_domain_spelled_out(build, workspace, of_nodes):
    model = parser.parse_model(text("y = Relu(x)"))
    model.opset_import[0].domain, model.graph.node[0].domain = "ai.onnx", of_nodes
    build(model, "optimize: [{onnxsim: {}}]\n")
    assert onnx.load(workspace.root / "build/m/model.onnx").opset_import[0].domain == "ai.onnx"


@pytest.mark.parametrize("opset", [1, 4, 6])
def test_old_opsets(build, opset):
    build(text("y = Identity(x)", opset=opset, ir=3), opset=opset)


def test_dimensions_below_zero(build, workspace):
    model = message([helper.make_node("Relu", ["x"], ["y"])], [value("x", [-1, 3])], [value("y", [-1, 3])])
    build(model, "optimize: [{onnxsim: {}}]\n")
    assert workspace.report("m")["graphs"][0]["outputs"][0]["shape"] == [None, 3]


def test_an_output_that_is_an_input_or_an_initializer(build, workspace):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    model = parser.parse_model(text("y = Relu(x)"))
    model.graph.output.extend([value("x", ["N", 3]), value("w", [2])])
    model.graph.initializer.append(weight)
    build(model, outputs="[y, x, w]")
    names = [one.name for one in onnx.load(workspace.root / "build/m/model.onnx").graph.output]
    assert names == ["y", "x", "w"]


def test_a_graph_without_nodes(build):
    build(message([], [value("x", ["N", 3])], [value("x", ["N", 3])]), outputs="[x]", axes="{x: {0: N}}")


def test_initializers_listed_as_inputs(build):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    inputs = [value("x", ["N", 3]), value("w", [3])]
    model = message([helper.make_node("Mul", ["x", "w"], ["y"])], inputs, [value("y", ["N", 3])], initializer=[weight])
    build(model)
    ran = build(model, code=1, inputs="{x: {dtype: float32, shape: [2, 3]}, w: {dtype: float32, shape: [3]}}")
    assert "hint: w has a value in the file, an initializer: take it out of export.inputs" in ran.err


def test_scalars_and_empty_inputs(build):
    model = text(
        "y = Add(x, s)\n z = Identity(e)", "(float[N, 3] x, float s, float[0] e) => (float[N, 3] y, float[0] z)"
    )
    inputs = "{x: {dtype: float32, shape: [2, 3]}, s: {dtype: float32, shape: []}, e: {dtype: float32, shape: [0]}}"
    build(model, inputs=inputs, outputs="[y, z]")


def test_a_model_without_inputs(build, workspace):
    model = text("y = Constant <value = float[2] {1.0, 2.0}> ()", "() => (float[2] y)")
    build(model, inputs="{}", axes="{}", dims="{}")
    assert workspace.report("m")["graphs"][0]["inputs"] == []


WORDS = message(
    [helper.make_node("StringConcat", ["s", "s"], ["y"])],
    [value("s", ["N"], TensorProto.STRING)],
    [value("y", ["N"], TensorProto.STRING)],
    opset=20,
)


@pytest.mark.parametrize("data", ["", "constant: déjà vu", "values: [a, bc, ß]", "npz: {path: words.npz}"])
def test_strings(build, workspace, data):
    np.savez(workspace.root / "words.npz", s=np.array(["one", "two", "three"]))
    described = f"{{s: {{dtype: string, shape: [2]{f', data: {{{data}}}' if data else ''}}}}}"
    build(WORDS, opset=20, inputs=described, axes="{s: {0: N}, y: {0: N}}")
    assert {row["status"] for row in workspace.report("m")["parity"]} == {"passed"}
    assert workspace.run("plan", "--check", "m.yaml").code == 0


def test_an_input_without_elements_gets_no_case_of_its_own(build, workspace):
    """The case would be the first one over again, and a single number that comes out twice looks like a constant."""
    np.savez(workspace.root / "real.npz", x=np.arange(6, dtype=np.float32).reshape(2, 3))
    inputs = "{x: {dtype: float32, shape: [2, 3], data: {npz: {path: real.npz}}}, axes: {dtype: int64, shape: [0]}}"
    model = text("y = ReduceSum <keepdims = 0> (x, axes)", "(float[2, 3] x, int64[0] axes) => (float y)")
    build(model, inputs=inputs, axes="{}", dims="{}")
    assert [case["name"] for case in workspace.report("m")["stages"][0]["facts"]["cases"]] == ["example"]


def test_data_that_strings_and_numbers_can_not_have(build):
    ran = build(
        WORDS, opset=20, inputs="{s: {dtype: string, shape: [2], data: {integers: {}}}}", axes="{s: {0: N}}", code=2
    )
    assert "'integers' makes numbers\n    hint: strings are given as constant, values or npz" in ran.err
    ran = build(
        WORDS, opset=20, inputs="{s: {dtype: string, shape: [2], data: {constant: 1}}}", axes="{s: {0: N}}", code=2
    )
    assert '1 is not a value of string\n    hint: write it in quotes: "1"' in ran.err
    ran = build(
        WORDS, inputs="{s: {dtype: int8, shape: [2], data: {values: [1, b, 300]}}}", axes="{}", dims="{}", code=2
    )
    assert "'b' is not a value of int8" in ran.err
    assert "300 is not a value of int8" in ran.err


def sequence():
    made = parser.parse_model(text("y = Relu(x)\n s = SequenceConstruct(x, y)"))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    made.graph.output.append(helper.make_value_info("s", kind))
    return made


def test_an_output_that_is_no_tensor_is_told_in_a_sentence_or_left_out(build, workspace):
    ran = build(sequence(), outputs="[y, s]", code=1)
    assert ran.err.startswith(
        "\n✗ reference failed\n  m.onnx: output 's' is a sequence of float32 tensors; only tensors can be built\n"
        "    hint: convert the model so that it has tensors there, or leave it out of export.outputs\n"
    )
    build(sequence())
    assert [one.name for one in onnx.load(workspace.root / "build/m/model.onnx").graph.output] == ["y"]
    (export,) = (stage for stage in workspace.report("m")["stages"] if stage["name"] == "export")
    assert export["notes"] == ["output 's' is no tensor that can be built, and not declared: it is left out"]


def test_maps_name_the_converters_option(build):
    model = message(
        [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])],
        [value("x", ["N", 3])],
        [],
        domain="ai.onnx.ml",
        opset=1,
    )
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, element))
    model.graph.output.append(helper.make_value_info("y", kind))
    ran = build(model, code=1)
    assert "output 'y' is a sequence of maps from int64 to float32 tensor; only tensors can be built" in ran.err
    assert 'hint: convert the model with options={"zipmap": False}' in ran.err


@pytest.mark.parametrize(
    ("signature", "body", "fact"),
    [
        (
            "(float[N, 3] x) => (int4[N, 3] y)",
            "y = Cast <to = 22> (x)",
            "output 'y' is a tensor of int4, a type that no recipe can say",
        ),
        ("(seq(float[N]) x) => (float[N] y)", "y = ConcatFromSequence <axis = 0> (x)", "input 'x' is a sequence of"),
        (
            "(complex64[N, 3] x) => (complex64[N, 3] y)",
            "y = Identity(x)",
            "input 'x' is a tensor of complex64, a type that no recipe can say",
        ),
        ("(float[N, 3] x) => (optional(float[N, 3]) y)", "y = Optional(x)", "output 'y' is a optional float32 tensor"),
    ],
)
def test_types_that_no_recipe_can_say_are_told_once(build, signature, body, fact):
    ran = build(text(body, signature, opset=21, ir=10), opset=21, code=1)
    assert ran.err.count(fact) == 1
    assert "hint: " in ran.err


def test_an_axis_that_the_file_leaves_open_need_not_be_declared(build, workspace):
    model = message([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["N", 3])], [value("y", [None, 3])])
    build(model, axes="{x: {0: N}}")
    notes = workspace.report("m")["stages"][0]["notes"]
    assert any("output 'y', axis 0 is not declared dynamic and has several sizes" in note for note in notes)


def test_an_unsorted_file_is_told_what_sorts_it(build):
    model = parser.parse_model(text("a = Neg(x)\n y = Relu(a)"))
    model.graph.node.insert(0, model.graph.node.pop())
    ran = build(model, code=1)
    assert "hint: sort them: model = onnx_ir.load(path); model.graph.sort(); onnx_ir.save(model, path)" in ran.err


def test_a_dynamic_axis_declared_static_is_told_how(build):
    ran = build(text("y = Relu(x)", "(float[N, M] x) => (float[N, M] y)"), code=1)
    assert "axis 1 is dynamic ('M'); the recipe says static 3" in ran.err
    assert "give its dimension that one in export.dims, as in {min: 48, max: 48}" in ran.err
    build(
        text("y = Relu(x)", "(float[N, M] x) => (float[N, M] y)"),
        axes="{x: {0: N, 1: M}, y: {0: N, 1: M}}",
        dims="{N: {max: 4}, M: {min: 3, max: 3}}",
    )


def test_onnxs_own_definition_of_an_operator_is_no_fault_of_the_file(build, workspace):
    build(text("y = MeanVarianceNormalization <axes = [1]> (x)", opset=9, ir=4), opset=9)


def plugin():
    return text("a = Relu(x)\n b = TRT.EfficientNMS_TRT(a)\n y = Relu(b)", domains=', "TRT" : 1')


def test_operators_that_this_machine_lacks(build, workspace):
    ran = build(plugin(), code=1)
    assert "onnxruntime has no implementation of TRT::EfficientNMS_TRT" in ran.err
    assert "add TRT::EfficientNMS_TRT to parity.allow_not_run to build unchecked" in ran.err

    ran = build(plugin(), 'parity: {allow_not_run: ["TRT::EfficientNMS_TRT"]}\n')
    report = workspace.report("m")
    assert {row["status"] for row in report["parity"]} == {"not run"}
    assert report["stages"][0]["facts"]["not_run"] == "onnxruntime has no implementation of TRT::EfficientNMS_TRT"
    assert (workspace.root / "build/m/model.onnx").exists()
    assert "not run" in ran.out


def authored():
    model = parser.parse_model(text("a = Identity(x)\n y = Relu(a)"))
    props = {
        "namespace": "prod",
        "pkg.version": "1.2",
        "license": "see /usr/share/common-licenses/GPL-3",
        "stride": "32",
    }
    helper.set_model_props(model, props)
    model.doc_string, model.graph.doc_string, model.graph.input[0].doc_string = "(c)", "head", "RGB"
    model.domain, model.model_version = "com.acme", 7
    return model, props


@pytest.mark.parametrize(
    "one", ["onnxsim: {}", "onnxoptimizer: [eliminate_identity]", "onnxscript: {}", "onnxruntime: {}"]
)
def test_what_a_file_holds_is_kept_or_its_loss_is_told(build, workspace, one):
    model, props = authored()
    build(model, f"optimize: [{{{one}}}]\n")
    made = onnx.load(workspace.root / "build/m/model.onnx")
    notes = {stage["name"]: stage["notes"] for stage in workspace.report("m")["stages"]}
    assert notes["export"] == []
    (told,) = (" ".join(notes[name]) for name in notes if name.startswith("optimize/"))
    if "dropped metadata" not in told:
        own = {entry.key: entry.value for entry in made.metadata_props if not entry.key.startswith("onnxbuild.")}
        assert own == props
    kept = {"(c)": made.doc_string, "head": made.graph.doc_string, "RGB": made.graph.input[0].doc_string}
    lost = [written for written, found in kept.items() if written != found]
    assert all("doc string" in told for _ in lost), (lost, told)
    assert made.ir_version == model.ir_version or "changed the IR version" in told
    assert (made.domain, made.model_version) == ("com.acme", 7) or "model's domain" in told


def test_a_pass_that_makes_the_file_larger_says_so(build, workspace):
    """onnxsim writes tied weights twice."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [300, 3], np.ones(900, np.float32).tobytes(), raw=True)
    body = "t = Transpose <perm = [1, 0]> (w)\n a = MatMul(x, t)\n y = MatMul(a, w)"
    model = parser.parse_model(text(body))
    model.graph.initializer.append(weight)
    ran = build(model, "optimize: [{onnxsim: {}}]\n")
    assert "optimize/1-onnxsim: made the model larger: 3." in ran.text.replace("\n", " ")


def test_a_file_that_says_another_size_than_its_output_has(build):
    """onnx's checker takes it: it knows nothing of what the operators of another domain give."""
    model = parser.parse_model(
        text("s = Shape(x)\n t = Gather(s, i)\n y = Range(a, t, b)", "(float[N, 3] x) => (int64[5] y)")
    )
    for name, number in (("i", 1), ("a", 0), ("b", 1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [number]))
    ran = build(model, axes="{x: {0: N}}", code=1)
    assert "the graph says 5 of output 'y', axis 0, which is 3 at N=2" in ran.err
