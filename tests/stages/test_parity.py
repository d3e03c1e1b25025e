from __future__ import annotations

import ml_dtypes
import msgspec
import numpy as np
import onnx
import pytest
from onnx import parser

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.parity import arrays, diagnosis, samples
from onnxbuild.plan import cases
from onnxbuild.recipe.running import Runtime
from onnxbuild.recipe.types import Export, Parity
from onnxbuild.stages import parity

RELU = "(float[batch, 3] x) => (float[batch, 3] y)", "y = Relu(x)"
BATCH = {
    "inputs": {"x": {"dtype": "float32", "shape": [2, 3]}},
    "outputs": ["y"],
    "dynamic_axes": {"x": {"0": "batch"}, "y": {"0": "batch"}},
    "dims": {"batch": {"min": 1}},
}


def relu(x):
    return {"y": np.maximum(x, 0)}


@pytest.fixture
def run(tmp_path):
    def run(signature, body, reference, *, domains="", section=BATCH, runtime=(), stage="parity/export", **options):
        """Measure a graph against a function of numpy arrays; the outcome of the stage."""
        text = f'<ir_version: 10, opset_import: ["" : 18, "com.acme": 1{domains}]> g {signature} {{ {body} }}'
        onnx.save(parser.parse_model(text), tmp_path / "graph.onnx")
        export = msgspec.convert(section, Export)
        inputs = msgspec.to_builtins(export.inputs)
        derived, _ = cases.derive(export, msgspec.convert(options.pop("parity", {}), Parity))
        outputs = {}
        for case in derived:
            results = reference(**samples.make(inputs, case, 0, tmp_path))
            outputs |= {f"{case['name']}/{name}": array for name, array in results.items()}
        arrays.save(tmp_path / "reference", outputs)
        made = {
            "inputs": inputs,
            "outputs": export.outputs,
            "cases": derived,
            "seed": 0,
            "runtime": msgspec.to_builtins(msgspec.convert(dict(runtime), Runtime)),
            "allow_not_run": [],
        }
        files = {"graph": str(tmp_path / "graph.onnx"), "reference": str(tmp_path / "reference")}
        task = Task(stage, "parity", made | options, files, str(tmp_path), "", "")
        outcome = parity.run(task)
        msgspec.json.encode(outcome)  # what is not JSON can't be kept
        return outcome

    return run


def verdicts(outcome, **tolerances):
    return {(v.case, v.output): v for v in diagnosis.judge(outcome.facts, Parity(**tolerances))}


def test_a_graph_that_is_right_at_every_size(run):
    outcome = run(*RELU, relu)
    assert outcome.facts["providers"] == ["CPUExecutionProvider"]
    assert outcome.facts["not_run"] is None
    assert [row["case"] for row in outcome.facts["results"]] == ["batch=2", "batch=1", "batch=3"]
    assert all(row["max_abs"] == 0 and row["vacuous"] is None for row in outcome.facts["results"])
    assert all(v.status == "passed" for v in verdicts(outcome, rtol=0, atol=0).values())
    assert outcome.cacheable


def test_a_wrong_value_at_one_size_names_index_and_both_values(run):
    def wrong_at_three(x):
        y = np.maximum(x, 0)
        if len(x) == 3:
            y[2, 1] += 0.5
        return {"y": y}

    outcome = run(*RELU, wrong_at_three)
    found = verdicts(outcome)
    assert [v.passed for v in found.values()] == [True, True, False]
    worst = found["batch=3", "y"].worst
    assert worst.index == [2, 1]
    assert worst.reference - worst.got == pytest.approx(0.5)
    assert verdicts(outcome, atol=0.6)["batch=3", "y"].passed


def test_a_case_that_onnxruntime_can_not_run_is_recorded_and_the_rest_measured(run):
    signature, body = (
        "(float[batch, 3] x) => (float[N, 3] y)",
        "s = Constant <value = int64[2] {2, 3}> ()\n y = Reshape(x, s)",
    )
    outcome = run(signature, body, lambda x: {"y": x})
    errors = [row["error"] for row in outcome.facts["results"]]
    assert errors[0] is None
    assert all(error.startswith("onnxruntime failed: ") for error in errors[1:])
    assert "/onnxruntime_src" not in errors[1]
    assert "\n" not in errors[1]
    assert not outcome.cacheable
    fact, hint = diagnosis.explain(
        diagnosis.judge(outcome.facts, Parity()),
        outcome.facts,
        diagnosis.Context("parity/export", BATCH["dynamic_axes"], graphs={"parity/export": "export"}),
    )
    assert fact.startswith(
        "parity/export: the graph can't be run at 2 of 3 cases\n    holds at batch=2; breaks at batch=1, 3\n"
    )
    assert "batch is axis 0 of 'x' and 'y'" in fact
    assert "int(x.shape[i])" in hint


def test_a_wrong_shape_names_the_axis(run):
    signature, body = "(float[batch, 3] x) => (float[N, 3] y)", "y = Concat <axis = 0> (x, x)"
    outcome = run(signature, body, lambda x: {"y": x})
    error = outcome.facts["results"][2]["error"]
    assert error == "shape [6, 3], the reference has [3, 3]: axis 0 is 6 instead of 3"
    fact, _ = diagnosis.explain(
        diagnosis.judge(outcome.facts, Parity()),
        outcome.facts,
        diagnosis.Context("parity/export", BATCH["dynamic_axes"], graphs={"parity/export": "export"}),
    )
    assert "the reference has [2, 3]: axis 0 (batch) is 4 instead of 2" in fact
    assert outcome.cacheable


def test_a_wrong_dtype_and_a_wrong_rank(run):
    signature, body = (
        "(float[batch, 3] x) => (float[batch, 3] y, double[batch, 3] z)",
        "y = Relu(x)\n z = Cast <to = 11> (x)",
    )
    section = BATCH | {"outputs": ["y", "z"]}
    outcome = run(signature, body, lambda x: {"y": x[0], "z": x}, section=section, parity={"derive": False})
    assert [row["error"] for row in outcome.facts["results"]] == [
        "shape [2, 3], the reference has [3]: rank 2 instead of 1",
        "dtype float64, the reference has float32",
    ]


def test_integers_booleans_and_strings_are_compared_exactly(run):
    section = {
        "inputs": {"n": {"dtype": "int64", "shape": [4]}},
        "outputs": ["twice", "big", "text"],
        "dynamic_axes": {"n": {"0": "N"}},
    }
    body = """
        twice = Add(n, n)
        five = Constant <value = int64 {5}> ()
        big = Greater(n, five)
        text = Cast <to = 8> (n)
    """
    signature = "(int64[N] n) => (int64[N] twice, bool[N] big, string[N] text)"

    def right(n):
        return {"twice": n * 2, "big": n > 5, "text": n.astype(str).astype(object)}

    def wrong(n):
        return {"twice": n * 2 + 1, "big": n <= 5, "text": right(n)["text"]}

    assert all(v.passed and v.rtol is None for v in verdicts(run(signature, body, right, section=section)).values())
    found = verdicts(run(signature, body, wrong, section=section), rtol=9, atol=9)
    assert {v.output for v in found.values() if not v.passed} == {"twice", "big"}
    assert found["N=4", "twice"].note == "4 of 4 elements differ; int64 must be equal"


def test_bfloat16_and_float16_come_out_of_onnxruntime(run):
    section = {
        "inputs": {"a": {"dtype": "bfloat16", "shape": [2]}, "b": {"dtype": "float16", "shape": [2]}},
        "outputs": ["c", "d"],
        "dynamic_axes": {"a": {"0": "N"}},
    }
    signature = "(bfloat16[N] a, float16[2] b) => (bfloat16[N] c, float16[2] d)"
    outcome = run(signature, "c = Identity(a)\n d = Abs(b)", lambda a, b: {"c": a, "d": abs(b)}, section=section)
    assert [row["dtype"] for row in outcome.facts["results"][:2]] == ["bfloat16", "float16"]
    assert all(v.passed for v in verdicts(outcome, rtol=0, atol=0).values())
    assert np.dtype(ml_dtypes.bfloat16).name == "bfloat16"


def test_nan_infinity_and_what_is_vacuous(run):
    signature = (
        "(float[batch, 3] x) => (float[batch, 3] nan, float[batch, 3] one, float[batch, 0] none, float[batch, 3] inf)"
    )
    body = """
        zero = Sub(x, x)
        nan = Div(zero, zero)
        e = Exp(zero)
        one = Identity(e)
        i = Constant <value = int64[1] {0}> ()
        a = Constant <value = int64[1] {1}> ()
        none = Slice(x, i, i, a)
        inf = Div(e, zero)
    """
    names = ["nan", "one", "none", "inf"]

    def same(x):
        return {
            "nan": np.full_like(x, np.nan),
            "one": np.ones_like(x),
            "none": x[:, :0],
            "inf": np.full_like(x, np.inf),
        }

    outcome = run(signature, body, same, section=BATCH | {"outputs": names})
    found = verdicts(outcome)
    assert {v.status for v in found.values()} == {"vacuous"}
    assert all(v.passed for v in found.values())
    assert [found["batch=2", name].note for name in names] == [
        "all NaN in the reference",
        "always 1.0, though the inputs vary",
        "empty: there is nothing to compare",
        "always inf, though the inputs vary",
    ]

    def finite(x):
        return same(x) | {"nan": np.zeros_like(x), "inf": -same(x)["inf"]}

    found = verdicts(run(signature, body, finite, section=BATCH | {"outputs": names}), atol=1e30)
    assert {v.output for v in found.values() if not v.passed} == {"nan", "inf"}
    assert found["batch=2", "nan"].worst == diagnosis.Element([0, 0], "nan", 0.0)


def test_constant_inputs_make_no_output_vacuous(run):
    inputs = {"x": {"dtype": "float32", "shape": [2, 3], "data": {"constant": 4.0}}}
    outcome = run(*RELU, relu, section=BATCH | {"inputs": inputs})
    assert {v.status for v in verdicts(outcome).values()} == {"passed"}


def test_it_is_the_reference_alone_that_makes_an_output_vacuous(run):
    """A graph that is off by a little from a constant shows no more than one that gives the constant."""
    signature, body = (
        RELU[0],
        "zero = Sub(x, x)\n e = Exp(zero)\n s = Constant <value = float {1e-7}> ()\n d = Mul(x, s)\n y = Add(e, d)",
    )
    constant = run(signature, body, lambda x: {"y": np.ones_like(x)})
    assert {v.status for v in verdicts(constant).values()} == {"vacuous"}
    varied = run(signature, "zero = Sub(x, x)\n y = Exp(zero)", lambda x: {"y": 1 + x * np.float32(1e-6)})
    assert {v.status for v in verdicts(varied).values()} == {"passed"}


GATE = "(float[batch, 3] x) => (float[batch, 3] y)", "t = com.acme.Gate(x)\n y = Relu(t)"


def test_an_operator_that_onnxruntime_lacks_is_named_with_the_remedy(run):
    with pytest.raises(StageError) as caught:
        run(*GATE, relu)
    assert caught.value.fact == "onnxruntime has no implementation of com.acme::Gate, so parity can't be checked"
    assert "add com.acme::Gate to parity.allow_not_run" in caught.value.hint
    with pytest.raises(StageError) as caught:
        run(GATE[0], GATE[1].replace("t = ", "[gate] t = "), relu)
    assert caught.value.fact.splitlines()[1:] == ["    node 'gate'"]  # by which the engine finds its line


def test_an_operator_that_may_be_lacking_makes_parity_not_run(run):
    outcome = run(*GATE, relu, allow_not_run=["com.acme::Gate"])
    assert outcome.facts["not_run"] == "onnxruntime has no implementation of com.acme::Gate"
    found = verdicts(outcome)
    assert len(found) == 3
    assert {(v.status, v.passed, v.note) for v in found.values()} == {("not run", True, outcome.facts["not_run"])}


def test_a_kernel_that_is_missing_is_named_with_its_dtypes(run):
    section = {"inputs": {"x": {"dtype": "bfloat16", "shape": [3, 3]}}, "outputs": ["y"]}
    gemm = (
        "(bfloat16[3, 3] x) => (float[3, 3] y) <bfloat16[3, 3] w = {1,2,3,4,5,6,7,8,9}>",
        "a = Gemm(x, w)\n b = Cast<to = 1>(a)\n y = Gemm(b, b)",
    )
    with pytest.raises(StageError) as caught:
        run(*gemm, lambda x: {"y": x}, section=section)
    fact = "onnxruntime has no implementation of ai.onnx::Gemm for bfloat16 or float32"
    assert caught.value.fact == f"{fact}, so parity can't be checked"  # it doesn't say which of the two nodes
    assert caught.value.hint == (
        "onnxruntime has more operators in float32: convert the model and its inputs, "
        "or add ai.onnx::Gemm to parity.allow_not_run to build unchecked"
    )
    named = gemm[0], gemm[1].replace("a = ", "[first] a = ")
    outcome = run(*named, lambda x: {"y": x}, section=section, allow_not_run=["ai.onnx::Gemm"])
    assert outcome.facts["not_run"] == "onnxruntime has no implementation of ai.onnx::Gemm for bfloat16"


def test_a_provider_that_falls_back_is_said_plainly_and_fails_where_required(run):
    from onnxbuild.runtimes.onnxruntime import usable_providers

    if dict(usable_providers()).get("CUDAExecutionProvider") == "":
        pytest.skip("CUDA works here")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    outcome = run(*RELU, relu, runtime={"providers": providers})
    assert outcome.facts["providers"] == ["CPUExecutionProvider"]
    assert outcome.facts["notes"] == ["asked for CUDAExecutionProvider, got CPUExecutionProvider"]
    with pytest.raises(StageError, match=r"runtime\.require asks for CUDAExecutionProvider"):
        run(*RELU, relu, runtime={"providers": providers, "require": ["CUDAExecutionProvider"]})


def test_a_runtime_that_keeps_a_shape_is_found_by_running_the_first_case_once_more(run, monkeypatch):
    """Stands in for a provider that keeps what it prepared for the last shape; none that runs here does so."""
    from onnxbuild.runtimes import onnxruntime

    real = onnxruntime.caller

    def caller(session, outputs):
        call, largest = real(session, outputs), [0]

        def kept(feed):
            largest[0] = max(largest[0], len(feed["x"]))
            made = call(feed)
            return made if len(feed["x"]) == largest[0] or len(feed["x"]) == 1 else {"y": made["y"] + 1}

        return kept

    monkeypatch.setattr(onnxruntime, "caller", caller)
    outcome = run(*RELU, relu)
    again = [row for row in outcome.facts["results"] if row.get("again")]
    assert [row["case"] for row in again] == ["batch=2 once more"]
    fact, hint = diagnosis.explain(
        diagnosis.judge(outcome.facts, Parity()),
        outcome.facts,
        diagnosis.Context("parity/export", BATCH["dynamic_axes"], graphs={"parity/export": "export"}),
    )
    assert fact.startswith("parity/export: output 'y' is right at first, and wrong at batch=2 once more\n")
    assert hint.startswith("onnxruntime keeps something of a shape that it has seen")


def test_a_graph_that_a_pass_broke_is_not_blamed_on_the_provider(run, monkeypatch):
    broken = "(float[batch, 3] x) => (float[batch, 3] y)", "y = Relu <alpha = 1.0> (x)"
    with pytest.raises(StageError) as caught:
        run(*broken, relu, stage="parity/1-onnxscript")
    assert caught.value.fact.startswith("onnxruntime can't open the graph: ")
    assert "take that pass out of optimize" in caught.value.hint and "'onnxscript'" in caught.value.hint
    with pytest.raises(StageError, match="can't open the graph") as caught:
        run(*broken, relu)
    assert "which providers work here" in caught.value.hint


def test_a_graph_that_only_onnxruntimes_own_rewriting_can_not_open_is_told(run, monkeypatch):
    """Stands in for a fault of its optimizer while a graph is opened; none is known in this release."""
    import onnxruntime as ort

    real = ort.InferenceSession

    def opened(path, options, **rest):
        if options.graph_optimization_level != ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : a fusion failed")
        return real(path, options, **rest)

    monkeypatch.setattr(ort, "InferenceSession", opened)
    with pytest.raises(StageError) as caught:
        run(*RELU, relu)
    assert caught.value.fact == (
        "onnxruntime can't open the graph: a fusion failed; without its own rewriting of the graph, it can"
    )
    assert caught.value.hint.startswith("set runtime.session.graph_optimization_level: disable_all")
