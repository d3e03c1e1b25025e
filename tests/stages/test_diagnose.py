"""What is found out about a graph that fails: whose fault it is, whether the size or the values decide, and what is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser
from workspace import Workspace

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Trait
from onnxbuild.parity import arrays, samples
from onnxbuild.plan import diagnosis, planner
from onnxbuild.queries import decision, verdicts
from onnxbuild.report.types import StageReport
from onnxbuild.runtimes import reproduction
from onnxbuild.stages import diagnose, parity

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
# onnxruntime 1.31 folds the Pad into the MaxPool, which pads with -inf.
POOL = f"""{HEAD} g (float[n, 1, 4, 4] x) => (float[n, 1, 4, 4] y) {{
    p = Constant <value = int64[8] {{0, 0, 1, 1, 0, 0, 1, 1}}> ()
    q = Pad (x, p)
    y = MaxPool <kernel_shape = [3, 3]> (q)
}}"""
POOL_RECIPE = """\
version: 1
name: pool
model: {onnx: {path: m.onnx}}
export:
  opset: 17
  inputs: {x: {dtype: float32, shape: [2, 1, 4, 4], data: {uniform: {low: -2.0, high: -1.0}}}}
  outputs: [y]
  dynamic_axes: {x: {0: n}, y: {0: n}}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build that failed by onnxruntime's own fault."""
    workspace = Workspace.make(tmp_path_factory.mktemp("pool") / "project")
    onnx.save(parser.parse_model(POOL), workspace.root / "m.onnx")
    workspace.write("pool.yaml", POOL_RECIPE)
    workspace.said = workspace.run("run", "pool.yaml", code=1).text  # type: ignore[attr-defined]  # read below
    return workspace


def test_what_onnxruntime_does_to_the_graph_itself_is_not_blamed_on_the_export(built):
    (failure,) = built.report("pool")["failures"]

    assert failure["stage"] == "parity/export"
    line = "introduced by onnxruntime's own rewriting of the graph: right at disable_all"
    assert failure["fact"].splitlines()[-1].strip() == line
    assert failure["hint"].startswith("set runtime.session.graph_optimization_level: disable_all, at which it is right")
    assert built.statuses("pool")["diagnose/export"] == "built"
    assert line in built.said


def test_a_failing_case_is_kept_and_its_script_shows_it_with_three_libraries_alone(built, tmp_path):
    folder = built.root / "build/pool/failures/parity/export"
    case = np.load(folder / "n=1.npz")
    moved = tmp_path / "elsewhere"
    folder.rename(moved)  # it stands alone
    try:
        done = subprocess.run(
            [sys.executable, moved / "n=1.py"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
    finally:
        moved.rename(folder)

    assert sorted(case) == ["got/y", "input/x", "reference/y"]
    assert done.returncode == 1
    assert "AssertionError" in done.stderr and "Mismatched elements" in done.stderr
    imports = [line for line in (folder / "n=1.py").read_text().splitlines() if "import" in line]
    assert imports == [
        "from pathlib import Path",
        "import numpy as np",
        "import onnx",
        "import onnxruntime as ort",
    ]
    assert "shown without onnxbuild by build/pool/failures/parity/export/n=" in built.said


def test_nothing_is_looked_into_twice_and_what_was_removed_is_kept_again(edited):
    edited.run("run", "pool.yaml", code=1)
    assert edited.statuses("pool")["diagnose/export"] == "cached"
    (edited.root / "build/pool/failures/parity/export/n=1.npz").unlink()
    edited.run("run", "pool.yaml", code=1)
    assert edited.statuses("pool")["diagnose/export"] == "built"
    assert (edited.root / "build/pool/failures/parity/export/n=1.npz").is_file()


def test_failures_go_away_with_the_failure_and_no_file_of_anyone_else(edited):
    folder = edited.root / "build/pool/failures"
    mine = edited.write("build/pool/failures/parity/export/notes.txt", "what I found")
    changed = edited.write("build/pool/failures/parity/export/n=1.py", "print('my own')")
    edited.write("pool.yaml", POOL_RECIPE + "runtime: {session: {graph_optimization_level: disable_all}}\n")
    edited.run("run", "pool.yaml")

    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted([mine, changed])
    mine.unlink()
    changed.unlink()
    edited.run("run", "pool.yaml")
    assert (edited.root / "build/pool/model.onnx").is_file()


def test_a_clean_project_has_no_folder_of_failures_left(edited):
    edited.write("pool.yaml", POOL_RECIPE + "runtime: {session: {graph_optimization_level: disable_all}}\n")
    edited.run("run", "pool.yaml")

    assert not (edited.root / "build/pool/failures").exists()


class Told:
    """What is said of a graph that differs from its source, before it is looked into and after."""

    def __init__(self, workspace: Workspace, source: str, graph: str, recipe: str) -> None:
        self.root = workspace.root
        for name, text in (("m.onnx", source), ("graph.onnx", graph)):
            onnx.save(parser.parse_model(text), self.root / name)
        loaded = recipes.load(workspace.write("r.yaml", recipe))
        plan = planner.plan(loaded.recipe, loaded.root)
        (proof,) = plan.those(Trait.PROVES)
        self.reference(next(stage.options for stage in plan.stages if stage.name == "reference"))
        outcome = parity.run(self.task(proof))
        report = StageReport(proof.name, proof.kind, "built", "", [], [], facts=outcome.facts)
        judged = verdicts.judged(loaded.recipe, proof, report, [])
        self.before = judged.failure
        stage = diagnosis.stage_for(plan.stages, proof, verdicts.looked_into(proof, judged))
        self.found = diagnose.run(self.task(stage)).facts
        told = verdicts.told_again(loaded.recipe, proof, judged, [], self.found).failure
        assert told is not None
        self.fact, self.hint = told.fact, told.hint

    def reference(self, options):
        session = onnxruntime.InferenceSession(self.root / "m.onnx", providers=["CPUExecutionProvider"])
        made = {}
        for case in options["cases"]:
            given = samples.make(options["inputs"], case, options["seed"], self.root)
            for name, array in zip(options["outputs"], session.run(options["outputs"], given), strict=True):
                made[f"{case['name']}/{name}"] = array
        arrays.save(self.root / "reference", made)

    def task(self, stage):
        scratch = self.root / f"scratch-{stage.kind}"
        scratch.mkdir()
        given = decision.Given({"graph": "graph.onnx", "reference": "reference"}, {"model": self.root / "m.onnx"})
        return decision.task_for(stage, given, self.root, self.root, scratch, self.root / "out")


RECIPE = """\
version: 1
name: r
model: {{onnx: {{path: m.onnx}}}}
export:
  opset: 17
  inputs: {{{inputs}}}
  outputs: [{outputs}]
  dynamic_axes: {{{axes}}}
  dims: {{{dims}}}
parity: {{seed: {seed}}}
"""


def mean(divisor: str) -> str:
    """The mean of x where a mask of 0 and 1 says so."""
    return f"""{HEAD} g (float[2, seq] x, int64[2, seq] mask) => (float[2, 1] y) {{
        m = Cast <to = 1> (mask)
        kept = Mul (x, m)
        axis = Constant <value = int64[1] {{1}}> ()
        total = ReduceSum (kept, axis)
        count = ReduceSum (m, axis)
        one = Constant <value = float {{1.0}}> ()
        least = Max (count, one)
        y = Div (total, {divisor})
    }}"""


MEAN = RECIPE.format(
    inputs="x: {dtype: float32, shape: [2, 16]}, mask: {dtype: int64, shape: [2, 16], data: {integers: {low: 0, high: 2}}}",
    outputs="y",
    axes="x: {1: seq}, mask: {1: seq}",
    dims="seq: {min: 1, max: 16}",
    seed=0,
)


def test_a_row_that_is_all_zero_by_chance_is_not_taken_for_a_size(workspace):
    told = Told(workspace, mean("least"), mean("count"), MEAN)

    assert "breaks at seq=1" in told.before.fact and "seq is axis 1" in told.before.fact
    assert "seq is axis" not in told.fact
    assert "with other data it holds at seq=1 too: the values decide, not the size" in told.fact
    assert "where it breaks, and nowhere else, 'mask' has a row that is all zero" in told.fact


def scaled(factor: str) -> str:
    return f"""{HEAD} g (float[n, 3] x) => (float[n, 3] y) {{
        shape = Shape <start = 0, end = 1> (x)
        three = Constant <value = int64[1] {{3}}> ()
        same = Equal (shape, three)
        wrong = Cast <to = 1> (same)
        scale = Mul (wrong, {factor})
        off = Mul (x, scale)
        y = Add (x, off)
    }}"""


def test_a_size_that_decides_stays_the_cause_when_the_data_are_drawn_anew(workspace):
    recipe = RECIPE.format(
        inputs="x: {dtype: float32, shape: [2, 3]}",
        outputs="y",
        axes="x: {0: n}, y: {0: n}",
        dims="n: {max: 3}",
        seed=0,
    )
    head = "zero = Constant <value = float {0.0}> ()\n two = Constant <value = float {2.0}> ()\n scale"
    source, graph = (scaled(name).replace("scale =", f"{head} =") for name in ("zero", "two"))
    told = Told(workspace, source, graph, recipe)

    assert "holds at n=1, 2; breaks at n=3" in told.fact and "n is axis 0 of 'x' and 'y'" in told.fact
    assert "other data" not in told.fact
    assert told.hint == "look at what the model does with n at these sizes"


def ranked(score: str) -> str:
    return f"""{HEAD} g (float[n, 6] x) => (int64[n, 6] order) {{
        step = Constant <value = float[6] {{0.0, 0.001, 0.002, 0.003, 0.004, 0.005}}> ()
        later = Add (x, step)
        k = Constant <value = int64[1] {{6}}> ()
        best, order = TopK ({score}, k)
    }}"""


def test_equal_scores_in_another_order_are_likely_a_tie(workspace):
    recipe = RECIPE.format(
        inputs="x: {dtype: float32, shape: [2, 6], data: {integers: {low: 0, high: 3}}}",
        outputs="order",
        axes="x: {0: n}, order: {0: n}",
        dims="",
        seed=0,
    )
    told = Told(workspace, ranked("x"), ranked("later"), recipe)

    assert "the values are the reference's along axis 1, in another order: likely a tie" in told.fact
    assert told.hint.startswith("where scores are equal, each runtime is free in their order")
    assert told.hint.endswith("or compare a list of indices by sorted: {by: the output of scores}")


def test_under_a_wide_tolerance_other_values_are_no_other_order(workspace):
    recipe = RECIPE.format(
        inputs="x: {dtype: float32, shape: [2, 64]}", outputs="y", axes="x: {0: n}, y: {0: n}", dims="", seed=0
    )
    text = f"{HEAD} g (float[n, 64] x) => (float[n, 64] y) {{ k = Constant <value_float = KK> () y = Mul (x, k) }}"
    wide = "parity: {rtol: 0.1, atol: 0.3, reason: r}\n"
    told = Told(workspace, text.replace("KK", "1.0"), text.replace("KK", "1.3"), recipe.split("parity:")[0] + wide)

    assert "in another order" not in told.fact
    assert "each runtime is free in their order" not in told.hint


@pytest.mark.parametrize(
    ("comparator", "fact"),
    [
        ("cosine: {min: 0.9, axis: 5}", "cosine: there is no axis 5: the shape is [1, 3]"),
        ("boxes: {}", "boxes: boxes are numbers [..., number, 4], and this is [1, 3] of float32"),
    ],
)
def test_a_comparator_that_the_output_is_not_for_is_the_recipes_fault(workspace, comparator, fact):
    recipe = RECIPE.format(inputs="x: {dtype: float32, shape: [1, 3]}", outputs="y", axes="", dims="", seed=0)
    text = f"{HEAD} g (float[1, 3] x) => (float[1, 3] y) {{ y = Neg (x) }}"
    own = f"parity: {{outputs: {{y: {{{comparator}}}}}, reason: r}}\n"
    told = Told(workspace, text, text, recipe.split("parity:")[0] + own)

    assert told.fact.splitlines()[-1].strip().endswith(fact)
    assert "introduced by" not in told.fact
    assert told.hint == "compare it in another way: parity.outputs.y"
    assert not told.found["unsteady"]


def test_a_graph_that_draws_at_random_is_told_by_running_it_twice(workspace):
    recipe = RECIPE.format(
        inputs="x: {dtype: float32, shape: [2, 3]}", outputs="y", axes="x: {0: n}, y: {0: n}", dims="", seed=0
    )
    noise = "r = RandomNormalLike (x)\n y = Add (x, r)"
    text = f"{HEAD} g (float[n, 3] x) => (float[n, 3] y) {{ BODY }}"
    told = Told(workspace, text.replace("BODY", "y = Identity (x)"), text.replace("BODY", noise), recipe)

    assert told.hint.startswith("the graph gives another result each time for the same input")


def test_a_comparator_that_does_not_take_an_output_is_to_be_replaced_and_the_graph_is_not_blamed(workspace):
    recipe = RECIPE.format(
        inputs="x: {dtype: float32, shape: [2, 3]}", outputs="y", axes="x: {0: n}, y: {0: n}", dims="", seed=0
    )
    recipe = recipe.replace("seed: 0", "outputs: {y: {boxes: {}}}, reason: they are said to be")
    text = f"{HEAD} g (float[n, 3] x) => (float[n, 3] y) {{ y = Identity (x) }}"
    told = Told(workspace, text, text, recipe)

    assert told.found["unsteady"] is False
    assert "boxes are numbers [..., number, 4], and this is [2, 3] of float32" in told.fact
    assert told.hint.startswith("compare it in another way: parity.outputs.y")


def test_what_is_too_large_is_not_kept_and_said_so(workspace, monkeypatch):
    monkeypatch.setattr(reproduction, "MOST", 10)
    told = Told(workspace, mean("least"), mean("count"), MEAN)

    assert told.found["kept"] == [] and not list((workspace.root / "out").rglob("*.npz"))
    assert any("seq=1 of parity/export is not kept" in note for note in told.found["notes"])


RUNTIME = {
    "session": {
        "graph_optimization_level": "all",
        "execution_mode": "parallel",
        "intra_op_num_threads": 1,
        "inter_op_num_threads": 1,
        "enable_mem_pattern": True,
        "enable_cpu_mem_arena": True,
        "config_entries": {"session.set_denormal_as_zero": "1"},
    },
    "providers": ["CPUExecutionProvider"],
    "provider_options": {},
}


@pytest.mark.parametrize(
    ("dtype", "values", "others"),
    [
        ("bfloat16", np.array([1.5, -2.0], ml_dtypes.bfloat16), np.array([1.5, 2.0], ml_dtypes.bfloat16)),
        ("string", np.array(["é", "b"], object), np.array(["é", "c"], object)),
    ],
)
def test_a_script_runs_for_what_numpy_has_no_dtype_for(tmp_path, dtype, values, others):
    text = f'<ir_version: 10, opset_import: ["" : 18]> g ({dtype}[2] a) => ({dtype}[2] b) {{ b = Identity (a) }}'
    onnx.save(parser.parse_model(text), tmp_path / "graph.onnx")
    for reference, code in ((values, 0), (others, 1)):
        (npz,) = reproduction.write_case(tmp_path, "a b/c", ({"a": values}, {}, {"b": reference}))
        script = reproduction.write_script(
            npz,
            'about "it"',
            "graph.onnx",
            RUNTIME,
            {"b": reproduction.Limit((0.0, 0.0), {})},
            bfloat16=dtype == "bfloat16",
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert Path(script).name == npz.name.replace(".npz", ".py") and "/" not in npz.name


def test_names_of_cases_are_names_of_files():
    names = ["batch=2,seq=16", "a/b", "a b", "..", "x" * 300, "y" * 300, "A"]
    made = [reproduction.file_name(name) for name in names]

    assert made[0] == names[0]
    assert len(set(made)) == len(made)
    assert all(len(name) < 120 and "/" not in name and not name.startswith(".") for name in made)


def test_only_values_that_are_the_same_are_an_order():
    a = np.array([[3, 1, 2], [6, 5, 4]])
    assert diagnose.same_in_another_order(a[:, ::-1], a, 0, 0) == {1}
    assert diagnose.same_in_another_order(a[::-1], a, 0, 0) == {0}
    assert diagnose.same_in_another_order(a + 1, a, 0, 0) == set()
    assert diagnose.same_in_another_order(a.astype("f4"), a, 0, 0) == set()
    assert diagnose.same_in_another_order(np.array([True, False]), np.array([False, True]), 0, 0) == set()
