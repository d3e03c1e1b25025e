from __future__ import annotations

import contextlib
import random

import numpy as np
import onnx
import onnx.parser
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxbuild.errors import StageError
from onnxbuild.graphs import diff, modelfile, tensors

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1], producer_name: "me", metadata_props: ["a": "1", "b": "2"]>
main (float[n, 4] x, bool c) => (float[n, 4] y)
<float[4] w = {1, 2, 3, 4}, int64[2] s = {0, 0}, float f = {0.5}>
{ a = Mul(x, w)
  b = Softmax<axis = 1>(a)
  d = com.acme.Do<names = ["p", "q"], alpha = 0.5, ints = [1, 2, 3]>(b, f)
  e = If (c) <
    then_branch = g1 () => (float[n, 4] t) { t = Relu(d) },
    else_branch = g2 () => (float[n, 4] u) { u = LeakyRelu<alpha = 0.25>(d) }
  >
  y = Identity(e) }
"""


def model(*changes: tuple[str, str]) -> onnx.ModelProto:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return onnx.parser.parse_model(text)


def told(*changes: tuple[str, str]) -> list[str]:
    return list(diff.models(model(), model(*changes)))


CHANGES = {
    "attribute": (("axis = 1", "axis = 0"), ["graph.node[1].attribute['axis'].i: 1 -> 0  (in Softmax 'b')"]),
    "float attribute": (
        ("alpha = 0.5", "alpha = 0.75"),
        ["graph.node[2].attribute['alpha'].f: 0.5 -> 0.75  (in Do 'd')"],
    ),
    "integers": (
        ("[1, 2, 3]", "[1, 7, 8]"),
        ["graph.node[2].attribute['ints'].ints[1]: 2 -> 7 (and 1 more of 3)  (in Do 'd')"],
    ),
    "length": (("[1, 2, 3]", "[1]"), ["graph.node[2].attribute['ints'].ints: [1, 2, 3] -> [1]  (in Do 'd')"]),
    "strings": (('"p"', '"r"'), ["graph.node[2].attribute['names'].strings[0]: 'p' -> 'r'  (in Do 'd')"]),
    "attribute gone": (
        ("<axis = 1>", ""),
        ["graph.node[1].attribute['axis']: i: 1 -> absent  (in Softmax 'b')"],
    ),
    "operator": (
        ("Softmax<axis = 1>", "Hardmax<axis = 1>"),
        ["graph.node[1].op_type: 'Softmax' -> 'Hardmax'  (in Softmax 'b')"],
    ),
    "wiring": (
        ("Softmax<axis = 1>(a)", "Softmax<axis = 1>(x)"),
        ["graph.node[1].input[0]: 'a' -> 'x'  (in Softmax 'b')"],
    ),
    "subgraph": (
        ("alpha = 0.25", "alpha = 0.125"),
        [
            (
                "graph.node[3].attribute['else_branch'].g.node[0].attribute['alpha'].f: "
                "0.25 -> 0.125  (in LeakyRelu 'u')  (in If 'e')"
            )
        ],
    ),
    "node more": (("y = Identity(e)", "z = Neg(e) y = Identity(e)"), ["graph.node[4]: absent -> Neg 'z'"]),
    "weights": (
        ("{1, 2, 3, 4}", "{1, 2.5, 3, 3}"),
        ["tensor 'w': 2 of 4 elements differ, first at [1]: 2.0 -> 2.5; by 1 at most"],
    ),
    "scalar": (
        ("f = {0.5}", "f = {-0.5}"),
        ["tensor 'f': 1 of 1 element differs, first at []: 0.5 -> -0.5; by 1 at most"],
    ),
    "nan": (("f = {0.5}", "f = {nan}"), ["tensor 'f': 1 of 1 element differs, first at []: 0.5 -> nan"]),
    "shape": (("int64[2] s = {0, 0}", "int64[1] s = {0}"), ["tensor 's': int64[2] -> int64[1]"]),
    "dtype": (("int64[2] s", "int32[2] s"), ["tensor 's': int64[2] -> int32[2]"]),
    "renamed": (
        ("int64[2] s", "int64[2] v"),
        ["graph.initializer['s']: int64[2] -> absent", "graph.initializer['v']: absent -> int64[2]"],
    ),
    "opset": (('"" : 17', '"" : 18'), ["opset_import[''].version: 17 -> 18"]),
    "ir": (("ir_version: 8", "ir_version: 9"), ["ir_version: 8 -> 9"]),
    "producer": (('"me"', '"you"'), ["producer_name: 'me' -> 'you'"]),
    "metadata": (('"a": "1"', '"a": "7"'), ["metadata_props['a'].value: '1' -> '7'"]),
    "order of metadata": (
        ('"a": "1", "b": "2"', '"b": "2", "a": "1"'),
        ["metadata_props: the same 2, in another order, first at [0]: 'a' -> 'b'"],
    ),
    "output": (("(float[n, 4] y)", "(float[n, 5] y)"), ["graph.output['y']: float32[n, 4] -> float32[n, 5]"]),
    "axis name": (("(float[n, 4] x,", "(float[m, 4] x,"), ["graph.input['x']: float32[n, 4] -> float32[m, 4]"]),
    "graph name": (("main (", "other ("), ["graph.name: 'main' -> 'other'"]),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_named_with_its_place_and_both_values(change, expected):
    assert told(change) == expected


def test_equal_models_have_no_difference():
    assert told() == []


def test_swapped_inputs_are_an_order():
    changed = model()
    first = changed.graph.input.pop(0)
    changed.graph.input.append(first)

    assert list(diff.models(model(), changed)) == [
        "graph.input: the same 2, in another order, first at [0]: 'x' -> 'c'"
    ]


def test_nodes_in_another_order_are_named_as_that_alone():
    def three(*order: str) -> onnx.ModelProto:
        nodes = {"a": "a = Neg(x)", "b": "b = Abs(x)", "c": "c = Exp(x)"}
        body = "\n".join(nodes[name] for name in order)
        head = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] a, float[2] b, float[2] c)'
        return onnx.parser.parse_model(f"{head} {{ {body} }}")

    assert list(diff.models(three("a", "b", "c"), three("a", "c", "b"))) == [
        "graph.node: the same 3, in another order, first at [1]: Abs 'b' -> Exp 'c'"
    ]


def test_one_node_more_does_not_make_all_that_follow_it_differ():
    def chain(*ops: str) -> onnx.ModelProto:
        values = ["x", *(f"{op.lower()}{n}" for n, op in enumerate(ops))]
        body = "\n".join(f"{values[n + 1]} = {op}({values[n]})" for n, op in enumerate(ops))
        head = f'<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] {values[-1]})'
        return onnx.parser.parse_model(f"{head} {{ {body} }}")

    many = ["Neg", "Abs"] * 50
    before, after = chain(*many), chain(*many)
    after.graph.node.insert(40, helper.make_node("Identity", ["neg38"], ["more"]))
    after.graph.node[41].input[0] = "more"

    found = list(diff.models(before, after))

    assert found == [
        "graph.node[40]: absent -> Identity 'more'",
        "graph.node[40].input[0]: 'abs39' -> 'more'  (in Neg 'neg40')",
    ]


def test_the_same_values_in_another_field_are_said_to_be_just_that():
    before, after = model(), model()
    values = numpy_helper.to_array(after.graph.initializer[0])
    after.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    assert before.graph.initializer[0].float_data and after.graph.initializer[0].raw_data

    assert list(diff.models(before, after)) == ["tensor 'w': the same values, held in another way"]


@pytest.mark.parametrize(
    "dtype", [TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.INT4, TensorProto.BOOL, TensorProto.UINT8]
)
def test_elements_of_every_width_are_counted_one_by_one(dtype):
    def with_values(*values: int) -> onnx.ModelProto:
        made = model()
        made.graph.initializer.append(helper.make_tensor("v", dtype, [2, 2], values))
        return made

    (found,) = diff.models(with_values(1, 0, 1, 1), with_values(1, 0, 0, 1))

    assert found.startswith("tensor 'v': 1 of 4 elements differs, first at [1, 0]: ")


def test_a_sign_of_zero_and_the_bits_of_a_nan_are_differences():
    def with_bits(bits: int) -> onnx.ModelProto:
        made = model()
        made.graph.initializer.append(numpy_helper.from_array(np.array([bits], np.uint32).view(np.float32), "v"))
        return made

    for before, after in ((0, 1 << 31), (0x7FC00000, 0x7FC00001)):
        (found,) = diff.models(with_bits(before), with_bits(after))
        assert "1 of 1 element differs, first at [0]" in found


def test_strings_are_compared_one_by_one():
    def with_strings(*values: str) -> onnx.ModelProto:
        made = model()
        made.graph.initializer.append(
            helper.make_tensor("v", TensorProto.STRING, [len(values)], [v.encode() for v in values])
        )
        return made

    assert list(diff.models(with_strings("a", "b"), with_strings("a", "\x1b[31mc"))) == [
        r"tensor 'v'[1]: 'b' -> '\x1b[31mc'"
    ]


def large(seed: int) -> onnx.ModelProto:
    made = model()
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    if seed:
        values[3, 7] += 1
    made.graph.initializer.append(numpy_helper.from_array(values, "large"))
    return made


def test_graphs_of_the_store_are_compared_by_the_names_of_their_tensors(tmp_path):
    refs = [modelfile.save(large(seed), None, tmp_path / f"objects{seed}")[0] for seed in (0, 1)]
    before, after = (tmp_path / f"objects{seed}" / refs[seed] for seed in (0, 1))

    (found,) = diff.files(before, after)
    assert found.startswith("tensor 'large': 1 of 4,096 elements differs, first at [3, 7]: ")
    assert list(diff.files(before, before)) == []

    for blob in after.parent.glob("??/*"):
        blob.unlink()
    with pytest.raises(StageError, match="can't be read"):
        list(diff.files(before, after))


def test_published_files_are_compared_by_content_though_their_data_files_have_one_name(tmp_path):
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        onnx.save(
            large(seed),
            tmp_path / str(seed) / "m.onnx",
            save_as_external_data=True,
            location="m.data",
            size_threshold=0,
        )

    (found,) = diff.files(tmp_path / "0/m.onnx", tmp_path / "1/m.onnx")

    assert found.startswith("tensor 'large': 1 of 4,096 elements differs")


def test_names_cannot_reach_the_terminal_raw():
    before, after = model(), model()
    after.graph.node[0].output[0] = after.graph.node[1].input[0] = "\x1b[2J\u202e\n# heading"
    after.graph.initializer[0].name = "\x1b]0;title\x07"

    text = "\n".join(diff.models(before, after))

    assert text and not any(c in text for c in ("\x1b", "\u202e", "\x07")) and "# heading" not in text.split("\n")


@given(st.randoms(use_true_random=False))
def test_any_two_models_that_differ_in_bytes_have_a_difference(rng: random.Random):
    """Whatever byte of the protobuf is another one, if the rest still parses."""
    data_before = model().SerializeToString(deterministic=True)
    data = bytearray(data_before)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    after = onnx.ModelProto()
    try:
        after.ParseFromString(bytes(data))
    except DecodeError:
        return
    known = onnx.ModelProto()
    known.CopyFrom(after)
    known.DiscardUnknownFields()
    with contextlib.suppress(StageError):  # a tensor whose bytes no longer fit its shape
        found = list(diff.models(model(), after))
        assert bool(found) == (known.SerializeToString(deterministic=True) != data_before)


def test_values_in_the_field_of_another_type_are_refused_in_words():
    after = model()
    weight = after.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT)
    weight.int32_data.append(1)

    with pytest.raises(StageError, match="tensor 'w' can't be read"):
        tensors.inline_bytes(weight)
