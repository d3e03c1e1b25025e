"""Each step: the nodes that it adds, run by onnxruntime, give what its definition gives, and that is what it should be."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxbuild.errors import StageError
from onnxbuild.steps import STEPS, chains
from onnxbuild.steps.building import Builder
from onnxbuild.steps.interface import OPSET, Tensor, UnfitError

HEAD = '<domain: "steps", opset_import: ["" : 18]>'
GAMMA = f"{HEAD} gamma (x) => (y) {{ half = Constant <value_float = 0.5> () y = Pow (x, half) }}"


def model(steps, tensors, opset=18) -> onnx.ModelProto:
    """A model of these steps alone, with the inputs x, x1, ..."""
    made = onnx.ModelProto(ir_version=8, opset_import=[onnx.helper.make_opsetid("", opset)])
    made.graph.name = "steps"
    names = ["x", *(f"x{number}" for number in range(1, len(tensors)))]
    for name, tensor in zip(names, tensors, strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        made.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, tensor.shape))
    graph = Builder(made, opset)
    graph.stem = "x"
    others = dict(zip(names[1:], tensors[1:], strict=True))
    results = chains.nodes(graph, ("x", tensors[0]), steps, {name: (name, one) for name, one in others.items()})
    for name, one in zip(results, chains.gives(tensors[0], steps, others, {}), strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype))
        made.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, one.shape))
    made.graph.node.extend(graph.made)
    made.graph.initializer.extend(graph.constants)
    onnx.checker.check_model(made, full_check=True)  # the rule's shapes are those that ONNX infers
    return made


def both(steps, *arrays, opset=18, dynamic=()) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What onnxruntime makes of the nodes, and what the definition gives; some axes of the arrays may be `dynamic`."""
    read = chains.read(steps)
    tensors = [
        Tensor(array.dtype.name, [f"d{axis}" if axis in dynamic else size for axis, size in enumerate(array.shape)])
        for array in arrays
    ]
    session = ort.InferenceSession(model(read, tensors, opset).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    got = session.run(None, dict(zip(names, arrays, strict=True)))
    return got, chains.compute(arrays[0], read, dict(zip(names[1:], arrays[1:], strict=True)))


def numbers(dtype, *shape, high=6, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    floats = np.dtype(dtype).kind == "f"
    return (rng.normal(size=shape) if floats else rng.integers(0, high, size=shape)).astype(dtype)


SAME = [
    ([{"cast": "float16"}], numbers("uint8", 3, 4, high=256)),
    ([{"cast": "int8"}], numbers("float32", 3, 4)),
    ([{"cast": "bool"}], numbers("int64", 3, 4, high=2)),
    ([{"scale": {"factor": 1 / 255}}], numbers("float32", 3, 4)),
    ([{"scale": {"factor": -2, "offset": 0.5}}], numbers("float64", 3, 4)),
    ([{"normalize": {"mean": [1, 2, 3], "std": [2, 4, 5]}}], numbers("float32", 2, 4, 5, 3)),
    ([{"normalize": {"mean": [1, 2, 3], "std": [2], "axis": 1}}], numbers("float32", 2, 3, 4, 5)),
    ([{"normalize": {"mean": [127], "std": [128]}}], numbers("float16", 5)),
    ([{"layout": "NHWC->NCHW"}], numbers("uint8", 2, 4, 5, 3)),
    ([{"channels": {"order": [2, 0]}}], numbers("uint8", 2, 4, 5, 3)),
    ([{"channels": {"order": [2, 1, 0], "axis": 1}}], numbers("float32", 2, 3, 4, 5)),
    ([{"softmax": {"axis": 1}}], numbers("float32", 2, 3, 4)),
    ([{"argmax": {}}], numbers("uint8", 4, 9)),
    ([{"argmax": {"axis": 0, "keepdims": True}}], numbers("int32", 9, 4)),
    ([{"top_k": {"k": 5}}], numbers("int64", 4, 9)),
    ([{"top_k": {"k": 2, "axis": 0}}], numbers("float32", 9, 4)),
    ([{"scale": {"factor": 0}}, {"top_k": {"k": 3}}], numbers("float64", 2, 9)),
    ([{"function": {"text": GAMMA}}], numbers("float32", 3, 4) ** 2),
    ([{"softmax": {}}, {"layout": "AB->BA"}, {"argmax": {"axis": 0}}], numbers("float32", 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "array"),
    SAME,
    ids=lambda one: " ".join(key for step in one for key in step) if isinstance(one, list) else "",
)
def test_the_nodes_compute_what_the_definition_says(steps, array):
    for dynamic in ((), (0,)):
        got, defined = both(steps, array, dynamic=dynamic)
        for one, other in zip(got, defined, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            np.testing.assert_allclose(one, other, rtol=2e-3 if one.dtype == np.float16 else 1e-6, atol=1e-6)


@pytest.mark.parametrize("opset", [OPSET, 17, 18, 22])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_resize_at_many_sizes(mode, opset):
    x = numbers("float32", 2, 7, 9, 3)
    for size in ([5, 12], [7, 9], [1, 1], [16, 4]):
        for dynamic in ((), (0, 1)):
            got, defined = both([{"resize": {"size": size, "mode": mode}}], x, opset=opset, dynamic=dynamic)
            np.testing.assert_allclose(got[0], defined[0], atol=1e-5)
    got, defined = both(
        [{"resize": {"size": [4, 11], "mode": mode, "axes": [2, 3]}}], numbers("float32", 2, 3, 9, 5), opset=opset
    )
    np.testing.assert_allclose(got[0], defined[0], atol=1e-5)


def test_resize_by_hand():
    row = np.array([[[0.0], [10.0], [20.0], [30.0]]], np.float32)
    halved = chains.compute(row, chains.read([{"resize": {"size": [2], "axes": [1]}}]), {})[0]
    doubled = chains.compute(row[:, :2], chains.read([{"resize": {"size": [4], "axes": [1]}}]), {})[0]
    nearest = chains.compute(
        row.astype(np.uint8), chains.read([{"resize": {"size": [2], "axes": [1], "mode": "nearest"}}]), {}
    )[0]

    assert halved.ravel().tolist() == [5.0, 25.0]
    assert doubled.ravel().tolist() == [0.0, 2.5, 7.5, 10.0]
    assert nearest.ravel().tolist() == [0, 20]  # two are as near: the lower one


def test_of_equal_values_the_lower_index_comes_first():
    values, indices = chains.compute(
        np.array([[1.0, 3.0, 3.0, 2.0, 3.0]], np.float32), chains.read([{"top_k": {"k": 4}}]), {}
    )

    assert values.tolist() == [[3.0, 3.0, 3.0, 2.0]]
    assert indices.tolist() == [[1, 2, 4, 3]]


def test_nms_by_hand():
    boxes = np.array([[[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [30, 30, 20, 20]]], np.float32)
    scores = np.array([[[0.8, 0.9, 0.3, 0.4], [0.1, 0.05, 0.0, 0.0]]], np.float32)
    steps = {"scores": "x1", "max_output_boxes_per_class": 2, "iou_threshold": 0.5, "score_threshold": 0.07}
    got, defined = both([{"nms": steps}], boxes, scores)

    assert defined[0].tolist() == [[0, 0, 1], [0, 0, 3], [0, 1, 0]]
    assert got[0].tolist() == defined[0].tolist()


@pytest.mark.parametrize("center", [False, True])
def test_nms_on_crowds_with_equal_scores(center):
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes = rng.integers(0, 8, size=(2, 12, 4)).astype(np.float32)
        scores = rng.integers(0, 6, size=(2, 3, 12)).astype(np.float32) / 6
        options = {"scores": "x1", "max_output_boxes_per_class": int(rng.integers(1, 6)), "center_point_box": center}
        got, defined = both([{"nms": {**options, "iou_threshold": float(rng.random())}}], boxes, scores)
        assert got[0].tolist() == defined[0].tolist()


def test_every_step_is_tried_here():
    tried = {name for steps, _ in SAME for step in steps for name in step}

    assert {*tried, "resize", "nms"} == set(STEPS)


def of(text) -> str:
    """What is said of a function's text, as a step of a graph of opset 18."""
    with pytest.raises(StageError) as caught:
        model(chains.read([{"function": {"text": text}}]), [Tensor("float32", [2, 3])])
    return f"{caught.value.fact}; {caught.value.hint}"


def test_a_function_that_is_none_is_refused_with_what_one_looks_like():
    form = 'such as <domain: "steps", opset_import: ["" : 18]> gamma (x) => (y) { y = Sqrt (x) }'
    head = '<domain: "steps", opset_import: ["" : 18, "acme" : 1]> f'

    assert of("gamma (x)").startswith("the text of a function can't be read: ")
    assert of("gamma (x)").endswith(form)
    assert of(f"{head} (x) => (y) {{ y = Abs x }}") == (
        "the text of a function can't be read: at line 1, column 79: Expected character ( not found.; " + form
    )
    assert (
        of(f"{head} (x, z) => (y) {{ y = Add (x, z) }}") == f"function 'f' has 2 inputs, and a step takes one; {form}"
    )
    assert (
        of(f"{head} <a> (x) => (y) {{ y = Elu <alpha: float = @a> (x) }}") == f"function 'f' has attributes: a; {form}"
    )
    assert (
        of(f"{head} (x) => (y, z) {{ y = Abs (x) z = Neg (x) }}")
        == f"function 'f' has 2 outputs, and gives says 1; {form}"
    )
    assert (
        of('<domain: "steps"> f (x) => (y) { y = Abs (x) }')
        == f"function 'f' does not say of which opset its operators are; {form}"
    )
    assert of(f"{head} (x) => (y) {{ y = acme.Op (x) }}") == f"function 'f' uses operators of acme; {form}"
    assert of(f"{head} (x) => (x) {{ y = Abs (x) }}") == f"function 'f' gives 'x', which no node makes; {form}"
    assert (
        of(GAMMA.replace("18", "17"))
        == "function 'gamma' is of opset 17, the graph of 18; write opset_import: [\"\" : 18]"
    )


@pytest.mark.parametrize(
    ("body", "gives", "fact", "hint"),
    [
        ("Cast <to = 7> (x)", [],
         "function 'f' gives int64 [2, 3], and without gives it is to be as what goes in, float32 [2, 3]",
         "write gives: ['int64[2, 3]'], with the names of axes that are dynamic"),
        ("Transpose (x)", [], "function 'f' gives float32 [3, 2], and without gives", "write gives: ['float32[3, 2]']"),
        ("Transpose (x)", ["float32[n, 3]"], "function 'f' gives float32 [3, 2], and gives says float32 [n, 3]",
         "write gives: ['float32[3, 2]']"),
        ("Transpose (x)", ["float32[n]"], "function 'f' gives float32 [3, 2], and gives says float32 [n]", "write gives"),
    ],
)  # fmt: skip
def test_what_a_function_gives_is_held_against_what_is_said_of_it(body, gives, fact, hint):
    steps = chains.read([{"function": {"text": f"{HEAD} f (x) => (y) {{ y = {body} }}", "gives": gives}}])
    with pytest.raises(StageError) as caught:
        chains.compute(numbers("float32", 2, 3), steps, {})

    assert caught.value.fact.startswith(fact) and caught.value.hint.startswith(hint)


BRANCH = """\
<domain: "steps", opset_import: ["" : 18]> f (x) => (y) {
    one = Constant <value_int = 1> ()
    yes = Cast <to = 9> (one)
    y = If (yes) <
        then_branch = t () => (float[2, 3] p) { q = Abs (x) p = Neg (q) },
        else_branch = e () => (float[2, 3] p) { p = Neg (x) }
    >
}"""


def test_a_function_may_have_comments():
    text = """# f (x) => (y)
<domain: "s#1", opset_import: ["" : 18]>  # > f
f (x) => (y) { # {
    y = Neg (x)
}
# }"""
    got, defined = both([{"function": {"text": text}}], numbers("float32", 2, 3))

    assert (
        np.array_equal(got, defined)
        and STEPS["function"].opset(chains.read([{"function": {"text": text}}])[0][1]) == 18
    )


def test_values_within_branches_of_a_function_get_names_of_their_own():
    text = BRANCH.replace("q", "x1")
    read = chains.read([{"function": {"text": text}}] * 2)  # two of the same, in a model that has an x1
    made = model(read, [Tensor("float32", [2, 3])] * 2)
    x = numbers("float32", 2, 3)
    (got,) = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x, "x1": x}
    )

    assert np.array_equal(got, -np.abs(x))
    assert np.array_equal(chains.compute(x, read, {})[0], got)


def test_operators_of_others_are_found_within_branches():
    assert of(BRANCH.replace("q = Abs", "q = acme.Op")).startswith("function 'f' uses operators of acme; such as ")


@pytest.mark.parametrize(
    ("dtype", "step", "fact"),
    [
        ("float16", {"scale": {"factor": 1e5}}, "factor 100000 is infinite in float16"),
        ("float16", {"scale": {"factor": 1e-9}}, "factor 1e-09 is 0 in float16"),
        ("float32", {"scale": {"factor": 1.0, "offset": -1e39}}, "offset -1e+39 is infinite in float32"),
        ("float16", {"normalize": {"mean": [7e4], "std": [1]}}, "mean 70000 is infinite in float16"),
        ("float16", {"normalize": {"mean": [0], "std": [1, 1e-9]}}, "std 1e-09 is 0 in float16"),
    ],
)
def test_numbers_that_the_dtype_does_not_hold_are_refused(dtype, step, fact):
    with pytest.raises(UnfitError) as caught:
        chains.gives(Tensor(dtype, [4, 2]), chains.read([step]), {}, {})

    wider = "float32" if dtype == "float16" else "float64"
    assert (caught.value.fact, caught.value.hint) == (fact, f"put {{cast: {wider}}} before it")


def test_a_function_that_the_evaluator_refuses():
    text = f"{HEAD} f (x) => (y) {{ y = Add (x, z) }}"
    with pytest.raises(StageError) as caught:
        chains.compute(numbers("float32", 2, 3), chains.read([{"function": {"text": text}}]), {})

    assert caught.value.fact.startswith("function 'f' can't be run: ")
    assert caught.value.hint == "run it by onnx.reference.ReferenceEvaluator, which is its definition"


@pytest.mark.parametrize(
    "step", [{"argmax": {"axis": 0}}, {"softmax": {"axis": 0}}, {"resize": {"size": [3], "axes": [0]}}]
)
def test_an_axis_that_may_be_empty_has_no_largest_value_and_no_middle(step):
    tensor, steps = Tensor("float32", ["n", 2]), chains.read([step])
    assert chains.gives(tensor, steps, {}, {"n": 1})
    with pytest.raises(UnfitError) as caught:
        chains.gives(tensor, steps, {}, {"n": 0})

    assert (caught.value.fact, caught.value.hint) == ("axis 0 may have the size 0 (n)", "let n start at 1")


def test_the_rule_names_the_step():
    with pytest.raises(UnfitError) as caught:
        chains.gives(Tensor("uint8", [2, "n"]), chains.read([{"cast": "float32"}, {"top_k": {"k": 3}}]), {}, {"n": 2})

    assert (caught.value.step, str(caught.value)) == (1, "k is 3, and axis 1 has 2 at least (n)")
