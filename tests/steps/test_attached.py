"""Steps before and after a model, through the front door: recipes, runs, and the files that came out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from workspace import Workspace

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Task
from onnxbuild.errors import StageError, UserError
from onnxbuild.plan.planner import plan
from onnxbuild.stages import attach
from onnxbuild.steps import STEPS, attaching
from onnxbuild.store.store import LocalStore

NET = """\
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, image):
        return self.head(self.conv(image).relu().mean((2, 3)) * 3)

def net():
    return Net()
"""

APP = """\
version: 1
name: app
model: {pytorch: {factory: "net:net"}}
export:
  exporter: torchscript
  inputs: {image: {dtype: float32, shape: [2, 3, 16, 16]}}
  outputs: [logits]
  dynamic_axes: {image: {0: batch}, logits: {0: batch}}
  dims: {batch: {min: 1, max: 4}}
prepend:
  image:
    name: picture
    dtype: uint8
    shape: [2, 20, 30, 3]
    dynamic_axes: {0: batch, 1: height, 2: width}
    dims: {height: {min: 4, max: 40}, width: {min: 4, max: 40}}
    steps:
      - channels: {order: [2, 1, 0]}
      - cast: float32
      - resize: {size: [16, 16]}
      - normalize: {mean: [120, 110, 100], std: [60.0, 61.0, 62.0]}
      - layout: NHWC->NCHW
append:
  logits:
    shape: [2, 10]
    steps: [{softmax: {}}, {top_k: {k: 3}}]
    outputs: [scores, labels]
optimize:
  - onnxoptimizer: [eliminate_identity, eliminate_deadend]
targets: {ort: {}, openvino: {}}
benchmark: {warmup: 0, runs: 1, dims: {batch: 1, height: 9}}
"""


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def signature(path: Path) -> tuple[dict, dict]:
    opened = session(path)
    return tuple({one.name: (one.type, one.shape) for one in of} for of in (opened.get_inputs(), opened.get_outputs()))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = Workspace.make(tmp_path_factory.mktemp("app") / "project")
    made.write("net.py", NET)
    made.write("app.yaml", APP)
    made.run("run", "app.yaml")
    return made


def test_the_published_model_takes_and_gives_what_the_recipe_says(built):
    inputs, outputs = signature(built.root / "build/app/model.onnx")

    assert inputs == {"picture": ("tensor(uint8)", ["batch", "height", "width", 3])}
    assert outputs == {"scores": ("tensor(float)", ["batch", 3]), "labels": ("tensor(int64)", ["batch", 3])}


def by_hand(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Preprocessing as an application would write it, the torch model, and what it makes of its logits."""
    import torch
    from torch.nn import functional

    scope: dict = {}
    exec(NET, scope)
    bgr = torch.from_numpy(pictures[..., ::-1].astype(np.float32)).permute(0, 3, 1, 2)
    small = functional.interpolate(bgr, (16, 16), mode="bilinear", align_corners=False).numpy()
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in ([120, 110, 100], [60, 61, 62]))
    with torch.no_grad():
        logits = scope["net"]()(torch.from_numpy((small - mean) / std)).numpy()
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = powers / powers.sum(1, keepdims=True)
    labels = np.argsort(-probabilities, 1)[:, :3]
    return np.take_along_axis(probabilities, labels, 1), labels


def test_a_real_picture_comes_out_as_by_hand(built):
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra `recipes`)")
    cups = data.coffee()
    opened = session(built.root / "build/app/model.onnx")
    for pictures in (cups[None], np.stack([cups[:90, :70], cups[-90:, -70:]])):  # sizes that no parity case had
        scores, labels = opened.run(None, {"picture": pictures})
        wanted, wanted_labels = by_hand(pictures)
        np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-5)
        assert labels.tolist() == wanted_labels.tolist()


def test_parity_covers_the_steps_at_sizes_of_the_new_input(built):
    report = built.report("app")
    rows = [row for row in report["parity"] if row["stage"] == "parity/attach"]
    sizes = {row["case"] for row in rows}

    assert {row["output"] for row in rows} == {"scores", "labels"}
    assert {"batch=2,height=20,width=30", "batch=2,height=4,width=4", "batch=2,height=40,width=40"} < sizes
    assert all(row["passed"] for row in report["parity"])
    assert {row["stage"] for row in report["parity"]} == {
        "parity/export", "parity/attach", "parity/1-onnxoptimizer", "parity/ort", "parity/openvino"
    }  # fmt: skip
    assert report["dims"].keys() == {"batch", "height", "width"}
    assert [graph["stage"] for graph in report["graphs"]] == ["export", "attach", "optimize/1-onnxoptimizer"]


FAULTS = {
    "the means in another order": (
        "prepend",
        "image",
        3,
        {"normalize": {"mean": [100, 110, 120], "std": [60.0, 61.0, 62.0]}},
    ),
    "RGB for BGR": ("prepend", "image", 0, {"channels": {"order": [0, 1, 2]}}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_nodes_is_found(built, tmp_path, fault):
    """It is planted where the stage would have put it: in the store, as the graph that it gave."""
    section, name, number, other = FAULTS[fault]
    edited = built.copy(tmp_path / "project")
    (key,) = (stage["key"] for stage in edited.report("app")["stages"] if stage["name"] == "attach")
    store = LocalStore(edited.root / ".onnxbuild", pytest.fail)
    given = store.any_trace(key)
    options = json.loads(json.dumps(given.document["options"]))
    options[section][name]["steps"][number] = other
    exported = next(stage["key"] for stage in edited.report("app")["stages"] if stage["name"] == "export")
    objects = store.workplace().objects
    graph = str(objects / store.any_trace(exported).outcome.outputs["graph"])
    outcome = attach.run(Task("attach", attach.__name__, options, {"graph": graph}, str(edited.root), str(objects), ""))
    store.keep(key, msgspec.structs.replace(given, outcome=outcome, sizes=store.sizes(outcome.objects)))
    store.close()
    ran = edited.run("run", "app.yaml", code=1)

    text = " ".join(ran.text.split())

    assert edited.statuses("app")["parity/export"] == "cached"
    assert "parity/attach failed output 'scores' is wrong" in text
    assert "introduced by attach; after export it was" in text
    assert (
        "the graph before is right between the steps' definitions: look at prepend and append, and at their nodes"
        in text
    )
    assert edited.statuses("app")["package"] == "skipped"


EDITS = {
    "a step's option": ("order: [2, 1, 0]", "order: [0, 1, 2]", {"reference", "attach"}),
    "one step more": ("      - layout: N", "      - scale: {factor: 1.5}\n      - layout: N", {"reference", "attach"}),
    "a range of the new input": (
        "height: {min: 4, max: 40}",
        "height: {min: 4, max: 39}",
        {"reference", "target/openvino"},
    ),
    "the recipe's name": ("name: app", "name: other", {"package"}),
}
MEASURED = {"parity", "benchmark", "package"}  # what takes the cases, or is published


@pytest.mark.parametrize("edit", EDITS)
def test_what_runs_again(edited, edit):
    old, new, runs = EDITS[edit]
    edited.replace("app.yaml", old, new)
    (planned,) = json.loads(edited.run("plan", "app.yaml", "--json").out)["recipes"]
    states = {stage["name"]: stage["state"] for stage in planned["stages"]}

    assert {
        name for name, state in states.items() if state == "run" and name.partition("/")[0] not in MEASURED - runs
    } == runs
    assert {states["export"], states["check/export"]} == {"up to date"}
    assert states["optimize/1-onnxoptimizer"] == ("maybe" if "attach" in runs else "up to date")


def test_an_option_of_a_step_is_told_by_its_place(edited):
    edited.replace("app.yaml", "order: [2, 1, 0]", "order: [0, 1, 2]")
    told = edited.run("explain", "app.yaml", "attach").out

    assert "prepend.image.steps[0].channels.order: [2,1,0] -> [0,1,2]" in " ".join(told.split())


# An .onnx file with two outputs, whose inner values have the names that the recipe gives the results.

DETECTOR = """
<ir_version: 8, opset_import: ["" : 17]>
detector (float[batch, 6, 4] x) => (float[batch, 6, 4] boxes, float[batch, 6, 2] scores)
<float[4, 4] w = {{{w}}}, float[4, 2] v = {{{v}}}>
{{
    selected = Abs (x)
    boxes = MatMul (selected, w)
    best = Identity (selected)
    scores = MatMul (best, v)
}}
"""
RECIPE = """\
version: 1
name: detector
model: {onnx: {path: m.onnx}}
export:
  inputs: {x: {dtype: float32, shape: [2, 6, 4]}}
  outputs: [boxes, scores]
  dynamic_axes: {x: {0: batch}, boxes: {0: batch}, scores: {0: batch}}
prepend:
  x:
    dtype: float64
    shape: [2, 4, 6]
    dynamic_axes: {0: batch}
    steps: [{cast: float32}, {layout: ABC->ACB}, {function: {text: TEXT}}]
append:
  boxes:
    shape: [2, 6, 4]
    steps: [{nms: {scores: scores, max_output_boxes_per_class: 3, iou_threshold: 0.4, score_threshold: 0.6}}]
    outputs: [selected]
    keep: true
  scores:
    shape: [2, 6, 2]
    steps: [{layout: ABC->ACB}, {function: {text: TEXT}}]
"""
HALVED = "halved (best) => (y) { h = Constant <value_float = 0.5> () y = Mul (best, h) }"
TEXT = f"""'<domain: "s", opset_import: ["" : 17]> {HALVED}'"""


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Workspace:
    made = Workspace.make(tmp_path_factory.mktemp("detector") / "project")
    rng = np.random.default_rng(0)
    w, v = (", ".join(f"{value:.4f}" for value in rng.uniform(0.2, 1.0, size)) for size in (16, 8))
    (made.root / "m.onnx").write_bytes(onnx.parser.parse_model(DETECTOR.format(w=w, v=v)).SerializeToString())
    made.write("detector.yaml", RECIPE.replace("TEXT", TEXT))
    made.run("run", "detector.yaml")
    return made


def test_functions_nms_and_names_that_the_model_has_within(detector):
    path = detector.root / "build/detector/model.onnx"
    inputs, outputs = signature(path)
    x = np.random.default_rng(1).normal(size=(3, 4, 6))
    boxes, selected, scores = session(path).run(["boxes", "selected", "scores"], {"x": x})
    own = ort.InferenceSession(str(detector.root / "m.onnx"), providers=["CPUExecutionProvider"])
    model_boxes, model_scores = own.run(["boxes", "scores"], {"x": x.astype(np.float32).transpose(0, 2, 1) / 2})

    assert inputs == {"x": ("tensor(double)", ["batch", 4, 6])}
    assert outputs == {
        "boxes": ("tensor(float)", ["batch", 6, 4]),
        "selected": ("tensor(int64)", ["selected", 3]),
        "scores": ("tensor(float)", ["batch", 2, 6]),
    }
    np.testing.assert_allclose(boxes, model_boxes, rtol=1e-5)
    np.testing.assert_allclose(scores, model_scores.transpose(0, 2, 1) / 2, rtol=1e-5)
    assert len(selected) > 0
    assert all(scores[batch, kind, box] > 0.6 for batch, kind, box in selected)
    assert not onnx.load(path).functions


def test_the_same_bytes_in_another_folder_and_process(detector, tmp_path):
    other = Workspace.make(tmp_path / "elsewhere")
    other.env["PYTHONHASHSEED"] = "7"
    (other.root / "m.onnx").write_bytes((detector.root / "m.onnx").read_bytes())
    other.write("detector.yaml", detector.read("detector.yaml"))
    other.run("run", "detector.yaml")
    digests = [
        hashlib.sha256((one.root / "build/detector/model.onnx").read_bytes()).hexdigest() for one in (detector, other)
    ]

    assert digests[0] == digests[1]


WRONG = {
    "shape: [2, 6, 2]\n    steps: [{layout: ABC->ACB}, ": (
        "dtype: float64\n    shape: [2, 6, 2]\n    steps: [{layout: ABC->ACB}, {cast: float32}, ",
        "output 'scores' of the model is float32 [2, 6, 2], and append says float64 [batch, 6, 2]",
        "write its dtype and shape as they are under append.scores",
    ),
    "{layout: ABC->ACB}, {function: {text: TEXT}}]\nappend": (
        "{layout: ABC->ACB}, {function: {text: '<domain: \"s\"> f (x) => (y) { y = Mul x }'}}]\nappend",
        "the text of a function can't be read",
        'such as <domain: "steps", opset_import: ["" : 18]> gamma (x) => (y) { y = Sqrt (x) }',
    ),
}


@pytest.mark.parametrize("old", WRONG)
def test_what_only_a_run_can_tell_stops_it_with_a_remedy(detector, tmp_path, old):
    new, fact, hint = WRONG[old]
    assert RECIPE.count(old) == 1
    edited = detector.copy(tmp_path / "project")
    edited.write("detector.yaml", RECIPE.replace(old, new).replace("TEXT", TEXT))
    ran = edited.run("run", "detector.yaml", code=1)
    text = " ".join(ran.text.split())

    assert fact in text
    assert hint in text
    assert "Traceback" not in ran.text


TWO = """\
append:
  boxes:
    shape: [2, 6, 4]
    steps: [{nms: {scores: scores, max_output_boxes_per_class: 3, iou_threshold: 0.4, dim: DIM}}]
    outputs: [selected]
  scores: {shape: [2, 2, 6], steps: []}
"""
TOLD = {
    "a dimension's name": (
        TWO.replace("DIM", "batch"),
        "append.boxes.steps[0]: nms: 'batch' is the name of a dimension that the model has",
        "the number of rows is one of its own: dim: selected",
    ),
    "one name for two": (
        TWO.replace("DIM", "rows").replace("{shape: [2, 2, 6], steps: []}", """
    shape: [2, 2, 6]
    steps: [{function: {text: TEXT, gives: ['float32[batch, 2, 6]']}}]
    outputs: [halved]
  more:
    shape: [2, 6, 4]
    steps: [{nms: {scores: scores, max_output_boxes_per_class: 2, iou_threshold: 0.1, dim: rows}}]"""),
        "append.more.steps[0].nms.dim: append.boxes has rows called 'rows', too",
        "they are not as many: give each its own name",
    ),
    "a function of another opset": (
        f"append: {{boxes: {{shape: [2, 6, 4], steps: [{{scale: {{factor: 2}}}}, {{function: {{text: {TEXT}}}}}]}}}}\n",
        "append.boxes.steps[1].function.text: the function is of opset 17, the model of 18",
        'write opset_import: ["" : 18]',
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TOLD)
def test_what_the_recipe_alone_can_tell_is_told_before_anything_runs(detector, what):
    append, fact, hint = TOLD[what]
    text = RECIPE[: RECIPE.index("prepend:")].replace("[boxes, scores]", "[boxes, scores, more]")
    text = text.replace("scores: {0: batch}", "scores: {0: batch}, more: {0: batch}")
    opset = (
        text.replace("export:", "export:\n  opset: 18")
        if "opset 17" in fact
        else text.replace("export:", "export:\n  opset: 17")
    )
    path = detector.write("told.yaml", opset + append.replace("TEXT", TEXT))
    with pytest.raises(UserError) as told:
        recipes.load(path)

    (problem,) = told.value.problems
    assert f"{problem.where}: {problem.fact}".endswith(fact) and problem.hint == hint


def test_a_model_without_operators_of_onnx_has_no_opset_for_steps():
    with pytest.raises(StageError) as caught:
        attaching.attach(onnx.ModelProto(ir_version=8), {}, {})

    assert caught.value.fact == "the graph has no operators of ONNX's own, and so no opset that steps could be of"
    assert caught.value.hint == "leave prepend and append out"


def test_a_raised_version_of_a_step_is_in_the_keys_of_what_it_computes(detector, monkeypatch):
    own = recipes.load(detector.root / "detector.yaml").recipe
    before = {stage.name: stage.version for stage in plan(own, detector.root).stages}
    monkeypatch.setattr(STEPS["nms"], "VERSION", 1000)
    after = {stage.name: stage.version for stage in plan(own, detector.root).stages}

    assert {name for name in before if before[name] != after[name]} == {"reference", "parity/export", "attach"}


def test_a_pass_that_measures_on_data_is_given_the_published_inputs(detector, tmp_path):
    edited = detector.copy(tmp_path / "project")
    np.savez(edited.root / "data.npz", x=np.zeros((8, 4, 6)))
    passes = "optimize: [{quantize_static: {data: {npz: {path: data.npz, batch_size: 4}}}}]\n"
    edited.write("detector.yaml", detector.read("detector.yaml") + passes)
    edited.run("check", "detector.yaml")
    own = recipes.load(edited.root / "detector.yaml").recipe
    (stage,) = (stage for stage in plan(own, edited.root).stages if stage.name == "optimize/1-quantize_static")

    assert stage.options["inputs"] == {"x": {"dtype": "float64", "shape": [2, 4, 6]}}
