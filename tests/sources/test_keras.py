"""Keras models, built through the front door on both backends, and what can be wrong with them."""

from __future__ import annotations

import json
import os
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
two = keras.Model({"steps": steps, "words": words}, [score, tag])
two.save("two.keras")
two.get_layer("tag").bias.assign([1.0, -1.0])
two.save("other.keras")

model = nets.Net()
model(keras.ops.ones((2, 8, 8, 3)), keras.ops.ones((2, 3)))
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


def cnn():
    return keras.Sequential([
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.BatchNormalization(moving_mean_initializer="random_normal"),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(3),
    ])


class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.body, self.gain = cnn(), Gain()

    def call(self, image, scale, training=False):
        found = self.gain(self.body(image)) * scale
        return {"found": found, "sums": [keras.ops.sum(found, axis=-1), keras.ops.mean(found, axis=-1)]}


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

# All of `export` is left out where it can be.
TWO_TORCH = """\
version: 1
name: two-torch
model: {keras: {path: two.keras}}
"""
TWO_TENSORFLOW = """\
version: 1
name: two-tensorflow
model: {keras: {path: two.keras, backend: tensorflow}}
export:
  inputs:
    steps: {dtype: float32, shape: [2, 6, 4]}
    words: {dtype: int32, shape: [2, 3], data: {integers: {high: 10}}}
  outputs: [tag, score]
  dynamic_axes: {steps: {0: batch}, words: {0: batch}, tag: {0: batch}, score: {0: batch}}
  dims: {batch: {max: 5}}
"""
NET = """\
version: 1
name: net
model: {keras: {path: net.keras, custom_objects: ["nets:Net"]}}
export:
  inputs:
    image: {dtype: float32, shape: [2, 8, 8, 3]}
    scale: {dtype: float32, shape: [2, 3]}
  outputs: [found, sums.1]
  dynamic_axes: {image: {0: batch}, scale: {0: batch}, found: {0: batch}, sums.1: {0: batch}}
"""
RECURRENT = """\
version: 1
name: {name}
model: {{keras: {{factory: "nets:recurrent", kwargs: {kwargs}}}}}
export:
  inputs: {{x: {{dtype: float32, shape: [2, 4, 3]}}}}
  outputs: [y]
  dynamic_axes: {axes}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("keras") / "project")
    workspace.write("nets.py", NETS)
    # settings of whoever runs it, which have no say
    workspace.write("home/.keras/keras.json", '{"image_data_format": "channels_first", "backend": "jax"}')
    subprocess.run([sys.executable, "-c", SAVE], cwd=workspace.root, check=True, capture_output=True)
    return workspace


@pytest.fixture(scope="module")
def built(project):
    """Everything that builds, in one run."""
    recipes = {"two-torch": TWO_TORCH, "two-tensorflow": TWO_TENSORFLOW, "net": NET}
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
    models = {name: onnx.load(built.root / f"build/{name}/model.onnx") for name in ("two-torch", "two-tensorflow")}
    for name, order in (("two-torch", ["score", "tag"]), ("two-tensorflow", ["tag", "score"])):
        onnx.checker.check_model(models[name], full_check=True)
        assert [value.name for value in models[name].graph.output] == order
        assert notes(built, name, "export") == []
    weights = {one.name for one in models["two-torch"].graph.initializer}
    assert {"lstm/lstm_cell/recurrent_kernel", "score/kernel", "embedding/embeddings"} <= weights
    assert "LSTM" in {node.op_type for node in models["two-tensorflow"].graph.node}


def test_what_the_model_tells_need_not_be_declared(built):
    told = session(built, "two-torch")
    assert [(one.name, one.shape, one.type) for one in told.get_inputs()] == [
        ("steps", ["batch", 6, 4], "tensor(float)"),
        ("words", ["batch", 3], "tensor(int32)"),
    ]
    assert [(one.name, one.shape) for one in told.get_outputs()] == [("score", ["batch", 7]), ("tag", ["batch", 2])]


def test_a_model_of_a_class_with_a_layer_of_another(built):
    """Keras has no variables yet as it reads such a file: the weights come into the graph all the same."""
    loaded = onnx.load(built.root / "build/net/model.onnx").graph.initializer
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in loaded}
    np.testing.assert_array_equal(weights["net/gain/factor"], np.array([1.5, -2.0, 0.5], np.float32))
    image = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    once, mean = session(built, "net").run(None, {"image": image, "scale": np.ones((3, 3), np.float32)})
    twice, _ = session(built, "net").run(None, {"image": image, "scale": np.full((3, 3), 2, np.float32)})
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    np.testing.assert_allclose(mean, once.mean(axis=1), rtol=1e-4, atol=1e-6)


def built_elsewhere(built, folder, name, *files, **env):
    other = Workspace.make(folder)
    other.env.update(env)
    for file in ("nets.py", f"{name}.yaml", *files):
        shutil.copy(built.root / file, other.root / file)
    other.run("run", f"{name}.yaml")
    return (other.root / f"build/{name}/model.onnx").read_bytes()


@pytest.mark.heavy
def test_the_same_bytes_in_another_folder_and_process_without_tensorflow(built, tmp_path):
    """Keras counts its layers, and names them so: each child is a fresh one."""
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "tensorflow.py").write_text("raise ImportError('there is no TensorFlow')\n")
    found = built_elsewhere(
        built, tmp_path / "elsewhere", "net", "net.keras", PYTHONHASHSEED="77", PYTHONPATH=str(lacking)
    )
    assert found == (built.root / "build/net/model.onnx").read_bytes()


@pytest.mark.heavy
def test_the_same_bytes_on_the_backend_tensorflow(built, tmp_path):
    found = built_elsewhere(built, tmp_path / "elsewhere", "two-tensorflow", "two.keras", PYTHONHASHSEED="77")
    assert found == (built.root / "build/two-tensorflow/model.onnx").read_bytes()


def test_a_second_run_imports_nothing_heavy_and_a_changed_file_is_seen(built, tmp_path):
    copy = built.copy(tmp_path / "copy")
    code = (
        "import sys\nfrom onnxbuild.cli import main\ncode = main(sys.argv[1:])\n"
        "print([name for name in ('keras', 'torch', 'tensorflow', 'numpy') if name in sys.modules], code)"
    )
    command, environment = copy.command("run", "two-torch.yaml", "net.yaml")
    done = subprocess.run(
        [command[0], "-c", code, *command[3:]],
        cwd=copy.root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[] 0", done.stdout
    shutil.copy(copy.root / "other.keras", copy.root / "two.keras")
    out = copy.run("plan", "--check", "two-tensorflow.yaml", "net.yaml", code=1).out
    assert "two.keras changed" in out
    assert "net (net.yaml): up to date" in out


def test_what_is_no_model_or_can_not_be_loaded_or_says_nothing(project):
    """Asked for what a recipe leaves out, each in a child of one process."""
    sections = {
        "layer": '{factory: "nets:dense"}',
        "lacking": '{path: net.keras, custom_objects: ["nets:Gain"]}',
        "pair": '{factory: "nets:pair"}',
    }
    for name, section in sections.items():
        project.write(f"{name}.yaml", f"version: 1\nname: {name}\nmodel: {{keras: {section}}}\n")
    err = project.run("check", *(f"{name}.yaml" for name in sections), code=2).err
    assert err == (
        "layer.yaml:3:9: model: the factory nets:dense gave a Dense, not a keras.Model\n"
        "    hint: return a model of the package keras, version 3: Sequential, functional or a class of your own\n"
        "lacking.yaml:3:9: model: net.keras has the class 'Net', which is not Keras's own\n"
        "    hint: name it, with its module, in custom_objects: ['module:Net']\n"
        "pair.yaml:3:9: model: a Pair does not say what it takes and gives before it is called\n"
        "    hint: declare inputs and outputs under export\n"
        "3 problems.\n"
    )


@pytest.mark.heavy
def test_recurrent_layers_on_torch(project):
    """A state that stays from call to call, and a loop that is unrolled."""
    project.write("stateful.yaml", RECURRENT.format(name="stateful", kwargs="{stateful: true}", axes="{}"))
    project.write("steps.yaml", RECURRENT.format(name="steps", kwargs="{steps: null}", axes="{x: {1: time}}"))
    err = project.run("run", "--keep-going", "stateful.yaml", "steps.yaml", code=1).err
    assert (
        "forward changes the variable 'sequential/lstm.states[0]', the variable 'sequential/lstm.states[1]', and a second"
        in err
    )
    assert (
        "hint: under torch a recurrent layer is a loop over the example's steps: fix that axis, or use backend: tensorflow"
    ) in err


CALLS = """\
import json
import os
os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": "keras-home"}
import keras
import msgspec
import numpy as np
import nets
from onnxbuild.errors import StageError
from onnxbuild.sources.keras import calling, loading
from onnxbuild.sources.keras.variables import State

def tried(model, names, arguments=None):
    notes = []
    try:
        call = calling.planned(model, names, arguments, notes.append)
    except StageError as error:
        return [error.fact, error.hint]
    rest = {name: value for name, value in call.kwargs.items() if name != "training"}
    return [call.args, rest, *notes]

two = keras.saving.load_model("two.keras", compile=False)
one = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
picture = keras.Input((None, 9, 3), name="picture")
convolution = keras.Model(picture, [keras.layers.Conv2D(2, 3)(picture), picture])
pair = nets.pair()
difference = calling.run(pair, calling.planned(pair, ["a", "b"], {"args": [["a", "b"]]}, print), [np.ones(2), np.ones(2)])
stateful = nets.recurrent(stateful=True)
state = State(stateful)
stateful(np.ones((2, 4, 3), np.float32))
made = {
    "changed": state.changed(),
    "by name": tried(two, ["words", "steps"]),
    "in order": tried(two, ["a", "b"]),
    "slip": tried(two, ["stepz", "words"]),
    "other": tried(two, ["words", "other"]),
    "fewer": tried(two, ["a"]),
    "unnamed": tried(one, ["x"]),
    "by parameter": tried(nets.Net(), ["scale", "image"]),
    "not told": tried(pair, ["a", "b"]),
    "told": tried(pair, ["a", "b"], {"args": [["a", "b"]]}),
    "shapes": calling.output_shapes(two, ["tag", "score"]) | calling.output_shapes(pair, ["y"]),
    "open": msgspec.to_builtins(calling.interface(convolution)),
    "difference": keras.ops.convert_to_numpy(difference).tolist(),
}
try:
    loading.start("jax")
except StageError as error:
    made["imported before"] = [error.fact, error.hint]
print(json.dumps(made))
"""


def test_how_inputs_reach_a_model(project):
    """By its own names, else in order where no name says otherwise; classes go by the parameters of `call`."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project.repository), str(project.root)])}
    done = subprocess.run(
        [sys.executable, "-c", CALLS], cwd=project.root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    takes = "the model takes 2 inputs: steps, words"
    assert json.loads(done.stdout) == {
        "changed": ["the variable 'sequential_1/lstm.states[0]'", "the variable 'sequential_1/lstm.states[1]'"],
        "by name": [[{"steps": "steps", "words": "words"}], {}],
        "in order": [
            [{"steps": "a", "words": "b"}],
            {},
            "the model names its inputs otherwise: in order, a is steps, b is words",
        ],
        "slip": [f"the model has no input stepz; {takes}", "did you mean steps?"],
        "other": [
            f"the model has no input other; {takes}",
            "inputs go in order only where none is named as one of the model's",
        ],
        "fewer": [
            f"the recipe declares 1 input (a), {takes}",
            "name inputs as the model does, or declare as many as it takes, in order",
        ],
        "unnamed": [["x"], {}],
        "by parameter": [[], {"scale": "scale", "image": "image"}],
        "not told": [
            "the model's call(pair) does not say how it takes a, b",
            "say in export.arguments how to call it, as in {args: [[a, b]]}",
        ],
        "told": [[["a", "b"]], {}],
        "shapes": {"tag": ["batch", 2], "score": ["batch", 7]},
        "open": {
            "inputs": [{"name": "picture", "dtype": "float32", "shape": ["batch", None, 9, 3]}],
            "outputs": [
                {"name": "conv2d", "dtype": "float32", "shape": ["batch", None, 7, 2]},
                {"name": "picture_out", "dtype": "float32", "shape": ["batch", None, 9, 3]},
            ],
            "opset": 0,
            "dims": {},
            "sizes": {},
            "arguments": None,
        },
        "difference": [0.0, 0.0],
        "imported before": [
            "Keras runs on torch here, and not on jax: something had imported it before",
            "import keras in no sitecustomize and no .pth file, or set model.keras.backend to torch",
        ],
    }
