from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnxbuild.graphs import canonical

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
# One graph, as two runs of a converter may give it: other names, another order, another survivor of two equal outputs.
ONE = """
g (float[unk__1, 2] a, float[2] b) => (float[unk__2, 2] o1, float[unk__3, 2] o2)
<float[2] w__7 = {1, 2}, float[2] v = {3, 4}, float[2] unused = {0, 0}>
{
    dead = Add(a, unused)
    sum__9 = ReduceSum<keepdims=0>(a)
    zero = Constant<value_float=0.0>()
    yes = Greater(sum__9, zero)
    h = Mul(a, w__7)
    o2 = If(yes) <
        then_branch = t1 () => (float[unk__4, 2] p) <float[2] k__3 = {5, 6}> { q = Add(h, k__3)  p = Add(q, v) },
        else_branch = t2 () => (float[unk__5, 2] r) { r = Identity(h) }>
    o1 = Identity(o2)
}"""
OTHER = """
g (float[unk__12, 2] x_0, float[2] y_0) => (float[unk__13, 2] c, float[unk__14, 2] d)
<float[2] bias = {3, 4}, float[2] weight = {1, 2}>
{
    n = Constant<value_float=0.0>()
    h_2 = Mul(x_0, weight)
    s = ReduceSum<keepdims=0>(x_0)
    m = Greater(s, n)
    c = If(m) <
        then_branch = then__31 () => (float[unk__15, 2] e) <float[2] k = {5, 6}> { f = Add(h_2, k)  e = Add(f, bias) },
        else_branch = else__32 () => (float[unk__16, 2] copy) { copy = Identity(h_2) }>
    d = Identity(c)
}"""


def made(text, inputs=("x", "y"), outputs=("first", "second")):
    model = onnx.parser.parse_model(HEAD + text)
    canonical.canonicalise(model, inputs, outputs)
    canonical.forget_dimensions(model, r"unk__\d+")
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, *arrays):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((one.name for one in session.get_inputs()), arrays, strict=True)))


def test_two_that_differ_in_names_and_order_alone_are_one():
    one, other = made(ONE), made(OTHER)
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert [node.name for node in one.graph.node] == [
        "ReduceSum", "Constant", "Greater", "Mul", "If", "Identity_1"
    ]  # fmt: skip
    assert [tensor.name for tensor in one.graph.initializer] == ["Add_1.1", "Mul.1"]
    then = next(attribute.g for attribute in one.graph.node[4].attribute if attribute.name == "then_branch")
    assert (then.name, [tensor.name for tensor in then.initializer]) == ("If.then_branch", ["Add.1"])
    assert not re.search(rb"unk__|__\d", one.SerializeToString())


def test_what_is_computed_stays(tmp_path):
    before = onnx.parser.parse_model(HEAD + ONE)
    for sign in (1, -1):
        x = sign * np.abs(np.random.default_rng(0).standard_normal((3, 2), np.float32))
        for got, expected in zip(run(made(ONE), x, x[0]), run(before, x, x[0]), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_it_is_itself_already():
    once = made(ONE)
    before = once.SerializeToString(deterministic=True)
    canonical.canonicalise(once, ("x", "y"), ("first", "second"))
    assert once.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("g (float[2] a) => (float[2] b) { c = Identity(a)  b = Identity(c) }", ["Identity"]),
        ("g (float[2] a) => (float[2] b) { c = Identity(a)  d = Relu(c)  b = Identity(d) }", ["Relu"]),
        ("g () => (float[2] b) <float[2] b = {1, 2}> { }", ["Identity"]),
        ("g (float[2] a) => (float[2] b) { b = Sum(a, a) }", ["Sum"]),
    ],
)
def test_copies_are_where_an_output_needs_one(body, kept):
    names = ("in",) if "a)" in body.partition("=>")[0] else ()
    model = made(body, names, ("out",))
    assert [node.op_type for node in model.graph.node] == kept
    run(model, *(np.ones(2, np.float32) for _ in names))


def test_a_name_that_is_wanted_twice_gets_a_number():
    model = made(
        "g (float[2] a) => (float[2] b) <float[2] w = {1, 2}> { c = Add(a, w)  b = Add(c, w) }", ["Add.1"], ["Add:0"]
    )
    assert [tensor.name for tensor in model.graph.initializer] == ["Add.1_1"]
    assert list(model.graph.node[1].input) == ["Add:0_1", "Add.1_1"]


def test_a_loop_keeps_its_own_values_and_takes_those_around_it():
    model = made(
        """
        g (float[2] a, int64 n) => (float[2] b)
        <float[2] step = {1, 2}, bool go = {1}>
        {
            b = Loop(n, go, a) <body = l (int64 i, bool c, float[2] h) => (bool c2, float[2] h2) <float[2] k = {1, 1}> {
                c2 = Identity(c)
                t = Add(h, step)
                h2 = Add(t, k)
            }>
        }""",
        ("a", "n"),
        ("b",),
    )
    (got,) = run(model, np.zeros(2, np.float32), np.array(3, np.int64))
    assert got.tolist() == [6, 9]
    body = model.graph.node[0].attribute[0].g
    assert [value.name for value in body.input] == ["Loop.body.0", "Loop.body.1", "Loop.body.2"]
    assert sorted(tensor.name for tensor in model.graph.initializer) == ["Add.1", "Loop.1"]
