from __future__ import annotations

from textwrap import dedent

import msgspec
import pytest

from onnxbuild.parity import diagnosis
from onnxbuild.recipe.types import Parity

AXES = {"x": {"0": "batch", "1": "seq"}, "mask": {"0": "batch"}, "y": {"0": "batch"}}


def row(dims, got=1.0, reference=1.0, *, output="y", case=None, **known):
    return {
        "case": case or ",".join(f"{dim}={size}" for dim, size in dims.items()) or "example",
        "dims": dims,
        "output": output,
        "dtype": "float32",
        "shape": [3, 10],
        "reference_shape": [3, 10],
        "exact": False,
        "max_abs": abs(got - reference),
        "max_rel": 0.0,
        "points": [{"index": [2, 7], "got": got, "reference": reference}],
        "slack": 0.0,
        "nonfinite": None,
        "mismatches": 0,
        "error": None,
        "vacuous": None,
        **known,
    }


def explain(*rows, stage="parity/export", earlier=(), **known):
    facts = {"not_run": None, "results": list(rows)}
    names = [stage, *(name for name, _ in earlier)]
    graphs = {name: name.replace("parity/export", "export").replace("parity/", "optimize/") for name in names}
    entries = {graph: ("optimize", 0, graph.partition("-")[2]) for graph in graphs.values() if graph != "export"}
    context = diagnosis.Context(stage, AXES, earlier, graphs=graphs, entries=entries, **known)
    return diagnosis.explain(diagnosis.judge(facts, Parity()), facts, context)


def verdicts(*rows):
    return diagnosis.judge({"not_run": None, "results": list(rows)}, Parity())


def test_nothing_to_explain():
    assert explain(row({"batch": 2})) == ("", "")


def test_one_dimension_decides():
    fact, hint = explain(row({"batch": 2}), row({"batch": 1}), row({"batch": 3}, 4.5, 40.5), row({"batch": 64}, 2.0))
    assert fact == dedent("""\
        parity/export: output 'y' is wrong at 2 of 4 cases
            holds at batch=1, 2; breaks at batch=3, 64
            batch is axis 0 of 'x' and 'mask' and 'y'
            case batch=3: y[2, 7] is 4.5, the reference has 40.5: 36 off, 0.0405 allowed \
(atol 1e-05 + rtol 0.001 * |40.5|)
            introduced by export""")
    assert hint == "look at what the model does with batch at these sizes, or with other values"


def test_a_size_that_was_baked_in():
    _, hint = explain(row({"batch": 2}), row({"batch": 1}, 9.0), row({"batch": 3}, 9.0))
    assert hint == (
        "batch was fixed at the example's size: look for int(x.shape[i]), len(x), .item() or a Python loop over it, "
        "and use x.shape[i] as it is"
    )
    _, hint = explain(row({"batch": 1}), row({"batch": 3}, 9.0))
    assert hint.endswith("exporters take a size of 1 for a constant: give the example batch=2 or more")


def grid(*failing, got=9.0):
    sizes = [(2, 16), (1, 5), (3, 16), (2, 5), (1, 16), (3, 5)]
    return [row({"batch": b, "seq": s}, got if (b, s) in failing else 1.0) for b, s in sizes]


def test_the_right_one_of_two_dimensions_is_blamed():
    fact, _ = explain(*grid((1, 5), (2, 5), (3, 5)))
    assert "    holds at seq=16; breaks at seq=5, at every size of the others\n    seq is axis 1 of 'x'\n" in fact


def test_where_only_both_dimensions_together_break_it_cases_are_listed():
    fact, _ = explain(*grid((3, 5)))
    assert "    holds at batch=2,seq=16; batch=1,seq=5; batch=3,seq=16; batch=2,seq=5 and 1 more\n" in fact
    assert "    breaks at batch=3,seq=5\n" in fact


def test_data_alone_can_break_it():
    fact, _ = explain(row({"batch": 2}), row({"batch": 2}, 9.0, case="negative"))
    assert "    holds at batch=2\n    breaks at negative\n" in fact


def test_everything_breaks():
    fact, hint = explain(row({"batch": 2}, 9.0), row({"batch": 1}, 9.0))
    assert "    breaks at every case\n" in fact
    assert hint.startswith("wrong at every size")


def test_one_case_that_breaks_is_not_to_be_chosen_among_others():
    _, hint = explain(row({}, -0.5, 2.2))
    assert hint == ("look at the operators; the other exporter may differ")
    _, hint = explain(row({}, 2.204, 2.2))
    assert hint.endswith(
        "the other exporter may differ; if that error is acceptable: parity.outputs.y: {atol: 0.0019, reason: …}"
    )
    assert explain(row({}, error="onnxruntime failed: no", shape=None, max_abs=None, points=[]))[1] == ""


def half(dims, got, reference, dtype="float16"):
    return row(dims, got, reference, dtype=dtype)


def test_errors_of_the_size_of_a_rounding_step_are_not_blamed_on_a_dimension_or_a_pass():
    rows = half({"b": 2}, 0.6, 0.6), half({"b": 1}, 0.6, 0.6006), half({"b": 3}, 0.039, 0.0382)
    _, hint = explain(*rows)
    assert hint == (
        "at most 0.0008 off is 1.4 rounding steps of float16 at the largest value compared (0.601), so the sizes are hardly "
        "to blame; tolerances that fit float16: parity.outputs.y: {rtol: 0.004, atol: 0.00065, reason: …}"
    )
    of_pass = hint.replace("parity.outputs", "optimize[0].parity.outputs")
    assert explain(*rows, stage="parity/1-onnxsim")[1] == of_pass


@pytest.mark.parametrize(
    ("dtype", "off", "wanted"),
    [
        ("float16", 0.0039, "rtol: 0.004"),
        ("bfloat16", 0.03, "rtol: 0.03"),
        ("float16", 0.01, ""),
        ("float32", 0.01, ""),
    ],
)
def test_how_large_a_rounding_error_may_be_depends_on_the_dtype(dtype, off, wanted):
    _, hint = explain(half({"b": 2}, 1.0, 1.0, dtype), half({"b": 1}, 1.0 - off, 1.0, dtype))
    assert ("rounding steps" in hint, wanted in hint) == (bool(wanted), True)


def test_a_nan_is_no_rounding_error():
    nan = {"equal": 0, "mismatches": 1, "index": [0], "got": "nan", "reference": 1.0}
    _, hint = explain(half({"b": 2}, 1.0, 1.0), half({"b": 1}, 1.001, 1.0) | {"mismatches": 1, "nonfinite": nan})
    assert "rounding" not in hint


def test_a_pass_is_named_with_the_error_before_it():
    before = [
        ("parity/export", verdicts(*grid())),
        ("parity/1-onnxsim", verdicts(*[{**r, "max_abs": 1.5e-6} for r in grid()])),
    ]
    fact, hint = explain(*grid((3, 5), got=1.003), stage="parity/2-onnxoptimizer", earlier=before)
    assert fact.splitlines()[0] == "parity/2-onnxoptimizer: output 'y' is wrong at 1 of 6 cases"
    assert fact.splitlines()[-1] == (
        "    introduced by optimize/2-onnxoptimizer; after optimize/1-onnxsim it was at most 1.5e-06 off at this case"
    )
    assert hint == (
        "take 'onnxoptimizer' out of optimize, or keep only those of its steps that are right; "
        "if that error is acceptable: optimize[0].parity.outputs.y: {atol: 0.002, reason: …}"
    )


def test_what_was_wrong_before_is_not_blamed_on_the_pass():
    before = [("parity/export", verdicts(*grid((3, 5)))), ("parity/1-onnxsim", verdicts(*grid((3, 5))))]
    fact, hint = explain(*grid((3, 5)), stage="parity/2-onnxoptimizer", earlier=before)
    assert fact.splitlines()[-1].startswith("    introduced by export; after optimize/1-onnxsim it was at most 8 off")
    assert "take 'onnxoptimizer' out" not in hint


def test_cases_that_do_not_run_are_told_once_for_all_outputs():
    dead = {"error": "onnxruntime failed: no", "shape": None, "max_abs": None, "points": []}
    rows = [
        row({"batch": batch}, output=output, **(dead if batch == 3 else {})) for batch in (2, 1, 3) for output in "yz"
    ]
    fact, _ = explain(*rows)
    assert fact == dedent("""\
        parity/export: the graph can't be run at 1 of 3 cases
            holds at batch=1, 2; breaks at batch=3
            batch is axis 0 of 'x' and 'mask' and 'y'
            case batch=3: onnxruntime failed: no
            introduced by export""")


def test_many_outputs_are_cut_short():
    fact, _ = explain(*[row({"batch": 2}, 9.0, output=name) for name in "abcdef"])
    assert fact.count("is wrong") == diagnosis.SHOWN
    assert fact.splitlines()[-1] == "... and 2 more outputs (all in the report)"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (
            {"mismatches": 3, "nonfinite": {"equal": 0, "mismatches": 3, "index": [0], "got": "nan", "reference": 1.0}},
            "y[0] is nan, the reference has 1: 3 of 30 elements are NaN or infinite, and differ",
        ),
        (
            {
                "exact": True,
                "dtype": "int64",
                "mismatches": 2,
                "points": [{"index": [], "got": 12345678901, "reference": 4}],
            },
            "y is 12345678901, the reference has 4: 2 of 30 elements differ; int64 must be equal",
        ),
        ({"error": "dtype int32, the reference has int64"}, "dtype int32, the reference has int64"),
    ],
)
def test_what_was_seen(known, expected):
    fact, _ = explain(row({}, **known))
    assert fact.splitlines()[1] == f"    case example: {expected}"


def test_a_target_that_is_wrong_is_named_with_its_options():
    context = diagnosis.Context(
        "parity/ort", AXES, graphs={"parity/ort": "target/ort"}, entries={"target/ort": ("targets", "ort")}
    )
    facts = {"not_run": None, "results": grid((3, 5))}
    _, hint = diagnosis.explain(verdicts(*grid((3, 5))), facts, context)
    assert hint == "take 'ort' out of targets, or look at its options"


def test_of_several_passes_that_can_be_tuned_the_one_to_tune_is_named():
    for several, which in ((False, ""), (True, " --pass float16")):
        _, hint = explain(row({}, 9.0), stage="parity/1-float16", excluding={"float16"}, several=several)
        assert hint.startswith(f"onnxbuild tune{which} finds the nodes that 'float16' has to leave as they are")


def test_what_an_earlier_graph_is_allowed_is_put_down_to_it():
    earlier = [("parity/export", verdicts(row({}))), ("parity/1-quantize_dynamic", verdicts(row({}, 1.5)))]
    loose = [(name, [msgspec.structs.replace(one, passed=True, rtol=0.9) for one in found]) for name, found in earlier]
    fact, hint = explain(row({}, 1.6), stage="parity/2-onnxsim", earlier=loose, place="optimize[1].parity")
    assert "introduced by optimize/1-quantize_dynamic; after optimize/1-quantize_dynamic it was at most" in fact
    assert (
        hint
        == "most of it comes from optimize[0], where a wider tolerance holds: widen optimize[1].parity, or look at that"
    )
    alike = [(name, [msgspec.structs.replace(one, passed=True) for one in found]) for name, found in earlier]
    fact, _ = explain(row({}, 1.6), stage="parity/2-onnxsim", earlier=alike, place="optimize[1].parity")
    assert "introduced by optimize/2-onnxsim" in fact
    fact, _ = explain(row({}, 9.0), stage="parity/2-onnxsim", earlier=loose, place="optimize[1].parity")
    assert "introduced by optimize/2-onnxsim" in fact


def test_sizes_that_hang_together_are_named_as_dims_would_say_it():
    sizes = [(1, 2, 3), (4, 2, 6), (1, 5, 6), (1, 2, 6), (4, 5, 3)]
    rows = [row({"past": p, "seq": s, "total": t}, 1.0 if p + s == t else 9.0) for p, s, t in sizes]
    _, hint = explain(*rows)
    assert hint == "it holds where the sizes hang together: say so in export.dims, {total: past + seq}"


def test_a_file_that_fixes_a_size_is_not_told_of_python():
    _, hint = explain(row({"batch": 2}), row({"batch": 1}, 9.0), row({"batch": 3}, 9.0), exporter="none")
    assert hint == "the file computes with a fixed batch: 2; export it anew with a dynamic batch"
    _, hint = explain(row({"batch": 2}, 9.0), row({"batch": 1}, 9.0), exporter="none")
    assert hint == "wrong at every size: look at the operators, not at the shapes"


def test_a_result_that_became_a_constant_is_told_by_its_shape():
    bad = {"error": "shape", "max_abs": None, "points": []}
    rows = [row({"batch": b}, shape=[3, 4], reference_shape=[b, 4], **bad) for b in (1, 2)]
    _, hint = explain(*rows, exporter="torchscript")
    assert hint == (
        "the graph gives the shape [3, 4] whatever goes in: the exporter took it for a constant; "
        "look for .numpy(), .tolist(), .item() or torch.tensor(...) of a computed value"
    )
    _, hint = explain(*rows, exporter="torchscript", fixed=["traced with the example's values: m.py:3"])
    assert hint.startswith("the graph was traced with the example's values: m.py:3; compute it with tensors")
