from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest

import onnxbuild
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile

PROJECT = Path(__file__).resolve().parent.parent / "sources" / "pytorch" / "project"
BOTH = pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])


def f32(*shape):
    return {"dtype": "float32", "shape": list(shape)}


def i64(*shape):
    return {"dtype": "int64", "shape": list(shape)}


def case(**shapes):
    return {"name": str(shapes), "dims": {}, "shapes": shapes, "data": {}}


def shapes(outcome, role):
    return {value["name"]: value["shape"] for value in outcome.facts[role]}


def initializers(model, outcome):
    return {tensor.name for tensor in modelfile.structure(model.path(outcome)).graph.initializer}


@BOTH
def test_a_convolutional_net_with_dynamic_batch_and_height(torch_model, exporter):
    axes = {"x": {"0": "batch", "2": "height"}, "y": {"0": "batch"}}
    model = torch_model(
        "nets:Conv", {"x": f32(2, 3, 8, 8)}, ["y"], axes, {"batch": {"min": 1, "max": 8}}, exporter=exporter
    )

    outcome = model.export()

    onnx.checker.check_model(str(model.path(outcome)), full_check=True)
    assert outcome.facts["exporter"] == exporter
    assert outcome.facts["opset"] == 18
    assert shapes(outcome, "inputs") == {"x": ["batch", 3, "height", 8]}
    assert shapes(outcome, "outputs") == {"y": ["batch", 40]}
    assert {"fc.weight", "fc.bias"} <= initializers(model, outcome), "weights have their names in the state dict"
    assert set(outcome.objects) >= {outcome.outputs["graph"]}
    assert all((model.objects / ref).is_file() for ref in outcome.objects)
    assert model.difference(outcome, case(x=[1, 3, 8, 8]), case(x=[5, 3, 11, 8])) < 1e-6


def test_an_example_of_a_single_step_is_not_taken_for_the_only_size(torch_model):
    """torch.export takes a number of steps for a constant where the example has one."""
    axes = {"x": {"3": "width"}}
    width = {"min": 4, "max": 8, "multiple_of": 4}
    model = torch_model("nets:Conv", {"x": f32(2, 3, 8, 4)}, ["y"], axes, {"width": width})

    outcome = model.export()

    assert shapes(outcome, "inputs") == {"x": [2, 3, 8, "width"]}
    assert model.difference(outcome, case(x=[2, 3, 8, 4]), case(x=[2, 3, 8, 8])) < 1e-6


@BOTH
def test_nested_outputs_keyword_inputs_and_two_dtypes(torch_model, exporter):
    axes = {name: {"0": "batch", "1": "length"} for name in ("ids", "mask", "hidden", "extra.1")} | {
        "extra.0": {"0": "batch"}
    }
    model = torch_model(
        "nets:Answers",
        {"ids": i64(2, 4), "mask": f32(2, 4)},
        ["hidden", "extra.0", "extra.1"],
        axes,
        {"length": {"min": 2, "max": 64, "multiple_of": 2}},
        exporter=exporter,
    )

    outcome = model.export()

    assert shapes(outcome, "inputs") == {"ids": ["batch", "length"], "mask": ["batch", "length"]}
    assert shapes(outcome, "outputs") == {
        "hidden": ["batch", "length", 64],
        "extra.0": ["batch", 64],
        "extra.1": ["batch", "length"],
    }
    assert [value["dtype"] for value in outcome.facts["outputs"]] == ["float32", "float32", "bool"]
    assert model.difference(outcome, case(ids=[1, 2], mask=[1, 2]), case(ids=[3, 6], mask=[3, 6])) < 1e-5


@BOTH
def test_a_transformer_called_by_keyword_that_returns_a_dataclass(torch_model, exporter):
    pytest.importorskip("transformers")
    axes = {name: {"0": "batch", "1": "length"} for name in ("input_ids", "attention_mask", "last_hidden_state")}
    mask = i64(2, 6) | {"data": {"integers": {"low": 1, "high": 2}}}
    model = torch_model(
        "nets:bert",
        {"input_ids": i64(2, 6), "attention_mask": mask},
        ["last_hidden_state"],
        axes,
        {"length": {"max": 64}},
        exporter=exporter,
    )

    outcome = model.export()

    assert "embeddings.word_embeddings.weight" in initializers(model, outcome)
    cases = [case(input_ids=[b, s], attention_mask=[b, s]) for b, s in ((1, 1), (3, 7))]
    assert model.difference(outcome, *cases) < 1e-5


@BOTH
def test_a_recurrent_net_with_its_state_as_a_tuple(torch_model, exporter):
    axes = {
        "x": {"0": "batch", "1": "length"},
        "h": {"1": "batch"},
        "c": {"1": "batch"},
        "y": {"0": "batch", "1": "length"},
    }
    axes |= {"hn": {"1": "batch"}, "cn": {"1": "batch"}}
    inputs = {"x": f32(2, 5, 8), "h": f32(1, 2, 16), "c": f32(1, 2, 16)}
    arguments = {"args": ["x", ["h", "c"]], "kwargs": {}}
    model = torch_model("nets:Lstm", inputs, ["y", "hn", "cn"], axes, exporter=exporter, arguments=arguments)

    outcome = model.export()

    assert shapes(outcome, "outputs") == {"y": ["batch", "length", 16], "hn": [1, "batch", 16], "cn": [1, "batch", 16]}
    cases = [case(x=[b, s, 8], h=[1, b, 16], c=[1, b, 16]) for b, s in ((1, 2), (3, 7))]
    assert model.difference(outcome, *cases) < 1e-5


@pytest.mark.parametrize(("factory", "exporter"), [("nets:Cond", "dynamo"), ("nets:Scripted", "torchscript")])
def test_a_branch_on_data(torch_model, factory, exporter):
    model = torch_model(factory, {"x": f32(2, 3)}, ["y"], {"x": {"0": "n"}, "y": {"0": "n"}}, exporter=exporter)

    outcome = model.export()

    assert "If" in {node.op_type for node in modelfile.structure(model.path(outcome)).graph.node}
    positive, negative = (
        {**case(x=[3, 3]), "name": name, "data": {"x": {"constant": value}}}
        for name, value in (("p", 1.0), ("n", -1.0))
    )
    assert model.difference(outcome, positive, negative) == 0


def test_a_branch_that_the_exporter_cannot_take_is_told_with_the_line_and_the_remedy(torch_model):
    model = torch_model("nets:Scripted", {"x": f32(2, 3)}, ["y"])

    with pytest.raises(StageError) as caught:
        model.export()

    assert caught.value.fact.startswith("the dynamo exporter failed at nets.py:")
    assert "Could not guard on data-dependent expression" in caught.value.fact
    assert len(caught.value.fact) < 500
    assert "torch.cond" in caught.value.hint


@pytest.mark.parametrize("batch", [1, 2])
def test_the_model_that_is_wrong_at_other_sizes_exports(torch_model, batch):
    axes = {"x": {"0": "batch", "2": "h", "3": "w"}, "y": {"0": "batch"}}
    build = [
        torch_model("nets:WrongElsewhere", {"x": f32(batch, 3, 4, 4)}, ["y"], axes, exporter=e)
        for e in ("torchscript", "dynamo")
    ]

    script, dynamo = (model.export() for model in build)

    assert shapes(script, "inputs") == {"x": ["batch", 3, "h", "w"]}
    assert any("TracerWarning" in warning and warning.startswith("nets.py:") for warning in script.warnings)
    assert len(script.facts["notes"]) == 1 and "(converting a tensor to a Python integer)" in script.facts["notes"][0]
    assert not any("traced with" in note for note in dynamo.facts["notes"])
    with pytest.raises(AssertionError):  # which is what parity is for
        build[0].difference(script, case(x=[3, 3, 4, 4]))
    # torch.onnx would make the batch static in silence; traced otherwise, the model is right at every size
    assert shapes(dynamo, "outputs") == {"y": ["batch", 1]}
    assert build[1].difference(dynamo, case(x=[3, 3, 4, 4])) < 1e-5


BRANCH = """\
import torch


class Branch(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x * 3
"""


def test_a_branch_that_tracing_takes_for_good_is_noted_where_the_build_is_told(workspace):
    workspace.write("models/m.py", BRANCH)
    spec = "{dtype: float32, shape: [2, 8], data: {uniform: {}}}"
    workspace.write(
        "r.yaml",
        f"version: 1\nname: r\nmodel: {{pytorch: {{factory: 'models.m:Branch'}}}}\n"
        f"export: {{exporter: torchscript, inputs: {{x: {spec}}}, outputs: [y]}}\n",
    )

    said = " ".join(workspace.run("run", "r.yaml").out.split())

    note = (
        "export: traced with the example's values, and the same for every input: "
        "models/m.py:6 (converting a tensor to a Python boolean)"
    )
    assert f"note: {note}" in said
    assert note in workspace.report("r")["notes"]
    assert note in workspace.read("build/r/report.md")


def test_an_axis_that_the_model_fixes_is_not_made_static_in_silence(torch_model):
    model = torch_model("nets:Fixed", {"x": f32(2, 4)}, ["y"], {"x": {"1": "width"}, "y": {"1": "width"}})

    with pytest.raises(StageError) as caught:
        model.export()

    assert "Not all values of width = x.size()[1] in the specified range" in caught.value.fact
    assert "the model fixes width, which the recipe declares dynamic" in caught.value.hint


@BOTH
def test_an_output_that_is_an_input_and_one_that_is_doubled(torch_model, exporter):
    model = torch_model("nets:Doubled", {"x": f32(2, 3)}, ["a", "b", "c"], {"x": {"0": "n"}}, exporter=exporter)

    outcome = model.export()

    assert shapes(outcome, "outputs") == {name: ["n", 3] for name in "abc"}
    assert model.difference(outcome, case(x=[3, 3])) == 0


@BOTH
def test_outputs_may_have_the_names_of_inner_values(torch_model, exporter):
    ids = {"dtype": "int64", "shape": [2, 4], "data": {"integers": {"low": 0, "high": 5}}}
    for names in (["embedding", "relu"], ["weight", "mul"], ["sum_1", "embedding"]):
        model = torch_model("nets:Namesakes", {"ids": ids}, names, {"ids": {"0": "n"}}, exporter=exporter)
        outcome = model.export()

        onnx.checker.check_model(str(model.path(outcome)), full_check=True)
        assert shapes(outcome, "outputs") == {names[0]: ["n", 4, 3], names[1]: ["n", 4]}
        assert model.difference(outcome, case(ids=[3, 4])) < 1e-5


@BOTH
def test_float16_and_float64(torch_model, exporter):
    for dtype in ("float16", "float64"):
        model = torch_model("nets:Half", {"x": {"dtype": dtype, "shape": [2, 3]}}, ["y"], exporter=exporter)
        assert model.difference(model.export(), case(x=[2, 3])) == 0


@BOTH
def test_an_input_that_the_model_ignores_stays(torch_model, exporter):
    axes = {"y": {"0": "n"}}
    model = torch_model("nets:Unused", {"y": f32(2, 3), "x": f32(2)}, ["z"], axes, exporter=exporter)

    outcome = model.export()

    assert list(shapes(outcome, "inputs").items()) == [("y", ["n", 3]), ("x", [2])]
    assert model.difference(outcome, case(x=[2], y=[2, 3])) == 0


def test_the_outputs_that_a_model_has_are_listed_when_others_are_declared(torch_model):
    model = torch_model("nets:Answers", {"ids": i64(2, 4), "mask": f32(2, 4)}, ["hidden", "pooled"])

    with pytest.raises(StageError, match=r"the model returns 3 outputs: hidden, extra\.0, extra\.1"):
        model.export()


def test_an_opset_that_the_exporter_does_not_give_fails(torch_model):
    model = torch_model("nets:Cond", {"x": f32(2, 3)}, ["y"], opset=13)

    with pytest.raises(StageError, match="gave opset 18, asked for 13"):
        model.export()


def test_torchscript_takes_older_opsets(torch_model):
    model = torch_model("nets:Conv", {"x": f32(2, 3, 8, 8)}, ["y"], exporter="torchscript", opset=13)

    assert model.export().facts["opset"] == 13


def test_a_scripted_module_is_a_model_too(torch_model):
    model = torch_model("nets:scripted_conv", {"x": f32(2, 3, 8, 8)}, ["y"], exporter="torchscript")

    assert model.difference(model.export(), case(x=[2, 3, 8, 8])) < 1e-6


def test_tied_weights_are_kept_once(torch_model):
    model = torch_model("nets:Tied", {"ids": i64(2, 4)}, ["y"])

    outcome = model.export()

    big = [ref for ref in outcome.objects if not ref.endswith(".onnx") and ref != outcome.outputs["lines"]]
    assert len(big) == len(set(big)) <= 2  # the table, and its transpose where the exporter folds it
    assert model.difference(outcome, case(ids=[2, 4])) < 1e-5


def test_warnings_are_kept_and_nothing_is_printed(torch_model, capfd):
    model = torch_model("nets:Noisy", {"x": f32(2)}, ["y"])

    outcome = model.export()

    assert any(text.endswith("UserWarning: look at this") and text.startswith("nets.py:") for text in outcome.warnings)
    assert not any("torchvision" in text or str(PROJECT) in text for text in outcome.warnings)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


SCRIPT = """
import sys
from pathlib import Path
from onnxbuild.contracts import Task
from onnxbuild.stages import export
root = Path.cwd()
for exporter in ("dynamo", "torchscript"):
    scratch = root / exporter
    scratch.mkdir()
    options = {"inputs": {"x": {"dtype": "float32", "shape": [2, 3, 8, 8]}}, "outputs": ["y"], "exporter": exporter,
               "opset": 18, "dynamic_axes": {"x": {"0": "batch"}, "y": {"0": "batch"}}, "dims": {}}
    source = {"pytorch": {"factory": "nets:Conv", "kwargs": {}, "seed": 7}}
    options = {"source": source, "export": options}
    task = Task("export", "export", options, {}, str(root), str(root / "objects"), str(scratch))
    print(sorted(export.run(task).objects))
"""


def test_equal_bytes_from_two_folders_hash_seeds_time_zones_and_locales(tmp_path):
    said = []
    for folder, seed, zone, locale in (("a", "1", "UTC", "C"), ("deep/er b", "2", "Asia/Tokyo", "C.UTF-8")):
        root = tmp_path / folder
        root.mkdir(parents=True)
        (root / "nets.py").write_text((PROJECT / "nets.py").read_text(encoding="utf-8"), encoding="utf-8")
        path = str(Path(onnxbuild.__file__).parent.parent)
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "PYTHONPATH": path}
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
        said.append(subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True).stdout)

    assert said[0] == said[1] != ""


@BOTH
def test_a_custom_operator_decomposed(torch_model, exporter):
    symbolics = {"onnxbuildtest::swish": {"decompose": "nets:swish_in_onnx"}}
    axes = {"x": {"0": "n"}, "y": {"0": "n"}}
    model = torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"], axes, exporter=exporter, symbolics=symbolics)

    outcome = model.export()

    assert shapes(outcome, "outputs") == {"y": ["n", 4, 2]}
    assert model.difference(outcome, case(x=[1, 8]), case(x=[3, 8])) < 1e-6


@BOTH
def test_constants_in_every_attribute_that_both_exporters_take(torch_model, exporter):
    symbolics = {"onnxbuildtest::swish": {"decompose": "nets:swish_of_constants"}}
    axes = {"x": {"0": "n"}, "y": {"0": "n"}}
    model = torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"], axes, exporter=exporter, symbolics=symbolics)

    outcome = model.export()

    assert shapes(outcome, "outputs") == {"y": ["n", 4, 2]}
    assert model.difference(outcome, case(x=[1, 8]), case(x=[3, 8])) < 1e-6


def test_a_constant_that_torchscript_has_not_is_told_with_the_line_and_the_remedy(torch_model, capsys):
    symbolics = {"onnxbuildtest::swish": {"decompose": "nets:swish_of_text"}}
    model = torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"], exporter="torchscript", symbolics=symbolics)

    with pytest.raises(StageError, match=r"op\.Constant with value_string can't be made") as caught:
        model.export()

    assert caught.value.hint == "give one of value, value_float, value_floats, value_int, value_ints"
    assert 'File "nets.py"' in capsys.readouterr().err


@BOTH
def test_a_custom_operator_with_an_absent_tensor_a_list_and_two_results(torch_model, exporter):
    symbolics = {"onnxbuildtest::halves": {"decompose": "nets:halves_in_onnx"}}
    model = torch_model("nets:Halves", {"x": f32(2, 8)}, ["a", "b"], exporter=exporter, symbolics=symbolics)

    outcome = model.export()

    operators = {node.op_type for node in modelfile.structure(model.path(outcome)).graph.node}
    assert {"Slice", "LeakyRelu"} <= operators
    assert shapes(outcome, "outputs") == {"a": [2, 3], "b": [2, 5]}


def swish_node(**changes):
    node = {"domain": "com.acme", "op_type": "Swish", "version": 2, "inputs": ["x"], "outputs": ["y"]}
    return {
        "onnxbuildtest::swish": {
            "node": {**node, "attributes": {"slope": {"type": "float", "argument": "beta"}}, **changes}
        }
    }


@BOTH
def test_a_custom_operator_as_a_node_of_its_own_domain(torch_model, exporter):
    axes = {"x": {"0": "n"}, "y": {"0": "n"}}
    model = torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"], axes, exporter=exporter, symbolics=swish_node())

    outcome = model.export()

    proto = modelfile.structure(model.path(outcome))
    (node,) = [node for node in proto.graph.node if node.domain == "com.acme"]
    assert node.op_type == "Swish"
    assert [(a.name, a.f) for a in node.attribute] == [("slope", 1.5)]
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 18, "com.acme": 2}
    assert shapes(outcome, "outputs") == {"y": ["n", 4, 2]}


@BOTH
def test_a_custom_operator_that_the_model_never_calls(torch_model, exporter):
    symbolics = {"onnxbuildtest::swish": {"decompose": "nets:swish_in_onnx"}}
    model = torch_model("nets:Half", {"x": f32(2, 8)}, ["y"], exporter=exporter, symbolics=symbolics)

    with pytest.raises(StageError, match="never calls onnxbuildtest::swish"):
        model.export()


def test_a_custom_operator_that_does_not_exist(torch_model):
    symbolics = {"onnxbuildtest::swich": {"decompose": "nets:swish_in_onnx"}}

    with pytest.raises(StageError) as caught:
        torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"], symbolics=symbolics).export()

    assert caught.value.hint == "did you mean 'onnxbuildtest::swish'?"


def test_a_node_with_an_argument_that_the_operator_lacks(torch_model):
    model = torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"], symbolics=swish_node(inputs=["z"]))

    with pytest.raises(StageError, match="no tensor argument 'z'"):
        model.export()


def test_an_attribute_that_the_model_computes_is_refused(torch_model):
    axes = {"x": {"0": "n"}, "y": {"0": "n"}}
    model = torch_model(
        "nets:scripted_swish", {"x": f32(2, 8)}, ["y"], axes, exporter="torchscript", symbolics=swish_node()
    )

    with pytest.raises(StageError) as caught:
        model.export()

    fact = "argument 'beta' of a custom operator is computed by the model, and can't become an attribute"
    assert caught.value.fact == fact
    assert caught.value.hint == "pass a Python constant, or make it a tensor argument"


def test_an_operator_without_an_entry_is_named(torch_model):
    with pytest.raises(StageError) as caught:
        torch_model("nets:Swish", {"x": f32(2, 8)}, ["y"]).export()

    assert "onnxbuildtest" in caught.value.fact
    assert "symbolics" in caught.value.hint
