"""The interpreter of MIL against onnxruntime: graphs of a few operators, converted, and what the package computes.

A graph is ONNX text; its inputs are drawn. `{~}` in it stands for numbers that are drawn as well.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("onnx2coreml", reason="the extra `coreml` is not installed")

from onnxbuild.contracts import Opened, Shapes
from onnxbuild.errors import StageError
from onnxbuild.runtimes import mil
from onnxbuild.targets import coreml
from onnxbuild.targets import coreml_package as package

GRAPHS = {
    "unary": """(float[2,3,4] x) => (float[2,3,4] a, float[2,3,4] b, float[2,3,4] c, float[2,3,4] d, float[2,3,4] e,
        float[2,3,4] f, float[2,3,4] g, float[2,3,4] h, float[2,3,4] i)
        { a = Sin(x) b = Cos(x) c = Erf(x) d = Floor(x) e = Ceil(x) f = Round(x) g = Sign(x) h = Neg(x) i = Abs(x) }""",
    "angles": """(float[2,3] x) => (float[2,3] a, float[2,3] b, float[2,3] c, float[2,3] d, float[2,3] e, float[2,3] f,
        float[2,3] g) { t = Tanh(x) a = Asin(t) b = Acos(t) c = Atan(x) d = Atanh(t) e = Sinh(x) f = Cosh(x) g = Tan(t) }""",
    "arithmetic": """(float[2,3,4] x, float[3,1] z) => (float[2,3,4] a, float[2,3,4] b, float[2,3,4] c, float[2,3,4] d,
        float[2,3,4] e, float[2,3,4] f, float[2,3,4] g) <float two = {2}>
        { a = Add(x,z) b = Sub(x,z) c = Mul(x,z) d = Div(x,z) e = Max(x,z)
          f = Pow(x,two) p = Exp(x) q = Sqrt(p) g = Log(q) }""",
    "comparisons": """(float[2,3] x, float[2,3] z) => (float[2,3] y, bool[2,3] k) {
        a = Greater(x,z) b = Less(x,z) c = Equal(x,z) d = GreaterOrEqual(x,z) e = LessOrEqual(x,z) f = And(a,d) h = Or(f,c)
        i = Xor(h,b) j = Not(e) k = And(i,j) l = Where(a,x,z) m = Cast<to=1>(k) n = Min(x,z) o = Add(l,m) y = Add(o,n) }""",
    "integers": """(int64[2,3] x) => (int64[2,3] y, int64[2,3] w) <int64 three = {3}, int64 two = {2}>
        { y = Mod(x, three) w = Div(x, two) }""",
    "activations": """(float[2,3,4,4] x) => (float[2,3,4,4] a, float[2,3,4,4] b, float[2,3,4,4] c, float[2,3,4,4] d,
        float[2,3,4,4] e, float[2,3,4,4] f, float[2,3,4,4] g, float[2,3,4,4] h) <float lo = {-0.5}, float hi = {0.5}>
        { a = Sigmoid(x) b = LeakyRelu<alpha=0.1>(x) c = Elu<alpha=0.7>(x) d = HardSigmoid(x) e = Softplus(x)
          f = Clip(x,lo,hi) g = Softmax<axis=1>(x) h = HardSwish(x) }""",
    "gelu": "(float[2,3,4] x) => (float[2,3,4] y) { y = Gelu(x) }",
    "prelu": "(float[2,3,4,4] x) => (float[2,3,4,4] y) <float[3,1,1] s = {0.1,0.2,0.3}> { y = PRelu(x,s) }",
    "conv": """(float[2,4,9,8] x) => (float[2,6,N,M] y) <float[6,2,3,3] w = {~}, float[6] b = {~}>
        { y = Conv<group=2, strides=[2,1], pads=[1,0,2,1], dilations=[1,2]>(x,w,b) }""",
    "conv, 1 axis, padded by itself": """(float[2,2,9] x) => (float[2,3,N] y) <float[3,2,3] w = {~}>
        { y = Conv<auto_pad="SAME_UPPER", strides=[2]>(x,w) }""",
    "conv, even kernel, padded before": """(float[2,2,9,10] x) => (float[2,3,N,M] y) <float[3,2,2,4] w = {~}>
        { y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x,w) }""",
    "conv transposed": """(float[2,4,5,6] x) => (float[2,6,N,M] y) <float[4,3,3,2] w = {~}, float[6] b = {~}>
        { y = ConvTranspose<group=2, strides=[2,2], pads=[1,0,0,1]>(x,w,b) }""",
    "conv transposed, wider": """(float[2,2,5,6] x) => (float[2,3,N,M] y) <float[2,3,3,3] w = {~}>
        { y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x,w) }""",
    "pools": """(float[2,4,9,8] x) => (float[2,4,A,B] a, float[2,4,C,D] b, float[2,4,E,F] c, float[2,4,G,H] d,
        float[2,4,1,1] e)
        { a = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)
          b = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)
          c = AveragePool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)
          d = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)
          e = GlobalAveragePool(x) }""",
    "norms": """(float[2,3,4,4] x) => (float[2,3,4,4] a, float[2,3,4,4] b, float[2,3,4,4] c, float[2,3,4,4] d)
        <float[3] s = {~}, float[3] o = {~}, float[3] m = {~}, float[3] v = {1,2,0.5}, float[4] g = {~}, float[4] h = {~}>
        { a = BatchNormalization(x,s,o,m,v) b = InstanceNormalization(x,s,o) c = LayerNormalization(x,g,h)
          d = LayerNormalization(x,g) }""",
    "reductions": """(float[2,3,4] x) => (float[2,1,4] a, float[2,3] b, float[2,3,1] c, float[2,1,4] d, float[1,1,1] e,
        float[2,3,1] f, float[2,3,1] g, float[2,3,1] h, float[2,3,1] i, float[2,3,1] j)
        <int64[1] one = {1}, int64[1] two = {2}>
        { a = ReduceMean(x,one) b = ReduceSum<keepdims=0>(x,two) c = ReduceMax(x,two) d = ReduceMin(x,one) e = ReduceProd(x)
          f = ReduceL2(x,two) g = ReduceL1(x,two) p = Abs(x) h = ReduceLogSum(p,two)
          i = ReduceLogSumExp(x,two) j = ReduceSumSquare(x,two) }""",
    "places": """(float[2,7] x) => (int64[1,7] a, int64[2] b, float[2,3] c, int64[2,3] d, float[2,3] e) <int64[1] k = {3}>
        { a = ArgMax<axis=0>(x) b = ArgMin<axis=1,keepdims=0>(x) c,d = TopK(x,k) e,f = TopK<largest=0>(x,k) }""",
    "products": """(float[2,3,4] x, float[2,4,5] z) => (float[2,3,5] y, float[6,3] w)
        <float[4,3] m = {~}, float[3] b = {~}, int64[2] s = {6,4}> { y = MatMul(x,z) r = Reshape(x,s) w = Gemm(r,m,b) }""",
    "attention": """(float[2,3,5,4] x, float[2,3,5,4] z, float[2,3,5,4] v) => (float[2,3,5,4] y) <float s = {0.5}>
        { k = Transpose<perm=[0,1,3,2]>(z) a = MatMul(x,k) b = Mul(a,s) c = Softmax<axis=-1>(b) y = MatMul(c,v) }""",
    "shapes": """(float[2,3,4] x) => (float[4,2,3] a, float[2,12] b, float[1,2,3,4] c, float[2,3,4] d, float[6,4] e,
        float[2,3,8] f, float[2,3,4] h) <int64[1] z = {0}, int64[2] s = {6,-1}>
        { a = Transpose<perm=[2,0,1]>(x) b = Flatten(x) c = Unsqueeze(x,z) d = Squeeze(c,z) e = Reshape(x,s)
          f = Concat<axis=2>(x,x) g = Shape(x) i = ConstantOfShape(g) h = Add(x,i) }""",
    "slices": """(float[4,5,6] x) => (float[2,5,3] a, float[4,5,6] b, float[4,2,6] c, float[4,3,6] d)
        <int64[2] st = {1,5}, int64[2] en = {3,0}, int64[2] ax = {0,2}, int64[2] sp = {1,-2}, int64[1] s1 = {-1},
         int64[1] e1 = {-9}, int64[1] a1 = {1}, int64[2] sz = {2,3}>
        { a = Slice(x,st,en,ax,sp) b = Slice(x,s1,e1,a1,s1) c,d = Split<axis=1>(x,sz) }""",
    "pads": """(float[2,3,4,5] x) => (float[2,3,A,B] a, float[2,3,A,B] b, float[2,3,A,B] c)
        <int64[8] p = {0,0,1,2,0,0,2,1}, float v = {0.5}>
        { a = Pad(x,p,v) b = Pad<mode="reflect">(x,p) c = Pad<mode="edge">(x,p) }""",
    "gathering": """(float[4,5,6] x, int64[2,3] i) => (float[4,2,3,6] a, float[2,5,6] b, float[2,6] c)
        <int64[2,5,6] j = {~}, int64[2,2] k = {0,1,3,4}>
        { a = Gather<axis=1>(x,i) b = GatherElements<axis=0>(x,j) c = GatherND(x,k) }""",
    "scattering": """(float[4,5] x, float[2,5] u, float[2] w) => (float[4,5] a, float[4,5] b, float[4,5] c, float[4,5] d)
        <int64[2,5] i = {0,1,2,3,1,1,2,0,0,0}, int64[2,2] j = {0,1,3,4}>
        { a = ScatterElements<axis=0>(x,i,u) b = ScatterND(x,j,w) c = ScatterElements<axis=0,reduction="add">(x,i,u)
          d = ScatterND<reduction="mul">(x,j,w) }""",
    "blocks": """(float[2,8,4,6] x) => (float[2,2,8,12] a, float[2,32,2,3] b, float[2,2,8,12] c)
        { a = DepthToSpace<blocksize=2>(x) b = SpaceToDepth<blocksize=2>(x) c = DepthToSpace<blocksize=2,mode="CRD">(x) }""",
    "repeats": """(float[3,1] x) => (float[2,3,4] a, float[6,2] b) <int64[3] s = {2,3,4}, int64[2] r = {2,2}>
        { a = Expand(x,s) b = Tile(x,r) }""",
    "resizing": """(float[1,2,5,6] x) => (float[1,2,10,12] a, float[1,2,10,12] b, float[1,2,7,9] c, float[1,2,10,12] d,
        float[1,2,7,9] e, float[1,2,7,9] f) <float[0] n = {}, float[4] s = {1,1,2,2}, int64[4] z = {1,2,7,9}>
        { a = Resize<mode="nearest",nearest_mode="floor",coordinate_transformation_mode="asymmetric">(x,n,s)
          b = Resize<mode="linear">(x,n,s) c = Resize<mode="linear">(x,n,n,z)
          d = Resize<mode="linear",coordinate_transformation_mode="align_corners">(x,n,s)
          e = Resize<mode="linear",coordinate_transformation_mode="asymmetric">(x,n,n,z)
          f = Resize<mode="nearest",nearest_mode="floor",coordinate_transformation_mode="asymmetric">(x,n,n,z) }""",
    "sampling": """(float[1,2,5,6] x, float[1,3,4,2] z) => (float[1,2,3,4] a, float[1,2,3,4] b, float[1,2,3,4] c)
        { a = GridSample(x,z) b = GridSample<padding_mode="border",align_corners=1>(x,z)
          c = GridSample<padding_mode="reflection">(x,z) }""",
    "lstm": """(float[5,2,3] x) => (float[5,2,2,4] y, float[2,2,4] h, float[2,2,4] c)
        <float[2,16,3] w = {~}, float[2,16,4] r = {~}, float[2,32] b = {~}>
        { y,h,c = LSTM<hidden_size=4,direction="bidirectional">(x,w,r,b) }""",
    "what the target converts itself": """(float[4,5] x) => (float[4,5] a, float[4,5] b, float[4,5] c, float[4,5] d,
        float[2] e) <float one = {1}, int64 i = {1}, int64 o = {0}, float z = {0}, float big = {-3e38},
         int64[2,2] k = {0,1,3,4}>
        { p = Abs(x) q = Add(p,one) a = Reciprocal(q) b = Gelu<approximate="tanh">(x) s = Shape(x) n = Gather(s,i)
          r = Range(o,n,i) f = Cast<to=1>(r) c = Add(x,f) g = Greater(x,z) d = Where(g,z,big) h = GatherND(g,k)
          e = Cast<to=1>(h) }""",
    "outputs that are constants, and inputs that nothing reads": """(float[2,3] x, float[2] q) => (float[2] y, float[2,3] z)
        <float[2] k = {1,2}> { y = Identity(k) z = Relu(x) }""",
}  # fmt: skip


def graph(text: str, opset: int = 20) -> onnx.ModelProto:
    drawn = np.random.default_rng(1)

    def numbers(found: re.Match) -> str:
        count = int(np.prod([int(size) for size in found[3].split(",")]))
        made = drawn.normal(size=count).round(3) if found[2] == "float" else drawn.integers(0, 3, count)
        return f"{found[1]}{{{', '.join(map(str, made))}}}"

    text = re.sub(r"((float|int64)\[([\d,]+)\] \w+ = )\{~\}", numbers, text)
    made = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> g {text}')
    onnx.checker.check_model(made)
    return made


def drawn(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    feed = {}
    for value in model.graph.input:
        kept = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kept.elem_type)
        shape = [dim.dim_value for dim in kept.shape.dim]
        feed[value.name] = (rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 3, shape)).astype(dtype)
    return feed


def made(model: onnx.ModelProto, folder, **options) -> tuple[Opened, dict[str, np.ndarray]]:
    """The package of a model, opened, and what went into onnxruntime."""
    feed = drawn(model)
    onnx.save(model, folder / "g.onnx")
    (folder / "coreml").mkdir()
    shapes = Shapes({name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in feed.items()})
    coreml.build(folder / "g.onnx", coreml.Options(**options), folder / "coreml", shapes)
    return mil.open(folder / "coreml", {}, [value.name for value in model.graph.output]), feed


def expected(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [value.name for value in model.graph.output]
    return dict(zip(names, onnxruntime.InferenceSession(model.SerializeToString()).run(names, feed), strict=True))


def off(got: np.ndarray, reference: np.ndarray) -> float:
    """How far an output is from onnxruntime's at most, in parts of 1 and of the value."""
    assert got.shape == reference.shape
    apart = np.abs(got.astype(np.float64) - reference.astype(np.float64)) / (1 + np.abs(reference))
    return float(apart.max(initial=0.0))


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The outputs of all graphs as one model, by the interpreter and by onnxruntime: a conversion takes half a second."""
    whole = onnx.ModelProto()
    for number, text in enumerate(GRAPHS.values()):
        one = onnx.compose.add_prefix(graph(text), f"g{number}_")
        if not number:
            whole.CopyFrom(one)
            continue
        for field in ("node", "initializer", "input", "output"):
            getattr(whole.graph, field).extend(getattr(one.graph, field))
    opened, feed = made(whole, tmp_path_factory.mktemp("mil"), compute_precision="FLOAT32")
    assert opened.refused == ""
    return opened.call(feed), expected(whole, feed)


@pytest.mark.parametrize("name", GRAPHS)
def test_operators_compute_what_onnxruntimes_do(name, together):
    got, reference = together
    own = [output for output in reference if output.startswith(f"g{list(GRAPHS).index(name)}_")]

    assert own
    assert {output: off(got[output], reference[output]) for output in own} == pytest.approx(
        dict.fromkeys(own, 0), abs=2e-6
    )


@pytest.mark.parametrize("system", ["iOS15", "iOS18"])
def test_operators_of_other_systems_in_half_precision(system, tmp_path):
    """Each system has operators of its own, and those before it lack some parameters."""
    both = GRAPHS["attention"].rpartition("}")[0].replace("=> (", "=> (int64[2,1,5,4] w, ") + " w = ArgMax<axis=1>(x) }"
    model = graph(both)
    opened, feed = made(model, tmp_path, minimum_deployment_target=system)

    got, reference = opened.call(feed), expected(model, feed)

    assert 1e-6 < off(got["y"], reference["y"]) < 3e-3  # rounded to float16, and not lost
    assert off(got["w"], reference["w"]) == 0


def test_a_result_beyond_float16_shows(tmp_path):
    model = graph(
        "(float[3] x) => (float[3] y) <float k = {300}> { a = Mul(x,k) b = Mul(a,k) c = Div(b,k) y = Div(c,k) }"
    )
    half, _ = made(model, tmp_path)
    x = np.array([1, -2, 3], np.float32)

    assert np.isinf(half.call({"x": x})["y"]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            """(float[5,2,3] x) => (float[5,1,2,4] y) <float[1,16,3] w = {~}, float[1,16,4] r = {~}>
            { y,h,c = LSTM<hidden_size=4,direction="reverse">(x,w,r) }""",
            "the interpreter of MIL has no lstm with direction reverse",
        ),
        ("(float[2,3] x) => (int64[2,N] y) { y = NonZero(x) }", "the interpreter of MIL has no non_zero"),
    ],
)
def test_what_is_not_interpreted_is_named(text, said, tmp_path):
    opened, _ = made(graph(text), tmp_path)

    assert opened.refused == said


def test_numbers_that_the_package_has_no_type_for_are_refused(tmp_path):
    opened, _ = made(graph("(int64[2] x) => (int64[2] y) <int64 one = {1}> { y = Add(x, one) }"), tmp_path)

    with pytest.raises(StageError, match="input 'x' is int32, and was given numbers beyond it"):
        opened.call({"x": np.array([1, 2**40])})
    with pytest.raises(StageError, match=r"input 'x' is bound to \[2\], and was given \[3\]"):
        opened.call({"x": np.array([1, 2, 3])})


def test_weights_that_are_not_the_programs_are_found(tmp_path):
    made(graph("(float[2,64] x) => (float[2,8] y) <float[64,8] w = {~}> { y = MatMul(x, w) }"), tmp_path)
    weights = tmp_path / "coreml" / package.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:64] + bytes(64) + weights.read_bytes()[128:])

    with pytest.raises(StageError, match=r"weight.bin has no float16 tensor of the shape \[64, 8\] at 64"):
        mil.open(tmp_path / "coreml", {}, ["y"])
