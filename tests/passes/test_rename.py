"""rename, through the front door: what has other names computes what it did, and all of the recipe knows the new ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from onnx import parser
from workspace import Workspace

from onnxbuild.errors import StageError
from onnxbuild.graphs import dimensions, lines, modelfile, publishing
from onnxbuild.passes import rename
from onnxbuild.store.store import LocalStore

# Inner values, one of a subgraph among them, and a dimension have names that the recipe gives others; a subgraph sees two
# inputs; z is an output as it is.
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, past, 4] x, float[N, sequence, 4] z, bool[1] c)
    => (float[N, "past + sequence", 4] logits, float[N, sequence, 4] z, float[N, batch, 4] y)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
{
    scores = Concat <axis = 1> (x, z)
    flag = Squeeze (c)
    logits = MatMul (scores, w)
    y = If (flag) <
        then_branch = t () => (float[N, batch, 4] o) { image = Neg (z) o = Add (image, z) },
        else_branch = e () => (float[N, batch, 4] p) { p = Identity (x) }
    >
}
"""
EXPORT = """\
version: 1
name: NAME
model: {onnx: {path: m.onnx}}
export:
  inputs:
    x: {dtype: float32, shape: [2, 3, 4]}
    z: {dtype: float32, shape: [2, 5, 4]}
    c: {dtype: bool, shape: [1]}
  outputs: [logits, z, y]
  dynamic_axes: {x: {0: N, 1: past}, z: {0: N, 1: sequence}, logits: {0: N, 1: total}, y: {0: N, 1: other}}
  dims: {N: {min: 1, max: 3}, past: {min: 1, max: 4}, sequence: {min: 2, max: 6}, total: past + sequence}
"""
PLAIN = f"""{EXPORT.replace("NAME", "plain")}
optimize:
  - rename:
      inputs: {{x: image, z: token}}
      outputs: {{logits: scores}}
      dims: {{N: batch, sequence: length, total: all}}
  - onnxoptimizer: [eliminate_deadend]
parity:
  outputs: {{scores: {{rtol: 1.0e-4, reason: sums}}}}
  cases: {{twos: {{dims: {{batch: 3, length: 4}}, data: {{image: {{constant: 2.0}}}}}}}}
metric: {{function: "metrics:near", data: {{npz: {{path: val.npz, batch_size: 1}}}}, max_drop: 0.01}}
targets: {{ort: {{}}}}
benchmark: {{warmup: 0, runs: 1, dims: {{batch: 1, length: 3}}}}
"""
STEPS = f"""{EXPORT.replace("NAME", "steps")}
prepend:
  x: {{name: picture, dtype: float64, shape: [2, 3, 4], dynamic_axes: {{0: N, 1: past}}, steps: [{{cast: float32}}]}}
append:
  logits: {{shape: [2, 8, 4], steps: [{{scale: {{factor: 0.5}}}}], outputs: [image]}}
optimize:
  - rename: {{inputs: {{picture: x, z: logits}}, outputs: {{image: best}}, dims: {{N: batch}}}}
parity: {{derive: false, cases: {{more: {{dims: {{batch: 3}}}}}}}}
"""
METRIC = """\
import numpy as np

def near(outputs, data):
    return float((np.abs(outputs["scores"] - data["wanted"]) < 1).mean())
"""


def by_hand(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.concatenate([x, z], 1) @ np.array([*range(1, 10), *range(1, 8)], np.float32).reshape(4, 4)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = Workspace.make(tmp_path_factory.mktemp("rename") / "project")
    (made.root / "m.onnx").write_bytes(parser.parse_model(MODEL).SerializeToString())
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(8, 3, 4)).astype(np.float32), rng.normal(size=(8, 5, 4)).astype(np.float32)
    np.savez(made.root / "val.npz", image=x, token=z, c=np.zeros(8, bool), wanted=by_hand(x, z))
    made.write("metrics.py", METRIC)
    made.write("plain.yaml", PLAIN)
    made.write("steps.yaml", STEPS)
    made.run("run", "plain.yaml", "steps.yaml")
    return made


def session(path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_files_have_the_new_names_and_compute_the_same(built):
    folder = built.root / "build/plain"
    onnx.checker.check_model(folder / "model.onnx", full_check=True)
    rng = np.random.default_rng(5)
    x, z = rng.normal(size=(3, 2, 4)).astype(np.float32), rng.normal(size=(3, 6, 4)).astype(np.float32)
    for file in ("model.onnx", "ort/model.ort"):
        opened = session(folder / file)
        shapes = [{one.name: one.shape for one in of} for of in (opened.get_inputs(), opened.get_outputs())]
        assert shapes[0] == {"image": ["batch", "past", 4], "token": ["batch", "length", 4], "c": [1]}
        assert [*shapes[1]] == ["scores", "z", "y"]
        assert shapes[1]["scores"] == ["batch", "past + length", 4]
        assert shapes[1]["y"] == ["batch", "batch_inner", 4]  # the model's own "batch" is no dimension of the recipe's
        for flag, wanted in ((True, 0 * z), (False, x)):
            scores, token, y = opened.run(None, {"image": x, "token": z, "c": np.array([flag])})
            np.testing.assert_allclose(scores, by_hand(x, z), rtol=1e-5)
            assert (token == z).all() and (y == wanted).all()


def test_all_that_is_told_of_a_build_has_the_new_names(built):
    report, manifest = built.report("plain"), json.loads(built.read("build/plain/manifest.json"))

    assert {row["stage"] for row in report["parity"]} == {
        "parity/export", "parity/1-rename", "parity/2-onnxoptimizer", "parity/ort"
    }  # fmt: skip
    assert {row["output"] for row in report["parity"]} == {"scores", "z", "y"}
    assert all(row["passed"] for row in report["parity"])
    assert report["dims"]["all"] == "past + length" and report["dims"]["batch"] == {
        "min": 1,
        "max": 3,
        "multiple_of": 1,
    }
    assert [one["name"] for one in manifest["inputs"]] == ["image", "token", "c"]
    assert {stage["name"]: stage["facts"]["value"] for stage in report["stages"] if stage["kind"] == "metric"} == {
        "metric/reference": 1.0, "metric/1-rename": 1.0, "metric/2-onnxoptimizer": 1.0, "metric/ort": 1.0
    }  # fmt: skip
    built.run("verify", "plain.yaml")


def test_another_name_exports_nothing_again(built, tmp_path):
    edited = built.copy(tmp_path / "project")
    edited.replace("plain.yaml", "outputs: {logits: scores}", "outputs: {logits: scores, y: chosen}")
    (planned,) = json.loads(edited.run("plan", "plain.yaml", "--json").out)["recipes"]
    states = {stage["name"]: stage["state"] for stage in planned["stages"]}

    assert {name for name, state in states.items() if state == "up to date"} == {"export", "check/export"}
    assert states["optimize/1-rename"] == "run" and states["optimize/2-onnxoptimizer"] == "maybe"
    told = edited.run("explain", "plain.yaml", "optimize/1-rename").out
    assert "optimize[0].rename.outputs.y: none -> chosen" in " ".join(told.split())


def test_it_renames_what_steps_make(built):
    opened = session(built.root / "build/steps/model.onnx")
    x, z = np.ones((1, 2, 4)), np.ones((1, 2, 4), np.float32)
    outputs = [one.name for one in opened.get_outputs()]
    got = dict(zip(outputs, opened.run(None, {"x": x, "logits": z, "c": np.array([False])}), strict=True))

    assert [*got] == ["best", "z", "y"]
    np.testing.assert_allclose(got["best"], by_hand(x, z) / 2)
    stages = [stage["name"] for stage in built.report("steps")["stages"]]
    assert [name for name in stages if name.startswith("parity/")] == [
        "parity/export", "parity/attach", "parity/1-rename"
    ]  # fmt: skip


def test_what_is_wrong_of_the_source_model_is_told_by_the_names_that_are_written_there(built, tmp_path):
    edited = built.copy(tmp_path / "project")
    edited.replace("plain.yaml", "logits: {0: N, 1: total}", "logits: {0: sequence, 1: total}")
    told = " ".join(edited.run("run", "plain.yaml", code=1).text.split())

    assert "output 'logits', axis 0 is declared 'sequence' and is not" in told
    assert "it is 'N' hint: write export.dynamic_axes: {logits: {0: N}}" in told


def plant(workspace: Workspace, recipe: str, stage: str) -> None:
    """Let a stage have given a graph with other weights."""
    (key,) = (one["key"] for one in workspace.report(recipe)["stages"] if one["name"] == stage)
    store = LocalStore(workspace.root / ".onnxbuild", pytest.fail)
    given, objects = store.any_trace(key), store.workplace().objects
    model = modelfile.load(objects / given.outcome.outputs["graph"])
    (weight,) = (one for one in model.graph.initializer if one.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1, "w"))
    graph, refs = modelfile.save(model, objects, objects)
    outcome = msgspec.structs.replace(given.outcome, outputs={"graph": graph}, objects=[graph, *refs])
    store.keep(key, msgspec.structs.replace(given, outcome=outcome, sizes=store.sizes(outcome.objects)))
    store.close()


FAULTS = {
    # by the names that the graph at fault has
    ("plain", "export"): ("parity/export", ["got/logits", "input/x", "reference/logits"]),
    ("plain", "optimize/1-rename"): ("parity/1-rename", ["got/scores", "input/image", "reference/scores"]),
    ("steps", "attach"): ("parity/attach", ["got/image", "input/picture", "reference/image"]),
}


@pytest.mark.parametrize(("recipe", "stage"), FAULTS)
def test_a_planted_fault_is_found_and_its_script_shows_it(built, tmp_path, recipe, stage):
    proof, arrays = FAULTS[recipe, stage]
    edited = built.copy(tmp_path / "project")
    plant(edited, recipe, stage)
    ran = edited.run("run", f"{recipe}.yaml", code=1)
    folder = edited.root / f"build/{recipe}/failures/{proof}"
    script = next(iter(sorted(folder.glob("*.py"))))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)

    (failure,) = edited.report(recipe)["failures"]
    assert (
        failure["stage"] == proof
        and f"output '{'best' if recipe == 'steps' else 'scores'}' is wrong" in failure["fact"]
    )
    assert edited.statuses(recipe)[f"diagnose/{proof.removeprefix('parity/')}"] == "built", ran.text
    assert {*arrays} <= {*np.load(script.with_suffix(".npz"))}
    assert done.returncode == 1 and "AssertionError" in done.stderr, done.stderr


REFUSED = {
    "inputs: {q: k}": ("rename.inputs: unknown input 'q'", "known here: x, z, c"),
    "outputs: {logit: k}": ("rename.outputs: unknown output 'logit'", "did you mean 'logits'?"),
    "dims: {M: k}": ("rename.dims: unknown dimension 'M'", ""),
    "inputs: {x: x}": ("rename.inputs.x: 'x' is its name already", "take it out"),
    "inputs: {x: c}": ("rename.inputs.x: 'c' is the name of another input or output", "give it a name of its own"),
    "inputs: {x: y}": ("rename.inputs.x: 'y' is the name of another input or output", "give it a name of its own"),
    "inputs: {x: k}, outputs: {y: k}": ("rename.outputs.y: 'k' is the name of another input or output", ""),
    "dims: {N: past}": ("rename.dims.N: 'past' is the name of another dimension", "give it a name of its own"),
    "dims: {past: lambda}": ("'lambda + sequence' is no expression of dimensions", ""),
    "dims: {N: 3b}": ("not of the form that is expected", "letters, digits and '_', not starting with a digit"),
    "": ("rename renames nothing", "name something under inputs, outputs or dims, or take it out"),
}


FIRST = "rename comes first, right after the export: from there on the published names hold"
PLACES = {
    "optimize: [{onnxoptimizer: [nop]}, {rename: {inputs: {x: k}}}]\n": (FIRST, "make it the first pass"),
    "optimize: [{rename: {inputs: {x: k}}}, {rename: {inputs: {k: j}}}]\n": (FIRST, "say it in the first one"),
    "optimize: [{rename: {inputs: {x: k}, dims: {N: n}}}]\nparity: {outputs: {p: {exact: {}}}, cases: {a: {data: {x: {}}}}}"
    "\nbenchmark: {dims: {n: 9}}\n": (
        "parity.cases.a.data: unknown input 'x'", "known here: k, z, c", "unknown output 'p'",
        "the size 9 of 'n' is more than its max 3", "see export.dims.N",
    ),
}  # fmt: skip


UNBOUNDED = {
    EXPORT.replace("N: {min: 1, max: 3}", "N: {min: 1}").replace("{onnx: {path: m.onnx}}", '{pytorch: {factory: "net:net"}}')
    + "optimize: [{rename: {dims: {N: n}}}]\ntargets: {tensorrt: {}, coreml: {source: program}}\n": (
        "export.dims.N: n has no max", "say how large it may be: N: {max: 64}",
        "targets.coreml.source: the source's own model has nothing of rename",
    ),
}  # fmt: skip


def test_what_can_not_be_is_refused_at_its_place_with_a_remedy(workspace):
    (workspace.root / "m.onnx").write_bytes(parser.parse_model(MODEL).SerializeToString())
    more = {f"optimize: [{{rename: {{{options}}}}}]\n": said for options, said in REFUSED.items()} | PLACES
    wanted = {EXPORT + text: said for text, said in more.items()} | UNBOUNDED
    for number, text in enumerate(wanted):
        workspace.write(f"r{number}.yaml", text.replace("NAME", f"r{number}"))
    told = workspace.run("check", *(f"r{number}.yaml" for number in range(len(wanted))), code=2).text
    for number, said in enumerate(wanted.values()):
        own = " ".join(part for part in re.split(r"(?m)^(?=r\d+\.yaml)", told) if part.startswith(f"r{number}.yaml"))
        assert all(one in " ".join(own.split()) for one in said), (own, said)


def test_an_array_in_a_file_goes_by_the_name_in_export(workspace):
    (workspace.root / "m.onnx").write_bytes(
        parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg (x) }')
        .SerializeToString()
    )  # fmt: skip
    np.savez(workspace.root / "x.npz", x=np.ones(2, np.float32))
    recipe = {
        "version": 1, "name": "r", "model": {"onnx": {"path": "m.onnx"}},
        "export": {
            "inputs": {"x": {"dtype": "float32", "shape": [2], "data": {"npz": {"path": "x.npz"}}}}, "outputs": ["y"],
        },
        "optimize": [{"rename": {"inputs": {"x": "y"}, "outputs": {"y": "x"}}}],
        "parity": {"allow_vacuous": True},
    }  # fmt: skip
    workspace.write("r.yaml", yaml.safe_dump(recipe, sort_keys=False))
    workspace.run("run", "r.yaml")
    opened = session(workspace.root / "build/r/model.onnx")

    assert [opened.get_inputs()[0].name, opened.get_outputs()[0].name] == ["y", "x"]
    assert list(opened.run(None, {"y": np.array([1, 2], np.float32)})[0]) == [-1, -2]


def test_a_constant_output_and_a_graph_that_lacks_a_name(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] w) <float[1] w = {2}> { u = Neg (x) }'
    model = parser.parse_model(text)
    assert publishing.rename(model, {"x": "u"}, {"w": "k"}, {}) == []
    assert [model.graph.input[0].name, *model.graph.node[0].output] == ["u", "u/inner"]
    assert session_of(model).run(["k"], {"u": np.zeros(1, np.float32)})[0] == [2]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(StageError, match="the graph has no input or output 'x'") as raised:
        rename.run(tmp_path / "m.onnx", rename.Options(inputs={"x": "u"}), tmp_path)
    assert raised.value.hint == "the names on the left are those that the graph has before this pass"


def test_a_node_keeps_its_line_where_its_value_has_another_ones_name():
    before, after, last = (parser.parse_model(MODEL) for _ in range(3))
    for model in (after, last):
        publishing.rename(model, {"z": "token"}, {"logits": "scores"}, {"N": "n"})
    del last.graph.node[1]  # by a later pass
    noted = [lines.Noted("Concat", ["scores"], place="net.py:1"), lines.Noted("MatMul", ["logits"], place="net.py:2")]
    known = lines.Lines(lines.LineMap("", noted), [before, after, last])
    found = {node.output[0]: known.best(node) for node in last.graph.node}

    assert {name: one and one.place for name, one in found.items()} == {
        "scores/inner": "net.py:1", "scores": "net.py:2", "y": None, "z": None
    }  # fmt: skip


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("N", "n"), ("2*N + Max(1, M)", "2*n + Max(1, M)"), ("floor(N/2)", "floor(n/2)"), ("N.1", "N.1"), ("NN", "NN"),
    ],
)  # fmt: skip
def test_what_exporters_write_of_a_dimension_follows(text, wanted):
    assert dimensions.renamed(text, {"N": "n", "Max": "m"}) == wanted
