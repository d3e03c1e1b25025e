"""Keras models, built through the front door on both backends, and what can be wrong with them."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from workspace import Workspace

# Saves files, on the backend torch: the models that recipes take from files.
SAVE = """\
import os
os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": "keras-home"}
import sys
import keras
from keras import layers
import nets

keras.utils.set_random_seed(1)
steps, words = keras.Input((6, 4), name="steps"), keras.Input((3,), dtype="int32", name="words")
x = layers.LSTM(5, return_sequences=True)(steps)
x = layers.MultiHeadAttention(2, 4)(x, x)
x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
x = layers.Concatenate()([x, layers.Flatten()(layers.Embedding(10, 5)(words))])
score = layers.Dense(7, name="score")(layers.Dropout(0.5)(x))
tag = layers.Dense(2, activation="softmax", name="tag")(score)
keras.Model({"steps": steps, "words": words}, [score, tag]).save("two.keras")

model = nets.Net()
model(keras.ops.ones((2, 5)), keras.ops.ones((2, 3)))
model.gain.factor.assign([1.5, -2.0, 0.5])
model.save("net.keras")
"""

NETS = """\
import keras
import numpy as np
from keras import layers


@keras.saving.register_keras_serializable(package="shop")
class Gain(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), name="factor", initializer="ones")

    def call(self, x):
        return x * self.factor


class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.gain = layers.Dense(3), Gain()

    def call(self, query, scale, training=False):
        found = self.gain(self.dense(query)) * scale
        return {"found": found, "sums": [keras.ops.sum(found, axis=-1), keras.ops.mean(found, axis=-1)]}


def cnn(width):
    '''Built on its first call: it does not say what it takes.'''
    return keras.Sequential([
        layers.Conv2D(width, 3, padding="same", activation="relu"),
        layers.BatchNormalization(moving_mean_initializer="random_normal"),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ])


def told(width):
    return keras.Sequential([keras.Input((8, 8, 3), name="image"), *cnn(width).layers])


def recurrent(**kwargs):
    steps = kwargs.pop("steps", 4)
    return keras.Sequential([keras.Input(batch_shape=(2, steps, 3)), layers.LSTM(4, **kwargs)])


def dense():
    return layers.Dense(3)


class Pair(keras.Model):
    def call(self, pair):
        return pair[0] - pair[1]


def pair():
    return Pair()
"""

TWO = """\
version: 1
name: two-{backend}
model: {{keras: {{path: two.keras, backend: {backend}}}}}
export:
  inputs:
    steps: {{dtype: float32, shape: [2, 6, 4]}}
    words: {{dtype: int32, shape: [2, 3], data: {{integers: {{high: 10}}}}}}
  outputs: [tag, score]
  dynamic_axes: {{steps: {{0: batch}}, words: {{0: batch}}, tag: {{0: batch}}, score: {{0: batch}}}}
  dims: {{batch: {{max: 5}}}}
"""
NET = """\
version: 1
name: net
model: {keras: {path: net.keras, custom_objects: ["nets:Net"]}}
export:
  inputs:
    query: {dtype: float32, shape: [2, 5]}
    scale: {dtype: float32, shape: [2, 3]}
  outputs: [found, sums.1]
  dynamic_axes: {query: {0: batch}, scale: {0: batch}, found: {0: batch}, sums.1: {0: batch}}
"""
TOLD = """\
version: 1
name: told
model: {keras: {factory: "nets:told", kwargs: {width: 4}, seed: 3}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("keras") / "project")
    workspace.write("nets.py", NETS)
    subprocess.run([sys.executable, "-c", SAVE], cwd=workspace.root, check=True, capture_output=True)
    return workspace


@pytest.fixture(scope="module")
def built(project):
    """Everything that builds, in one run."""
    recipes = {f"two-{backend}": TWO.format(backend=backend) for backend in ("torch", "tensorflow")}
    recipes |= {"net": NET, "told": TOLD}
    for name, text in recipes.items():
        project.write(f"{name}.yaml", text)
    project.run("run", *(f"{name}.yaml" for name in recipes))
    return project


def session(workspace, name):
    path = workspace.root / f"build/{name}/model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def notes(workspace, name, stage):
    return next(one["notes"] for one in workspace.report(name)["stages"] if one["name"] == stage)


def test_a_file_saved_on_one_backend_builds_on_both_and_gives_the_same(built):
    """At sizes that neither the exporters nor the cases saw."""
    one, other = session(built, "two-torch"), session(built, "two-tensorflow")
    rng = np.random.default_rng(0)
    for batch in (4, 9):
        feed = {"steps": rng.normal(size=(batch, 6, 4)), "words": rng.integers(0, 10, (batch, 3))}
        feed = {"steps": feed["steps"].astype(np.float32), "words": feed["words"].astype(np.int32)}
        tag, score = one.run(["tag", "score"], feed)
        assert [tag.shape, score.shape] == [(batch, 2), (batch, 7)]
        np.testing.assert_allclose(tag.sum(axis=1), 1.0, rtol=1e-5)
        for got, want in zip(other.run(["tag", "score"], feed), (tag, score), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_outputs_go_by_the_layers_names_and_weights_keep_theirs(built):
    for backend in ("torch", "tensorflow"):
        model = onnx.load(built.root / f"build/two-{backend}/model.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.output] == ["tag", "score"]
        assert notes(built, f"two-{backend}", "export") == []
    names = {one.name for one in onnx.load(built.root / "build/two-torch/model.onnx").graph.initializer}
    assert {"lstm/lstm_cell/recurrent_kernel", "score/kernel", "embedding/embeddings"} <= names
    assert "LSTM" in {node.op_type for node in onnx.load(built.root / "build/two-tensorflow/model.onnx").graph.node}


def test_a_model_of_a_class_with_a_layer_of_another(built):
    weights = {
        one.name: onnx.numpy_helper.to_array(one)
        for one in onnx.load(built.root / "build/net/model.onnx").graph.initializer
    }
    query, scale = np.ones((3, 5), np.float32), np.full((3, 3), 2, np.float32)
    found, mean = session(built, "net").run(None, {"query": query, "scale": scale})
    np.testing.assert_array_equal(weights["net/gain/factor"], np.array([1.5, -2.0, 0.5], np.float32))
    want = query @ weights["net/dense/kernel"] * weights["net/gain/factor"] * scale
    np.testing.assert_allclose(found, want, rtol=1e-5)
    np.testing.assert_allclose(mean, want.mean(axis=1), rtol=1e-5)


def test_what_the_model_tells_need_not_be_declared(built):
    (image,) = session(built, "told").get_inputs()
    (dense,) = session(built, "told").get_outputs()
    assert (image.name, image.shape, image.type) == ("image", ["batch", 8, 8, 3], "tensor(float)")
    assert (dense.name, dense.shape) == ("dense", ["batch", 3])
    made = session(built, "told").run(None, {"image": np.ones((7, 8, 8, 3), np.float32)})[0]
    np.testing.assert_allclose(made.sum(axis=1), np.ones(7), rtol=1e-5)


def test_the_same_bytes_in_another_folder_and_process(built, tmp_path):
    """Keras counts its layers, and names them so: each child is a fresh one."""
    other = Workspace.make(tmp_path / "elsewhere")
    other.env["PYTHONHASHSEED"] = "77"
    for name in ("two.keras", "nets.py", "two-tensorflow.yaml", "told.yaml"):
        shutil.copy(built.root / name, other.root / name)
    other.run("run", "two-tensorflow.yaml", "told.yaml")
    for name in ("two-tensorflow", "told"):
        path = f"build/{name}/model.onnx"
        assert (other.root / path).read_bytes() == (built.root / path).read_bytes()


def test_a_second_run_imports_nothing_heavy_and_a_changed_file_is_seen(built, tmp_path):
    copy = built.copy(tmp_path / "copy")
    code = (
        "import sys\nfrom onnxbuild.cli import main\ncode = main(sys.argv[1:])\n"
        "print([name for name in ('keras', 'torch', 'tensorflow', 'numpy') if name in sys.modules], code)"
    )
    command, environment = copy.command("run", "two-torch.yaml", "told.yaml")
    done = subprocess.run(
        [command[0], "-c", code, *command[3:]],
        cwd=copy.root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[] 0", done.stdout
    shutil.copy(copy.root / "net.keras", copy.root / "two.keras")
    assert "model.keras" in copy.run("plan", "--check", "two-torch.yaml", code=1).out
