"""Models in and out of the store's form: same bytes for equal models, same outputs, nothing lost."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, modelfile, normalise, tensors

TEXT = """
<ir_version: 8, opset_import: ["local": 1, "": 18], producer_name: "test">
g (float[n, 32] x, bool flag) => (float[n, 32] y) {
    h = MatMul(x, w)
    c = Constant<value = float {1.0}>()
    k = Add(h, c)
    l = local.scale(k)
    y = If (flag) <
        then_branch = t () => (float[n, 32] o) { d = Constant<value = float {1.0}>() o = Add(l, d) },
        else_branch = e () => (float[n, 32] p) { p = Mul(l, v) }
    >
}
<domain: "local", opset_import: ["": 18]>
scale (a) => (b) { s = Constant<value = float {2.0}>() b = Mul(a, s) }
"""


def array(name: str, *shape: int, seed: int = 0) -> TensorProto:
    return numpy_helper.from_array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), name)


def everywhere(width: int = 32) -> onnx.ModelProto:
    """Tensors wherever a model can hold one: initializer, Constant, both branches, a function."""
    model = parser.parse_model(TEXT.replace("32", str(width)))
    node = {n.output[0]: n for n in model.graph.node}
    model.graph.initializer.append(array("w", width, width))
    node["c"].attribute[0].t.CopyFrom(array("c", width, seed=1))
    branches = {a.name: a.g for a in node["y"].attribute}
    branches["then_branch"].node[0].attribute[0].t.CopyFrom(array("d", width, seed=2))
    branches["else_branch"].initializer.append(array("v", width, seed=3))
    model.functions[0].node[0].attribute[0].t.CopyFrom(array("s", width, seed=4))
    return model


def outputs(path: Path | str, **feed: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path)).run(None, feed)


def feeds(width: int) -> list[dict[str, np.ndarray]]:
    x = np.random.default_rng(9).standard_normal((3, width)).astype(np.float32)
    return [{"x": x, "flag": np.array(flag)} for flag in (True, False)]


@pytest.fixture
def saved(tmp_path):
    """A model whose tensors are all large, as a plain file, and in the store: (plain, objects, ref, refs)."""
    model = everywhere(512)
    onnx.save(model, tmp_path / "plain.onnx")
    ref, refs = modelfile.save(model, None, tmp_path / "objects")
    return tmp_path / "plain.onnx", tmp_path / "objects", ref, refs


def test_large_tensors_become_objects_wherever_they_are(saved):
    plain, objects, ref, refs = saved
    expected = [array("", 512, 512), *(array("", 512, seed=s) for s in (1, 2, 3, 4))]

    assert refs == sorted(refs)
    assert {(objects / r).read_bytes() for r in refs} == {t.raw_data for t in expected}
    assert all(hashlib.sha256((objects / r).read_bytes()).hexdigest() == r.replace("/", "") for r in refs)
    assert hashlib.sha256((objects / ref).read_bytes()).hexdigest() + ".onnx" == ref
    assert (objects / ref).stat().st_size < 2500
    onnx.checker.check_model(str(objects / ref), full_check=True)
    for feed in feeds(512):
        np.testing.assert_array_equal(outputs(objects / ref, **feed), outputs(plain, **feed))


@pytest.mark.parametrize("external", [False, True])
def test_write_gives_a_model_that_stands_alone(saved, tmp_path, external):
    plain, objects, ref, _ = saved

    written = modelfile.write(objects / ref, tmp_path / "out" / "model.onnx", external_data=external)

    names = ["model.onnx.data", "model.onnx"] if external else ["model.onnx"]
    assert [path.name for path in written] == names == sorted(names, reverse=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    onnx.checker.check_model(str(written[-1]), full_check=True)
    for feed in feeds(512):
        np.testing.assert_array_equal(outputs(written[-1], **feed), outputs(plain, **feed))


def test_the_streamed_file_is_what_protobuf_would_write(saved, tmp_path):
    _, objects, ref, _ = saved

    (written,) = modelfile.write(objects / ref, tmp_path / "model.onnx")

    assert written.read_bytes() == modelfile.load(objects / ref).SerializeToString(deterministic=True)


def test_save_write_save_comes_back_to_the_same_graph(saved, tmp_path):
    _, objects, ref, refs = saved
    *_, inline = modelfile.write(objects / ref, tmp_path / "inline" / "model.onnx")
    *_, split = modelfile.write(objects / ref, tmp_path / "split" / "model.onnx", external_data=True)

    for path in (inline, split, objects / ref):
        again = tmp_path / path.parent.name / "again"
        assert modelfile.save(modelfile.structure(path), path.parent, again) == (ref, refs)


def test_a_tensor_that_is_an_object_already_is_not_read(saved):
    _, objects, ref, refs = saved
    for r in refs:  # other bytes would give other names, if they were read
        (objects / r).write_bytes(bytes((objects / r).stat().st_size))

    assert modelfile.save(modelfile.structure(objects / ref), objects, objects) == (ref, refs)


def test_normalised_bytes_do_not_depend_on_order():
    def scrambled(seed: int) -> bytes:
        model = everywhere()
        for name in "abcdef":
            model.graph.initializer.append(array(name, 3, seed=ord(name)))
        model.metadata_props.add(key="b", value="2")
        model.metadata_props.add(key="a", value="1")
        shuffle = random.Random(seed).shuffle
        fields = (model.graph.initializer, model.opset_import, model.metadata_props, model.graph.node[-1].attribute)
        for field in fields:
            items = [type(item).FromString(item.SerializeToString()) for item in field]
            shuffle(items)
            del field[:]
            field.extend(items)
        normalise.normalise(model)
        return model.SerializeToString(deterministic=True)

    assert len({scrambled(seed) for seed in range(8)}) == 1


def test_normalise_drops_what_no_runtime_reads_and_keeps_the_rest():
    model = everywhere()
    model.doc_string = model.graph.doc_string = model.graph.node[0].doc_string = "from /home/someone"
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 32]))
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/someone/m.py", line 3')
    model.graph.node[0].metadata_props.add(key="namespace", value=": __main__.M")
    model.graph.node[0].metadata_props.add(key="block", value="3")
    for key, value in {
        "author": "someone",
        "url": "https://example.org/a/b",
        "ratio": "and/or/both",
        "classes": "['/m/0k4j', '/m/01g317']",
        "temporary": "/tmp/x.pt",
        "from": "/home/someone/model.py",
        "windows": r"read C:\models\m.onnx",
        "onnxsim.removed_nodes": "Identity (i)",
        "onnxsim.range.x": "0,1",
    }.items():
        model.metadata_props.add(key=key, value=value)
    model.training_info.add().algorithm.name = "step"

    normalise.normalise(model)

    kept = {entry.key: entry.value for entry in model.metadata_props}
    assert kept == {
        "author": "someone",
        "url": "https://example.org/a/b",
        "ratio": "and/or/both",
        "classes": "['/m/0k4j', '/m/01g317']",
        "onnxsim.range.x": "0,1",
    }
    assert [(e.key, e.value) for e in model.graph.node[0].metadata_props] == [("block", "3")]
    assert b"/home" not in model.SerializeToString()
    assert not model.graph.value_info
    assert model.producer_name == "test"
    assert model.training_info[0].algorithm.name == "step"
    assert [f.name for f in model.functions] == ["scale"]


@pytest.mark.parametrize(
    "value",
    [np.dtype(t) for t in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16")]
    + [TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1],
    ids=str,
)
@pytest.mark.parametrize("count", [3, 2001])
def test_typed_fields_become_raw_bytes_of_every_type(value, count, tmp_path):
    element = value if isinstance(value, int) else helper.np_dtype_to_tensor_dtype(value)
    raw = numpy_helper.from_array(
        np.random.default_rng(0).integers(0, 2, count).astype(helper.tensor_dtype_to_np_dtype(element)), "w"
    )
    array_ = numpy_helper.to_array(raw)
    typed = helper.make_tensor("w", element, [count], array_)
    assert not typed.HasField("raw_data")
    model = helper.make_model(helper.make_graph([], "g", [], [], [typed]))

    ref, refs = modelfile.save(model, None, tmp_path)

    (kept,) = modelfile.load(tmp_path / ref).graph.initializer
    assert kept.raw_data == raw.raw_data
    assert tensors.nbytes(kept) == len(raw.raw_data)
    assert len(refs) == (len(raw.raw_data) >= modelfile.INLINE_BELOW)
    np.testing.assert_array_equal(numpy_helper.to_array(kept), array_)


def test_strings_stay_in_the_graph(tmp_path):
    words = helper.make_tensor("w", TensorProto.STRING, [2], [b"x" * 3000, b"y"])
    model = helper.make_model(helper.make_graph([], "g", [], [], [words]))

    ref, refs = modelfile.save(model, None, tmp_path)

    assert refs == []
    assert list(modelfile.load(tmp_path / ref).graph.initializer[0].string_data) == [b"x" * 3000, b"y"]


def test_an_empty_tensor_stays_empty(tmp_path):
    none = helper.make_tensor("w", TensorProto.INT64, [0], [])
    model = helper.make_model(helper.make_graph([], "g", [], [], [none]))

    ref, refs = modelfile.save(model, None, tmp_path)

    kept = modelfile.structure(tmp_path / ref).graph.initializer[0]
    assert (refs, kept.raw_data, list(kept.dims), kept.HasField("raw_data")) == ([], b"", [0], True)


def test_external_data_from_onnx_and_onnx_ir_is_read_with_offsets(tmp_path):
    import onnx_ir

    model = everywhere()
    expected = modelfile.save(everywhere(), None, tmp_path / "objects")
    onnx.save(
        onnx.ModelProto.FromString(model.SerializeToString()), tmp_path / "one.onnx",
        save_as_external_data=True, location="one.bin", size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    (tmp_path / "deep").mkdir()
    onnx_ir.save(onnx_ir.from_proto(model), tmp_path / "two.onnx", external_data="deep/two.bin", size_threshold_bytes=0)

    for name in ("one.onnx", "two.onnx"):
        structure = modelfile.structure(tmp_path / name)
        assert sum(map(tensors.is_external, tensors.large_candidates(structure))) >= 2
        assert modelfile.save(structure, tmp_path, tmp_path / "objects") == expected


def test_tied_weights_lie_once_in_the_store_and_in_the_data_file(tmp_path):
    model = helper.make_model(
        helper.make_graph([], "g", [], [], [array("a", 1000), array("b", 1000), array("c", 500, seed=1)])
    )

    ref, refs = modelfile.save(model, None, tmp_path / "objects")
    data, _ = modelfile.write(tmp_path / "objects" / ref, tmp_path / "model.onnx", external_data=True)

    assert len(refs) == 2
    assert data.stat().st_size < 6100
    loaded = {t.name: t.raw_data for t in modelfile.load(tmp_path / "model.onnx").graph.initializer}
    assert loaded == {
        "a": array("", 1000).raw_data,
        "b": array("", 1000).raw_data,
        "c": array("", 500, seed=1).raw_data,
    }


def test_large_tensors_start_on_a_page_of_the_data_file(tmp_path):
    initializers = [array("a", 301), array("b", 300_000, seed=1), array("c", 301, seed=2)]
    ref, _ = modelfile.save(
        helper.make_model(helper.make_graph([], "g", [], [], initializers)), None, tmp_path / "objects"
    )

    modelfile.write(tmp_path / "objects" / ref, tmp_path / "model.onnx", external_data=True)

    model = modelfile.structure(tmp_path / "model.onnx")
    offsets = {t.name: int({e.key: e.value for e in t.external_data}["offset"]) for t in model.graph.initializer}
    assert offsets == {"a": 0, "b": 65536, "c": 65536 + 1_200_000}


def test_without_large_tensors_there_is_no_data_file(tmp_path):
    ref, _ = modelfile.save(everywhere_small(), None, tmp_path / "objects")

    assert modelfile.write(tmp_path / "objects" / ref, tmp_path / "model.onnx", external_data=True) == [
        tmp_path / "model.onnx"
    ]


def everywhere_small() -> onnx.ModelProto:
    return parser.parse_model('<ir_version: 8, opset_import: ["": 18]> g (float[2] x) => (float[2] y) { y = Relu(x) }')


def external(location: str, **entries: object) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[500], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return helper.make_model(helper.make_graph([], "g", [], [], [tensor]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (external("absent.bin"), "external data 'absent.bin' of tensor 'w' can't be read: No such file or directory"),
        (
            external("w.bin", offset=8),
            "external data 'w.bin' of tensor 'w' is cut short: 1992 bytes from offset 8 on, 2000 needed",
        ),
        (
            external("w.bin", offset=-8),
            "external data 'w.bin' of tensor 'w' is cut short: 2008 bytes from offset -8 on, 2000 needed",
        ),
        (
            external("w.bin", length=4),
            "external data 'w.bin' of tensor 'w' has 4 bytes where type and shape [500] need 2000",
        ),
        (external("w.bin", offset="x"), "external data 'w.bin' of tensor 'w': offset or length is not a number"),
        (external("../w.bin"), "external data '../w.bin' of tensor 'w' lies outside the model's folder"),
        (external("/w.bin"), "external data '/w.bin' of tensor 'w' lies outside the model's folder"),
        (external("..\\w.bin"), "external data '..\\w.bin' of tensor 'w' lies outside the model's folder"),
        (external("C:/w.bin"), "external data 'C:/w.bin' of tensor 'w' lies outside the model's folder"),
        (external(""), "external data '' of tensor 'w' lies outside the model's folder"),
    ],
)
def test_external_data_that_does_not_fit_is_refused(model, message, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").write_bytes(bytes(2000))

    with pytest.raises(StageError) as caught:
        modelfile.save(model, tmp_path / "model", tmp_path / "objects")

    assert caught.value.fact == message


def test_where_external_data_belongs_is_told_where_it_is_not_there(tmp_path):
    with pytest.raises(StageError) as caught:
        modelfile.save(external("absent.bin"), tmp_path, tmp_path / "objects")

    assert caught.value.hint == f"The file belongs beside the model, in {tmp_path}."


def test_a_tensor_with_too_few_bytes_in_the_message_is_refused(tmp_path):
    short = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], raw_data=bytes(8))

    with pytest.raises(StageError, match=r"tensor 'w' has 8 bytes where type and shape \[3\] need 12"):
        modelfile.save(helper.make_model(helper.make_graph([], "g", [], [], [short])), None, tmp_path)


def test_signature_names_types_and_dimensions():
    model = parser.parse_model(
        '<ir_version: 3, opset_import: ["": 18]>'
        "g (float16[n, 3, ?] x, bool[] flag, string s, bfloat16[2] h, float[4] w) => (int64[n] y, float z)"
        "<float[4] w = {1.0, 2.0, 3.0, 4.0}> { y = NonZero(x) z = Identity(w) }"
    )
    model.graph.input.append(helper.make_tensor_sequence_value_info("seq", TensorProto.FLOAT, None))

    assert interface.signature(model) == {
        "inputs": [
            {"name": "x", "dtype": "float16", "shape": ["n", 3, None]},
            {"name": "flag", "dtype": "bool", "shape": None},
            {"name": "s", "dtype": "string", "shape": []},
            {"name": "h", "dtype": "bfloat16", "shape": [2]},
            {"name": "seq", "dtype": "sequence", "shape": None},
        ],
        "outputs": [{"name": "y", "dtype": "int64", "shape": ["n"]}, {"name": "z", "dtype": "float32", "shape": []}],
    }


UNARY = ["Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Identity", "Exp"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*UNARY, "Add", "Mul", "MatMul"]), st.integers(0, 2)), min_size=1, max_size=6),
    st.booleans(),
)
def test_normalising_changes_no_output_and_twice_is_once(steps, typed):
    nodes, initializers, last = [], [], "x"
    for number, (op, kind) in enumerate(steps):
        inputs = [last]
        if op not in UNARY:
            weight = array(f"w{9 - number}", 16, 16, seed=number)
            if typed:
                weight = helper.make_tensor(weight.name, TensorProto.FLOAT, [16, 16], numpy_helper.to_array(weight))
            if kind == 0:
                nodes.append(helper.make_node("Constant", [], [weight.name], value=weight, doc_string="a weight"))
            else:
                initializers.append(weight)
            inputs.append(weight.name)
        nodes.append(helper.make_node(op, inputs, [f"v{number}"]))
        last = f"v{number}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["n", 16])],
        [value(last, TensorProto.FLOAT, ["n", 16])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    feed = {"x": np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32)}
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)

    normalise.normalise(model)
    once = model.SerializeToString(deterministic=True)
    normalise.normalise(model)

    assert model.SerializeToString(deterministic=True) == once
    np.testing.assert_array_equal(onnxruntime.InferenceSession(once).run(None, feed), before)


def test_importing_it_loads_nothing_heavy():
    modules = "onnxbuild.graphs.modelfile, onnxbuild.graphs.text"
    code = f"import sys, {modules}; print({{'onnx', 'numpy', 'torch'}} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def sparse_weight(folder: Path, mebibytes: int) -> Path:
    """A graph in the store's form whose one weight is a file of zeros that takes no disk."""
    (folder / "ab").mkdir(parents=True)
    with open(folder / "ab" / ("c" * 62), "wb") as file:
        file.truncate(mebibytes << 20)
    model = external("ab/" + "c" * 62)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([mebibytes, 1 << 18])
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    return folder / "graph.onnx"


PEAK = """
import resource, sys
from pathlib import Path
import onnx.numpy_helper
from onnxbuild.graphs import modelfile
graph, out = map(Path, sys.argv[1:])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
modelfile.write(graph, out / "1" / "model.onnx")
modelfile.write(graph, out / "2" / "model.onnx", external_data=True)
modelfile.save(modelfile.structure(out / "2" / "model.onnx"), out / "2", out / "objects")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_weights_are_streamed(tmp_path):
    graph = sparse_weight(tmp_path / "objects", 128)

    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(graph), str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert int(done.stdout) < 40 << 10  # KiB, of 128 MiB


@pytest.mark.heavy
def test_past_2_gib_the_weights_go_to_a_file_of_their_own(tmp_path):
    graph = sparse_weight(tmp_path / "objects", 2304)

    data, model = modelfile.write(graph, tmp_path / "model.onnx")

    assert data.stat().st_size == 2304 << 20
    onnx.checker.check_model(str(model))
