"""The `tensorflow` source through the front door: SavedModels of each age, functions from factories, and what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from workspace import Workspace

from onnxbuild.sources import SOURCES

pytest.importorskip("tf2onnx", reason="tf2onnx is not installed (extra `tensorflow`)")

X = "{x: {dtype: float32, shape: [2, 3]}}"
RECIPE = "version: 1\nname: {name}\nmodel: {{tensorflow: {{{model}}}}}\n"
EXPORT = "export:\n  inputs: {inputs}\n  outputs: {outputs}\n"
DIMS = "  dynamic_axes: {{{}}}\n"

GOOD = {
    "net": ("path: saved/net", "", "", ""),
    "old": ("path: saved/old", "", "", ""),
    "slots": ("path: saved/slots", X, "[y]", "x: {0: rows}, y: {0: rows}"),
    "concrete": ("factory: 'm:concrete'", "", "", ""),
    "branchy": (
        "factory: 'm:Branchy'",
        "{x: {dtype: float32, shape: [2, 4]}, limit: {dtype: float32, shape: [], data: {constant: 500.0}}}",
        "[rows, mean, again.x, again.rows.0]",
        "x: {0: batch}, rows: {0: batch}, mean: {0: batch}, again.x: {0: batch}, again.rows.0: {0: batch}",
    ),
    "images": (
        "factory: 'm:images', kwargs: {filters: 3}, inputs_as_nchw: [image], outputs_as_nchw: [map]",
        "{image: {dtype: float32, shape: [2, 2, 6, 7]}}",
        "[map]",
        "image: {0: batch, 2: height}, map: {0: batch, 2: height}",
    ),
    "words": (
        "factory: 'm:Words'",
        "{word: {dtype: string, shape: [2], data: {values: [a, b, zz]}}}",
        "[id]",
        "word: {0: words}, id: {0: words}",
    ),
}
NO_FUNCTION = "hint: return a tf.Module with __call__, a tf.function or a concrete function"
# What a build says of a model that is not as the recipe says: its options, and inputs and outputs where not x and y.
WRONG = {
    "far": ("path: saved/net, signature: rows", "has no signature 'rows': it has counted, serving_default"),
    "near": ("path: saved/net, signature: count", "hint: did you mean 'counted'?"),
    "sparse": ("path: saved/slots, signature: sparse", "hint: save a signature that takes and gives plain tensors"),
    "tags": ("path: saved/net, tags: [train]", "no graph with the tags [train]\n    hint: set tags to [serve]"),
    "damaged": ("path: saved/damaged", "hint: name the folder that tf.saved_model.save wrote: saved_model.pb and"),
    "cut": (
        "path: saved/cut",
        "hint: what lies in variables/ is missing or damaged: copy or save the SavedModel again",
    ),
    "input": ("path: saved/net", "the model has no input 'z'\n    hint: known here: x", X.replace("x:", "z:")),
    "fewer": (
        "factory: 'm:Branchy'",
        "does not declare: 'limit'\n    hint: declare them in export.inputs",
        X,
        "[rows]",
    ),
    "output": ("path: saved/net", "the model has no output 'yy'\n    hint: did you mean 'y'?", X, "[yy]"),
    "dtype": ("path: saved/old", "hint: set its dtype to float32", X.replace("32", "64")),
    "shape": ("path: saved/net", "[?, 3], which [2, 4] does not fit\n    hint: give it as", X.replace(" 3]", " 4]")),
    "plain": ("factory: 'm:plain'", f"the factory m:plain gave a function\n    {NO_FUNCTION}"),
    "silent": ("factory: 'm:Silent'", f"the factory m:Silent gave a Silent\n    {NO_FUNCTION}"),
    "nested": ("factory: 'm:nested'", "hint: wrap it in a tf.function that takes one tensor for each input"),
    "gamma": ("factory: 'm:gamma'", "no translation of Lgamma (in PartitionedCall/Lgamma)\n    hint: write that part"),
    "ragged": (
        "factory: 'm:ragged'",
        "'y' of the model is a RaggedTensor\n    hint: return dense tensors, as to_tensor()",
    ),
    "outputs": ("factory: 'm:concrete'", "no 'a'; it returns 0, 1\n    hint: name outputs as the model does", X, "[a]"),
    "counter": ("factory: 'm:counter'", "changes the variable 'calls:0', and a second call on the same data"),
    "counted": ("path: saved/slots, signature: counted", "changes the variable 'calls', and a second call on the"),
    "rank": ("factory: 'm:gamma', inputs_as_nchw: [x]", "hint: it is for inputs with a batch, channels, height and"),
    "rank-out": ("path: saved/net, outputs_as_nchw: [y]", "hint: it is for outputs with a batch, height, width and"),
    "nobody": ("path: saved/net, inputs_as_nchw: [image]", "inputs_as_nchw names 'image', which is no input"),
}


def recipe(workspace, name, model, inputs="", outputs="", dims=""):
    text = RECIPE.format(name=name, model=model)
    text += EXPORT.format(inputs=inputs, outputs=outputs) if inputs else ""
    workspace.write(f"{name}.yaml", text + (DIMS.format(dims) if dims else ""))


def saved(root):
    """The project's models, and those that are saved; damaged ones too."""
    shutil.copy(Path(__file__).with_name("tensorflow_models.py"), root / "m.py")
    _, environment = Workspace(root).command()
    environment |= {"PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "2"}
    ran = subprocess.run(
        [sys.executable, "m.py"], cwd=root, env=environment, check=True, capture_output=True, text=True
    )
    (root / "digest").write_text(ran.stdout.strip())
    folder = root / "saved"
    for name in ("damaged", "cut"):
        shutil.copytree(folder / "net", folder / name)
    (folder / "damaged/saved_model.pb").write_bytes((folder / "net/saved_model.pb").read_bytes()[:40])
    (folder / "cut/variables/variables.data-00000-of-00001").write_bytes(b"short")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Every recipe of GOOD and WRONG, built by one command; what it printed is kept with the project."""
    workspace = Workspace.make(tmp_path_factory.mktemp("tensorflow") / "project")
    saved(workspace.root)
    for name, model in GOOD.items():
        recipe(workspace, name, *model)
    for name, (model, _, *inputs_and_outputs) in WRONG.items():
        inputs, outputs = (*inputs_and_outputs, *(X, "[y]")[len(inputs_and_outputs) :])
        recipe(workspace, name, model, inputs, outputs)
    recipe(workspace, "fixed", "factory: 'm:fixed'", X, "[output]", "x: {0: batch}")
    recipe(workspace, "unsaid", "factory: 'm:gamma'")
    files = [f"{name}.yaml" for name in (*GOOD, *WRONG, "fixed", "unsaid")]
    workspace.said = workspace.run("run", "-k", *files, code=2, timeout=600).err  # 2: a recipe has a problem
    return workspace


def built(project, name):
    path = project.root / f"build/{name}/model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def shapes(project, name):
    graph = project.report(name)["graphs"][-1]
    return {value["name"]: value["shape"] for value in (*graph["inputs"], *graph["outputs"])}


@pytest.mark.parametrize("name", GOOD)
def test_it_builds_and_nothing_is_left_of_the_converters_own_names(project, name):
    report = project.report(name)
    assert {row["status"] for row in report["parity"]} == {"passed"}
    assert [stage["warnings"] for stage in report["stages"]] == [[]] * len(report["stages"])
    model = onnx.load(project.root / f"build/{name}/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert b"unk__" not in model.SerializeToString()
    assert (report["graphs"][0]["opset_imports"][""], model.producer_name) == (18, "tf2onnx")


@pytest.mark.parametrize("name", ["net", "old", "slots"])
def test_what_a_saved_model_says_of_itself_is_what_is_built(project, name):
    x = np.random.default_rng(0).standard_normal((11, 3), np.float32)
    session = built(project, name)
    names = [one.name for one in session.get_outputs()]
    made = dict(zip(names, session.run(None, {"x": x}), strict=True))
    np.testing.assert_allclose(made["y"], x @ np.array([[1, 2], [3, 4], [5, 6]], np.float32), rtol=1e-5)
    rows = "rows" if name == "slots" else "batch"
    assert shapes(project, name)["y"] == [rows, 2]
    if name == "old":
        assert made["largest"].tolist() == [*map("abc".__getitem__, x.argmax(1))]
    notes = project.report(name)["stages"]
    (note,) = next(stage["notes"] for stage in notes if stage["name"] == "export") or [""]
    told = {"net": "", "old": "loaded as TensorFlow 1 does, since TensorFlow 1 wrote it"}
    assert note == told.get(
        name,
        "loaded as TensorFlow 1 does, since the present loader fails: '_UserObject' object has no attribute 'add_slot'",
    )


@pytest.mark.parametrize("limit", [3.0, 30.0, 3000.0])
def test_a_loop_and_a_branch_at_a_batch_that_no_case_has(project, limit):
    x = np.random.default_rng(1).standard_normal((13, 4), np.float32)
    w = np.arange(16, dtype=np.float32).reshape(4, 4) / 10
    h = np.maximum(x @ w + 1, 0) + 1
    while h.sum() < limit:
        h = h + abs(h) + 1
        h = h * 1.5 if h.sum() > 100 else h * 2 + 1
    rows, mean, again, same = built(project, "branchy").run(None, {"x": x, "limit": np.array(limit, np.float32)})
    np.testing.assert_allclose(rows, h @ w, rtol=1e-4)
    np.testing.assert_allclose(mean, h.mean(1), rtol=1e-4)
    np.testing.assert_array_equal(again, x)
    np.testing.assert_array_equal(same, rows)


def test_channels_second(project):
    image = np.random.default_rng(2).standard_normal((3, 2, 5, 7), np.float32)
    padded = np.pad(image.sum(1), ((0, 0), (1, 1), (1, 1)))
    sums = sum(padded[:, i : i + 5, j : j + 7] for i in range(3) for j in range(3))
    (made,) = built(project, "images").run(None, {"image": image})
    np.testing.assert_allclose(
        made, sums[:, None] * np.array([1, 2, 3], np.float32)[:, None, None], rtol=1e-4, atol=1e-5
    )
    assert shapes(project, "images") == {"image": ["batch", 2, "height", 7], "map": ["batch", 3, "height", 7]}


def test_words_and_a_function_without_names_for_its_outputs(project):
    (ids,) = built(project, "words").run(None, {"word": np.array(["b", "", "a", "c"], object)})
    assert ids.tolist() == [2, -1, 1, 3]
    assert shapes(project, "concrete") == {"x": ["batch", 3], "output_0": ["batch", 3], "output_1": ["batch", 3]}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_a_remedy(project, name):
    said = project.said.partition(f"✗ {name} ")[2].partition("more in")[0]
    assert WRONG[name][1] in said
    assert "hint: " in said
    assert "Traceback" not in said


def test_an_axis_that_the_signature_fixes_is_not_made_dynamic_in_silence(project):
    said = project.said.partition("✗ fixed reference failed")[2]
    assert "input 'x': axis 0 is declared dynamic, and the model's signature fixes it to 2\n" in said
    assert "hint: take axis 0 of 'x' out of export.dynamic_axes, or save the model with None there\n" in said


def test_a_function_that_says_nothing_of_its_inputs(project):
    said = project.said.partition("unsaid.yaml:3:9: model: m:gamma gives a function without an input_signature")[2]
    assert "hint: give the tf.function an input_signature, or declare inputs and outputs under export\n" in said


NOT_BUILT = {
    "both": ("path: saved/net, factory: 'm:fixed'", "it has both 'path' and 'factory'"),
    "neither": ("tags: [serve]", "hint: give the path of a SavedModel, or a factory that makes the model"),
    "seed": ("path: saved/net, seed: 3", "seed: 'seed' is for a factory\n    hint: this model is a SavedModel"),
    "serving": ("factory: 'm:fixed', signature: a", "is for a SavedModel\n    hint: this model is made by a factory"),
    "nowhere": ("path: saved/nope", "path: no file 'saved/nope/saved_model.pb' in "),
    "outside": ("path: ../saved", "path: '../saved/saved_model.pb' leaves the project root"),
    "other": ("path: saved", "path: no file 'saved/saved_model.pb' in "),
    "package": ("path: m, package: no_such_thing", "package: no package 'no_such_thing' is installed"),
    "in-package": ("path: m, package: yaml", "path: no file 'm/saved_model.pb' in "),
    "high": ("path: saved/net", "hint: lower it to 18, and let the pass convert_opset make 21 of it"),
    "call": ("path: saved/net", "'arguments' has no meaning for a tensorflow model\n    hint: remove it"),
}  # fmt: skip


def test_what_is_known_before_anything_is_built(project):
    more = {"high": "  opset: 21\n", "call": "  arguments: {args: [x]}\n"}
    for name, (model, _) in NOT_BUILT.items():
        given = EXPORT.format(inputs=X, outputs="[y]") + more.get(name, "")
        project.write(f"{name}.yaml", RECIPE.format(name=name, model=model) + given)
    said = project.run("check", *(f"{name}.yaml" for name in NOT_BUILT), code=2).err
    for name, (_, fact) in NOT_BUILT.items():
        assert fact in "\n".join(part for part in said.split("\n\n")), name


def test_a_missing_extra_is_named(project, monkeypatch, capsys):
    from onnxbuild import cli
    from onnxbuild.recipe import importables

    there = importables.folder_of
    monkeypatch.setattr(importables, "folder_of", lambda name: None if name == "tf2onnx" else there(name))
    assert cli.main(["check", str(project.root / "branchy.yaml")]) == 2
    said = capsys.readouterr().err
    assert "model: it needs tf2onnx, which is not installed\n" in said
    assert "hint: pip install 'onnxbuild[tensorflow]'" in said


def test_nothing_to_do_loads_nothing(project):
    heavy = (
        "import sys; import onnxbuild.cli as c; c.main(['run', 'net.yaml', 'branchy.yaml']);"
        "print({'tensorflow', 'onnx', 'numpy'} & {*sys.modules})"
    )
    _, environment = project.command()
    environment["ONNXBUILD_REMEMBERED"] = "0"
    ran = subprocess.run(
        [sys.executable, "-c", heavy], cwd=project.root, env=environment, capture_output=True, text=True, check=True
    )
    assert "up to date" in ran.stdout
    assert ran.stdout.endswith("set()\n")


@pytest.mark.heavy
def test_a_changed_variable_and_a_changed_signature_are_built_anew(project, tmp_path):
    copy = project.copy(tmp_path / "copy")
    assert "up to date" in copy.run("run", "net.yaml").out
    weights = copy.root / "saved/net/variables/variables.data-00000-of-00001"
    (copy.root / "saved/net/assets/labels.txt").write_text("cat")
    states = {
        stage["name"]: stage["state"]
        for stage in json.loads(copy.run("plan", "net.yaml", "--json").out)["recipes"][0]["stages"]
    }
    assert (states["export"], states["reference"]) == ("run", "run")
    (copy.root / "saved/net/assets/labels.txt").unlink()
    assert "up to date" in copy.run("run", "net.yaml").out
    shutil.rmtree(copy.root / "saved/net")
    shutil.copytree(copy.root / "saved/slots", copy.root / "saved/net")
    assert weights.exists()
    copy.run("run", "net.yaml")
    assert copy.built("net") >= {"export", "reference"}


@pytest.mark.heavy
def test_it_comes_out_again_elsewhere(project):
    project.run("verify", "--rebuild", "branchy.yaml", "slots.yaml")


def test_the_same_bytes_in_every_process(project):
    """The first process is the one that saved the models: it has converted nothing, and traced other functions."""
    digests = [(project.root / "digest").read_text()]
    running = []
    for seed in ("1", "77"):
        _, environment = project.command()
        command = [sys.executable, "m.py", "digest", seed]
        environment |= {"PYTHONHASHSEED": seed, "TF_CPP_MIN_LOG_LEVEL": "2"}
        running.append(subprocess.Popen(command, cwd=project.root, env=environment, stdout=subprocess.PIPE, text=True))
    digests += [process.communicate()[0].strip() for process in running]
    assert len(digests[0]) == 64
    assert digests == digests[:1] * 3


@pytest.mark.heavy
def test_more_than_tf2onnx_can_hold(workspace):
    shutil.copy(Path(__file__).with_name("tensorflow_models.py"), workspace.root / "m.py")
    recipe(workspace, "large", "factory: 'm:Large'", X, "[y]")
    said = workspace.run("run", "large.yaml", code=1).err
    assert "the model's variables have 2,516,582,400 bytes, and tf2onnx holds a graph in one message of" in said
    assert "hint: convert the model in parts, or keep its large tables out of it" in said


def test_a_folder_is_recognised(project):
    source = SOURCES["tensorflow"]
    folder = project.root / "saved/net"
    assert source.recognised(folder, "saved/net") == {"path": "saved/net"}
    assert source.recognised(folder / "saved_model.pb", "saved/net/saved_model.pb") == {"path": "saved/net"}
    assert source.recognised(project.root, ".") is None
