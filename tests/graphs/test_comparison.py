"""Two models by what they compute: names and order say nothing, and each change is told as exactly what it is."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxbuild.errors import StageError, UserError
from onnxbuild.graphs import comparison, mapped, tensors
from onnxbuild.report.changes import Fact, Node, NodeChange, TensorChange

BLOCK = """
<ir_version: 8, opset_import: ["" : 18]>
net (float[N, 4] x, float[N, 4] unread) => (float[N, 4] y, float[N, 4] z)
<float[4, 4] w1 = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, float[4] b1 = {1, 2, 3, 4},
 float[4, 4] w2 = {4, 3, 2, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}>
{
    a = MatMul (x, w1)
    b = Add (a, b1)
    c = Relu (b)
    d = MatMul (c, w2)
    e = Softmax <axis = 1> (d)
    y = Add (e, x)
    z = Sigmoid (d)
}
"""
BRANCHES = """
<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
net (float[2] x, bool flag) => (float[2] y)
<float[2] w = {1, 2}>
{
    h = Mul (x, w)
    g = local.twice (h)
    y = If (flag) <
        then_branch = t () => (float[2] p) <float[2] k = {5, 6}> { q = Add (g, k)  p = Elu <alpha = 0.5> (q) },
        else_branch = f () => (float[2] r) { r = Neg (h) }>
}
<opset_import: ["" : 18], domain: "local">
twice (v) => (u) { u = Add (v, v) }
"""


def parsed(text: str = BLOCK) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def compared(tmp_path, before: onnx.ModelProto, after: onnx.ModelProto):
    for name, model in (("a", before), ("b", after)):
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    return comparison.compare(tmp_path / "a.onnx", tmp_path / "b.onnx")


def told(found) -> dict:
    """What of a comparison is not empty."""
    parts = found._asdict() | {name: getattr(found.structure, name) for name in found.structure.__struct_fields__}
    return {name: value for name, value in parts.items() if value and name not in ("structure", "matched")}


def differing(tmp_path, edit, text: str = BLOCK) -> dict:
    """What is told where `edit` changes a model, which says nothing of its own size in bytes."""
    after = parsed(text)
    edit(after)
    found = told(compared(tmp_path, parsed(text), after))
    assert not told(compared(tmp_path, after, after))
    found["sizes"] = [one.subject for one in found.get("sizes", []) if one.subject != "size"]
    return {name: value for name, value in found.items() if value}


def test_a_changed_attribute_is_that(tmp_path):
    def edit(model):
        model.graph.node[4].attribute[0].i = 0

    assert differing(tmp_path, edit) == {"changed": [NodeChange(Node("Softmax", "e"), [Fact("axis", "1", "0")])]}


def test_an_attribute_that_spells_out_the_default_is_none_and_a_changed_default_is_told(tmp_path):
    def spelled(model):
        model.graph.node[4].attribute[0].i = -1

    def left_out(model):
        del model.graph.node[4].attribute[:]

    before, after = parsed(), parsed()
    spelled(before)
    left_out(after)
    assert told(compared(tmp_path, before, after)).keys() == {"sizes"}

    after.opset_import[0].version = 12  # where Softmax's axis is 1 if nothing is said
    found = told(compared(tmp_path, before, after))
    assert found["model"] == [Fact("opset", "18", "12")]
    assert [change.facts for change in found["changed"]] == [[Fact("axis", "-1", "1")]]


def test_an_extra_node_is_one_node_more(tmp_path):
    def edit(model):
        model.graph.node.insert(3, helper.make_node("Identity", ["c"], ["copy"], name="same"))
        model.graph.node[4].input[0] = "copy"

    found = differing(tmp_path, edit)
    assert found.pop("added") == [Node("Identity", "same")]
    assert [(one.op, one.before, one.after) for one in found.pop("ops")] == [("Identity", 0, 1)]
    assert found == {"sizes": ["nodes"]}


def test_a_scaled_weight_is_told_by_the_size_of_the_change(tmp_path):
    def edit(model):
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))

    (change,) = differing(tmp_path, edit).pop("tensors")
    assert (change.name, change.was, change.changed, change.elements) == ("w1", "", 16, 16)
    assert change.max_abs == 8.0
    assert change.relative_norm == pytest.approx(0.5)
    assert set(differing(tmp_path, edit)) == {"tensors"}


def test_a_renamed_output_is_a_name(tmp_path):
    def edit(model):
        model.graph.output[1].name = model.graph.node[6].output[0] = "scores"

    assert differing(tmp_path, edit) == {"interface": [Fact("name of output 'z'", "z", "scores")]}


def test_an_output_of_another_node_is_no_renamed_one(tmp_path):
    def edit(model):
        model.graph.output[1].name = "c"

    found = differing(tmp_path, edit)
    assert found["interface"] == [Fact("output 'z'", "float32[N, 4]", None), Fact("output 'c'", None, "float32[N, 4]")]


def test_outputs_that_changed_places_are_told_and_nothing_else(tmp_path):
    def edit(model):
        outputs = list(model.graph.output)
        del model.graph.output[:]
        model.graph.output.extend(reversed(outputs))

    assert differing(tmp_path, edit) == {"interface": [Fact("order of the outputs", "y, z", "z, y")]}


def test_types_and_shapes_of_the_interface(tmp_path):
    def edit(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
        model.graph.input.add().CopyFrom(helper.make_tensor_value_info("more", TensorProto.INT64, []))

    assert differing(tmp_path, edit)["interface"] == [
        Fact("input 'x'", "float32[N, 4]", "float32[3, 4]"),
        Fact("input 'more'", None, "int64[]"),
    ]


def test_an_input_taken_from_elsewhere_is_told_with_both_sources(tmp_path):
    def edit(model):
        model.graph.node[5].input[1] = "unread"

    found = differing(tmp_path, edit)
    assert found["changed"] == [NodeChange(Node("Add", "y"), [Fact("input 1", "value 'x'", "value 'unread'")])]


def test_a_node_in_the_place_of_another_is_one_less_and_one_more(tmp_path):
    def edit(model):
        model.graph.node[2].op_type = "Elu"

    found = differing(tmp_path, edit)
    assert ([one.op for one in found["removed"]], [one.op for one in found["added"]]) == (["Relu"], ["Elu"])
    assert set(found) == {"removed", "added", "ops"}


def test_a_weight_of_another_type_or_shape(tmp_path):
    def edit(model):
        for index, values in ((0, np.float16), (1, None)):
            tensor = model.graph.initializer[index]
            array = numpy_helper.to_array(tensor)
            array = np.ones(1, np.float32) if values is None else array.astype(values)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    assert differing(tmp_path, edit)["tensors"] == [
        TensorChange("w1", "float32[4, 4]", "float16[4, 4]", "", 16, 0, 0.0, 0.0),
        TensorChange("b1", "float32[4] [1.0, 2.0, 3.0, 4.0]", "float32[1] [1.0]", "", 1),
    ]


def test_a_renamed_weight_is_a_name_and_two_that_changed_places_are_two_inputs(tmp_path):
    def renamed(model):
        model.graph.initializer[0].name = model.graph.node[0].input[1] = "one.weight"

    def swapped(model):
        model.graph.node[0].input[1], model.graph.node[3].input[1] = "w2", "w1"

    assert differing(tmp_path, renamed) == {
        "tensors": [TensorChange("one.weight", "float32[4, 4]", "float32[4, 4]", "w1", 16, 0)]
    }
    found = differing(tmp_path, swapped)
    assert set(found) == {"changed"}
    assert [one.facts for one in found["changed"]] == [
        [Fact("input 1", "tensor 'w1'", "tensor 'w2'")],
        [Fact("input 1", "tensor 'w2'", "tensor 'w1'")],
    ]


def test_a_weight_that_a_node_gives_now_is_one_less_and_a_node_more(tmp_path):
    def edit(model):
        tensor = model.graph.initializer.pop(1)
        model.graph.node.insert(0, helper.make_node("Constant", [], ["b1"], value=tensor))

    found = differing(tmp_path, edit)
    assert [one.op for one in found["added"]] == ["Constant"]
    assert found["tensors"] == [TensorChange("b1", "float32[4]", None)]
    assert set(found) == {"added", "tensors", "ops", "sizes"}


def test_a_layer_more_in_the_middle_of_alike_ones_is_that_layer(tmp_path):
    def stack(layers):
        nodes, weights, last = [], [], "x"
        for name in layers:
            values = np.random.default_rng(int(name)).normal(size=(4, 4)).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"layers.{name}.weight"))
            nodes.append(helper.make_node("MatMul", [last, f"layers.{name}.weight"], [f"m{name}"]))
            nodes.append(helper.make_node("Relu", [f"m{name}"], [f"r{name}"]))
            last = f"r{name}"
        shaped = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", last)]
        return helper.make_model(helper.make_graph(nodes, "g", shaped[:1], shaped[1:], weights))

    found = told(compared(tmp_path, stack("0123"), stack("01723")))
    assert [(one.op, one.scope or one.near) for one in found["added"]] == [("MatMul", "layers.7"), ("Relu", "layers.7")]
    assert found["tensors"] == [TensorChange("layers.7.weight", None, "float32[4, 4]")]
    assert not {"removed", "changed", "interface"} & set(found)


def test_subgraphs_and_functions_are_looked_into(tmp_path):
    def edit(model):
        branch, other = model.graph.node[2].attribute[0].g, model.graph.node[2].attribute[1].g
        if branch.node[0].op_type != "Add":
            branch, other = other, branch
        branch.node[1].attribute[0].f = 0.25
        branch.initializer[0].CopyFrom(numpy_helper.from_array(np.float32([5, 7]), "k"))
        other.node[0].input[0] = "g"
        model.functions[0].node[0].op_type = "Mul"

    found = differing(tmp_path, edit, BRANCHES)
    facts = {(one.node.op, one.node.body): one.facts for one in found["changed"]}
    assert facts["Elu", "then_branch of If 'y'"] == [Fact("alpha", "0.5", "0.25")]
    assert facts["Neg", "else_branch of If 'y'"] == [Fact("input 0", "value 'h'", "value 'g'")]
    assert [(one.name, one.max_abs) for one in found["tensors"]] == [("k", 1.0)]
    assert [(one.op, one.body) for one in found["removed"] + found["added"]] == [
        ("Add", "function local::twice"),
        ("Mul", "function local::twice"),
    ]


def test_an_output_of_a_branch_that_another_value_is_now(tmp_path):
    def edit(model):
        for attribute in model.graph.node[2].attribute:
            if attribute.name == "then_branch":
                attribute.g.output[0].name = "q"

    found = differing(tmp_path, edit, BRANCHES)
    (change,) = found["changed"]
    assert (change.node.op, change.node.name, change.node.body) == ("output", "q", "then_branch of If 'y'")
    assert change.facts == [Fact("taken from", "Elu 'p'", "Add 'q'")]


def test_a_function_more_and_what_is_said_of_the_model_as_a_whole(tmp_path):
    def edit(model):
        model.functions[0].name = model.graph.node[1].op_type = "double"
        model.producer_name = "acme"
        model.metadata_props.add(key="licence", value="MIT")

    found = differing(tmp_path, edit, BRANCHES)
    assert found["model"] == [
        Fact("producer", None, "acme"),
        Fact("metadata 'licence'", None, "MIT"),
        Fact("function local::double", None, "1 node"),
        Fact("function local::twice", "1 node", None),
    ]


def test_constants_are_told_by_their_values(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[N] x) => (float[N] y) {{ c = Constant <value = {}> () y = Add (x, c) }}"""
    before, after = (parsed(text.format(f"float[2] {{{values}}}")) for values in ("1, 2", "1, 3"))
    (change,) = told(compared(tmp_path, before, after))["changed"]
    assert change.facts == [Fact("value", "float32[2] [1.0, 2.0]", "float32[2] [1.0, 3.0]")]

    values = [np.arange(100, dtype=np.float32) * scale for scale in (1, 2)]
    for model, array in zip((before, after), values, strict=True):
        model.graph.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(array))
    (change,) = told(compared(tmp_path, before, after))["changed"]
    assert change.facts[0].after == "float32[100], 99 of 100 changed, at most by 99, relative norm 1"


@pytest.mark.parametrize(
    ("before", "after", "figures"),
    [
        (np.float32([1, np.nan, 3]), np.float32([1, np.nan, 4]), (1, 1.0, 0)),
        (np.float32([1, 2]), np.float32([np.inf, 2]), (1, None, 1)),
        (np.float32([1, 2]), np.float32([np.inf, 3]), (2, 1.0, 1)),
        (np.float32([0.0]), np.float32([-0.0]), (1, 0.0, 0)),
        (np.array([True, False]), np.array([True, True]), (1, 1.0, 0)),
        (np.array([2**60, 1]), np.array([2**60, 3]), (1, 2.0, 0)),
        (np.array([1 + 1j], np.complex128), np.array([1 - 1j], np.complex128), (1, 2.0, 0)),
        (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), (1, None, 0)),
    ],
    ids=["nan", "all-infinite", "infinite", "zero", "bool", "int64", "complex", "string"],
)
def test_sizes_of_changes_of_every_kind(tmp_path, before, after, figures):
    def made(array):
        model = parsed()
        model.graph.initializer.append(numpy_helper.from_array(array, "w"))
        return model

    (change,) = told(compared(tmp_path, made(before), made(after)))["tensors"]
    assert (change.changed, change.max_abs, change.not_finite) == figures
    assert not told(compared(tmp_path, made(before), made(before)))


def test_packed_and_sparse_weights(tmp_path):
    def made(packed, sparse):
        model = parsed()
        model.graph.initializer.add(name="four", data_type=TensorProto.INT4, dims=[2], raw_data=packed)
        values = numpy_helper.from_array(np.float32([sparse]), "few")
        model.graph.sparse_initializer.add(
            dims=[9], values=values, indices=numpy_helper.from_array(np.array([3]), "places")
        )
        return model

    found = told(compared(tmp_path, made(b"\x21", 1), made(b"\x31", 2)))["tensors"]
    assert [(one.name, one.changed, one.max_abs) for one in found] == [("four", 1, 1.0), ("few", None, None)]
    assert found[1].before == "sparse float32[9]"
    assert not told(compared(tmp_path, made(b"\x21", 1), made(b"\x21", 1)))


def test_weights_stay_in_their_file_until_they_are_compared(tmp_path):
    values = np.arange(4096, dtype=np.float32)
    model = parsed()
    model.graph.initializer.append(numpy_helper.from_array(values, "large"))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())

    read = mapped.read(path)
    assert read.ByteSize() < 1500
    assert b"".join(tensors.chunks(read.graph.initializer[-1], tmp_path)) == values.tobytes()
    tensors.set_inline(read.graph.initializer[-1], values.tobytes())
    assert read.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)

    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    assert not told(comparison.compare(path, tmp_path / "b.onnx")).keys() - {"sizes"}
    (tmp_path / "b.data").unlink()
    with pytest.raises(StageError, match="can't be read"):
        comparison.compare(path, tmp_path / "b.onnx")


@pytest.mark.parametrize("data", [b"", b"no model", b"\x3a\xff\xff\xff\xff\x0f", b"\x08\x08"], ids=repr)
def test_what_is_no_model_is_refused(tmp_path, data):
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(UserError, match="not an ONNX model"):
        mapped.read(tmp_path / "a.onnx")


def test_names_that_are_no_text_and_unknown_types_are_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(parsed().SerializeToString().replace(b"Softmax", b"Soft\xff\xffx"))
    with pytest.raises(UserError, match="a name in it is no UTF-8\n    hint: write the model again with a tool"):
        mapped.read(path)

    after = parsed()
    after.graph.initializer[0].data_type = 99
    with pytest.raises(StageError, match=r"tensor 'w1' has an unknown element type \(99\)"):
        compared(tmp_path, parsed(), after)


def random_model(rng: random.Random) -> onnx.ModelProto:
    """A graph of up to 25 nodes, some of them alike, with branches that take values from around them."""
    values, nodes, weights = ["x", "x2"], [], []
    for number in range(rng.randrange(1, 25)):
        kind = rng.choice(["Relu", "Neg", "Add", "Mul", "Gemm", "If"])
        name = f"v{number}"
        taken = [rng.choice(values), rng.choice(values)]
        if kind == "Gemm":
            array = np.float32([[rng.choice([1, 2]), rng.choice([1, 2])] for _ in range(2)])
            weights.append(numpy_helper.from_array(array, f"w{number}"))
            nodes.append(
                helper.make_node("Gemm", [taken[0], f"w{number}"], [name], f"n{number}", transB=rng.choice([0, 1]))
            )
        elif kind == "If":
            inner = [
                helper.make_graph(
                    [
                        helper.make_node("Add", taken, [f"i{number}"]),
                        helper.make_node(last, [f"i{number}"], [f"o{number}"]),
                    ],
                    "branch",
                    [],
                    [helper.make_tensor_value_info(f"o{number}", TensorProto.FLOAT, None)],
                )
                for last in ("Relu", "Neg")
            ]
            nodes.append(
                helper.make_node("If", ["flag"], [name], f"n{number}", then_branch=inner[0], else_branch=inner[1])
            )
        else:
            nodes.append(helper.make_node(kind, taken if kind in ("Add", "Mul") else taken[:1], [name], f"n{number}"))
        values.append(name)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "x2")]
    inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in {values[-1], rng.choice(values[2:])}
    ]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights))


def renamed(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """The same model with other names, its nodes in another order that the values allow."""
    after = onnx.ModelProto()
    after.CopyFrom(model)
    fixed = {value.name for value in (*model.graph.input, *model.graph.output, *model.graph.initializer)}
    numbers = list(range(1000))
    rng.shuffle(numbers)
    names: dict[str, str] = {}

    def name(old: str) -> str:
        return old if old in fixed or not old else names.setdefault(old, f"other_{numbers.pop()}")

    for graph in tensors.graphs(after):
        for node in graph.node:
            node.name = f"node_{numbers.pop()}"
            node.input[:], node.output[:] = map(name, node.input), map(name, node.output)
        for value in graph.output:
            value.name = name(value.name)
    left, made, order = (
        list(after.graph.node),
        {value.name for value in (*after.graph.input, *after.graph.initializer)},
        [],
    )
    while left:
        ready = [n for n in left if needed(n) <= made]
        node = rng.choice(ready)
        left.remove(node)
        order.append(node)
        made |= set(node.output)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
    del after.graph.node[:]
    after.graph.node.extend(copies)
    return after


def needed(node: onnx.NodeProto) -> set[str]:
    inner = [graph for attribute in node.attribute for graph in tensors.graphs_of(attribute)]
    own = {name for graph in inner for n in graph.node for name in n.output}
    return {*node.input, *(name for graph in inner for n in graph.node for name in needed(n))} - own


@pytest.mark.parametrize("seed", range(12))
def test_other_names_and_another_order_are_no_difference(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(3):
        model = random_model(rng)
        found = told(compared(tmp_path, model, renamed(model, rng)))
        assert found.keys() <= {"sizes"}
        assert [one.subject for one in found.get("sizes", [])] in ([], ["size"])


@pytest.mark.parametrize("seed", range(12))
def test_one_node_more_is_one_node_more_whatever_the_names(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(3):
        model = random_model(rng)
        after = renamed(model, rng)
        index = rng.randrange(len(after.graph.node))
        node = after.graph.node[index]
        slot = rng.randrange(len(node.input))
        after.graph.node.insert(index, helper.make_node("Identity", [node.input[slot]], ["extra"], "extra"))
        after.graph.node[index + 1].input[slot] = "extra"
        found = told(compared(tmp_path, model, after))
        assert [one.op for one in found["added"]] == ["Identity"]
        assert not {"removed", "changed", "tensors", "interface"} & set(found)
