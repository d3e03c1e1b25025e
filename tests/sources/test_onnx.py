from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import several

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile
from onnxbuild.sources import onnx as source
from onnxbuild.stages import export, reference

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
main (float[n, 8] x) => (float[n, 64] y)
{ y = MatMul(x, w) }
"""


def model_file(folder: Path, *, external: bool) -> Path:
    model = onnx.parser.parse_model(TEXT)
    weights = np.arange(512, dtype=np.float32).reshape(8, 64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=external, location="model.data", size_threshold=0)
    return path


def task(path: Path, folder: Path, **changes) -> Task:
    inputs = {"x": {"dtype": "float32", "shape": [2, 8]}}
    asked = {"inputs": inputs, "outputs": ["y"], "exporter": "dynamo", "opset": 17, "dynamic_axes": {}, "dims": {}}
    case = {"name": "a", "dims": {}, "shapes": {"x": [3, 8]}, "data": {}}
    options = {"source": {"onnx": {"path": path.name}}, "export": {**asked, **changes}, "symbolics": {}}
    options |= {"inputs": inputs, "outputs": ["y"], "cases": [case], "seed": 0}
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return Task("export", "export", options, {"model": str(path)}, str(folder), str(folder / "objects"), str(scratch))


@pytest.mark.parametrize("external", [False, True])
def test_the_file_is_the_model_and_its_own_reference(tmp_path, external):
    path = model_file(tmp_path, external=external)

    outcome = export.run(task(path, tmp_path))

    assert outcome.facts["exporter"] == "none"
    assert outcome.facts["opset"] == 17
    assert outcome.facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["n", 8]}]
    kept = modelfile.load(tmp_path / "objects" / outcome.outputs["graph"])
    assert onnx.numpy_helper.to_array(kept.graph.initializer[0])[7, 63] == 511
    made = reference.run(task(path, tmp_path)).facts["cases"][0]
    assert made["outputs"] == {"y": {"dtype": "float32", "shape": [3, 64]}}


def test_the_declared_file():
    assert source.files(source.Options("a/b.onnx")) == {"model": "a/b.onnx"}


@pytest.mark.parametrize(
    ("changes", "fact", "hint"),
    [
        ({"outputs": ["yy"]}, "model.onnx has no output 'yy'", "did you mean 'y'?"),
        ({"opset": 18}, "the model is of opset 17, the recipe says 18", "set export.opset to 17"),
        ({"inputs": {"x": {"dtype": "float16", "shape": [2, 8]}}}, "input 'x' is float32, the recipe says float16", ""),
        (
            {"inputs": {"x": {"dtype": "float32", "shape": [2, 9]}}},
            "has the shape ['n', 8], which [2, 9] does not fit",
            "",
        ),
        ({"inputs": {}}, "has inputs that the recipe does not declare: 'x'", "its inputs are x"),
    ],
)
def test_a_recipe_that_does_not_fit_the_file(tmp_path, changes, fact, hint):
    with pytest.raises(StageError) as caught:
        export.run(task(model_file(tmp_path, external=False), tmp_path, **changes))

    assert fact in caught.value.fact
    assert caught.value.hint == hint


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08"])
def test_a_file_that_is_no_model(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(StageError, match=r"model\.onnx is not an ONNX model"):
        export.run(task(path, tmp_path))


def test_a_file_past_2_gib_is_refused_unread(tmp_path):
    path = tmp_path / "model.onnx"
    path.touch()
    os.truncate(path, source.MOST + 1)

    with pytest.raises(StageError) as caught:
        export.run(task(path, tmp_path))

    assert (
        caught.value.fact == "model.onnx has 2,147,483,648 bytes, and no protobuf message has more than 2,147,483,647"
    )
    assert caught.value.hint == "save its weights beside it, as external data"


def test_external_data_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = model_file(tmp_path, external=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read all files

    with pytest.raises(StageError, match=r"'model\.data', may not be read") as caught:
        export.run(task(path, tmp_path))

    assert caught.value.hint == "give yourself the right to read it"


def test_external_data_that_lies_elsewhere_is_refused(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = model_file(inner, external=True)
    (inner / "model.data").rename(tmp_path / "model.data")
    model = modelfile.structure(path)
    for location, fact in (
        ("../model.data", "lies outside the model's folder"),
        (str(tmp_path / "model.data"), "lies outside the model's folder"),
        ("absent.data", "is not there"),
    ):
        model.graph.initializer[0].external_data[0].value = location
        path.write_bytes(model.SerializeToString())
        with pytest.raises(StageError, match=fact):
            export.run(task(path, inner))


@pytest.mark.skipif(os.name == "nt", reason="making a link needs a privilege there")
def test_external_data_that_is_a_link_is_refused(tmp_path):
    path = model_file(tmp_path, external=True)
    (tmp_path / "model.data").rename(tmp_path / "real.data")
    (tmp_path / "model.data").symlink_to("real.data")

    with pytest.raises(StageError, match="is a symbolic link"):
        export.run(task(path, tmp_path))


# FACTS: onnxruntime casts bfloat16 on the CPU, and computes nothing else in it.
BFLOAT16 = """\
<ir_version: 8, opset_import: ["" : 17]>
g (bfloat16[batch, 4] x) => (bfloat16[batch, 4] y) {
  wide = Cast <to = 1> (x)
  t = Relu(wide)
  y = Cast <to = 16> (t)
}
"""


def test_a_file_that_takes_and_gives_bfloat16(workspace):
    recipe = several.add(workspace, "small", text=BFLOAT16)
    workspace.replace(recipe, "dtype: float32", "dtype: bfloat16")
    workspace.run("run", recipe)
    assert {row["status"] for row in workspace.report("small")["parity"]} == {"passed"}


def test_what_a_later_onnx_wrote_is_refused(workspace):
    recipe = several.add(workspace, "later")
    path = workspace.root / "later.onnx"
    path.write_bytes(path.read_bytes() + b"\xa2\x38\x03abc")  # field 900
    ran = workspace.run("run", recipe, code=1)
    assert "✗ export failed\n  the model holds protobuf field 900, or a value of it, that onnx " in ran.err
    assert not (workspace.root / "build/later/model.onnx").exists()


def test_sparse_initializers_that_are_listed_as_inputs_are_none(tmp_path):
    path = model_file(tmp_path, external=False)
    model = onnx.load(path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [4]))
    values, indices = (onnx.numpy_helper.from_array(np.ones(1, kind), name) for kind, name in (("f4", "s"), ("i8", "")))
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4]))
    onnx.save(model, path)
    assert [value["name"] for value in export.run(task(path, tmp_path)).facts["inputs"]] == ["x"]


# Companions: what is equal byte for byte but for the files that it names.

EXTERNAL_RECIPE = """\
version: 1
name: {name}
model: {{onnx: {{path: {name}/model.onnx}}}}
export:
  opset: 17
  inputs: {{x: {{dtype: float32, shape: [2, 8]}}}}
  outputs: [y]
  dynamic_axes: {{x: {{0: n}}, y: {{0: n}}}}
"""


def pair(workspace, fills=(1.0, 2.0)) -> list[str]:
    """Recipes whose models differ in nothing but the bytes of model.data."""
    recipes = []
    for name, fill in zip(("v1", "v2"), fills, strict=True):
        (workspace.root / name).mkdir()
        path = model_file(workspace.root / name, external=True)
        (path.parent / "model.data").write_bytes(np.full(512, fill, np.float32).tobytes())
        workspace.write(f"{name}.yaml", EXTERNAL_RECIPE.format(name=name))
        recipes.append(f"{name}.yaml")
    return recipes


def weight(workspace, name: str) -> float:
    model = onnx.load(workspace.root / f"build/{name}/model.onnx")
    return float(onnx.numpy_helper.to_array(model.graph.initializer[0])[0, 0])


def test_two_models_that_differ_in_their_external_data_alone_are_two(workspace):
    first, second = pair(workspace)
    workspace.run("run", first)
    workspace.run("run", second)

    assert (weight(workspace, "v1"), weight(workspace, "v2")) == (1.0, 2.0)
    assert "up to date" in workspace.run("run", first, second).out
    (workspace.root / "v2/model.data").write_bytes(np.full(512, 3.0, np.float32).tobytes())
    planned = workspace.run("plan", first, second).out
    workspace.run("run", second)

    assert "external data 'model.data' changed" in planned and planned.count("external data") == 2
    assert weight(workspace, "v2") == 3.0 and "external data" in workspace.run("explain", second, "export").out


def test_external_data_that_became_a_link_is_refused_though_the_store_has_its_result(workspace):
    recipe, _ = pair(workspace)
    workspace.run("run", recipe)
    data = workspace.root / "v1/model.data"
    for how, fact in (("symbolic", "is a symbolic link"), ("hard", "has another name too, as a hard link")):
        data.rename(data.with_name("real.data"))
        data.symlink_to("real.data") if how == "symbolic" else os.link(data.with_name("real.data"), data)
        assert fact in workspace.run("run", recipe, code=1).err
        data.unlink()
        data.with_name("real.data").rename(data)

    assert "up to date" in workspace.run("run", recipe).out


def test_equal_models_with_equal_data_share_a_result_and_no_fate(workspace):
    first, second = pair(workspace, (1.0, 1.0))
    workspace.run("run", first)
    workspace.run("run", second)
    assert workspace.built("v2") == {"package"}
    (workspace.root / "v1/model.data").write_bytes(np.full(512, 5.0, np.float32).tobytes())

    assert "up to date" in workspace.run("plan", second).out
