from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import several
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onnxbuild.parity import compare, vacuous
from onnxbuild.parity.vacuous import Values

EMPTY, NAN, ONE, TWO, MIXED = (
    Values("empty", 0),
    Values("nan", 3),
    Values("constant", 3, 1.0),
    Values("constant", 3, 2.0),
    Values("mixed", 3),
)


@given(npst.arrays(st.sampled_from(["f2", "f4", "i8", "?"]), npst.array_shapes(min_side=0, max_side=4)))
@example(np.full(compare.CHUNK + 1, np.nan))
@example(np.r_[np.full(compare.CHUNK, np.nan), 0.0])
@example(np.r_[0.0, np.nan])
@example(np.full(2, np.nan, ml_dtypes.bfloat16))
@example(np.ones(2, ml_dtypes.bfloat16))
@example(np.r_[np.ones(compare.CHUNK), 2.0])
@example(np.array([2**63 - 512, 2**63 - 511]))
@example(np.array([2**53 + 1]))
def test_what_elements_have_in_common(array):
    # as Python's own numbers: as float64, large integers that differ would look equal
    flat = [x.item() for x in array.reshape(-1)]
    found = vacuous.values(array)
    assert found.size == len(flat)
    if not flat:
        assert found.kind == "empty"
    elif all(x != x for x in flat):
        assert found.kind == "nan"
    else:
        assert found.kind == ("constant" if all(x == flat[0] for x in flat) else "mixed")
    if found.kind == "constant":
        value = float(found.value) if isinstance(found.value, str) else found.value  # infinities are text
        assert value == flat[0]


def test_text_and_infinity():
    assert vacuous.values(np.array(["a", "a"], object)) == Values("constant", 2, "a")
    assert vacuous.values(np.array([np.inf, np.inf])) == Values("constant", 2, "inf")
    assert vacuous.values(np.array([np.inf, -np.inf])).kind == "mixed"


@pytest.mark.parametrize(
    ("fed", "varied"),
    [
        ([{"x": ONE}, {"x": ONE}], False),
        ([{"x": ONE, "s": TWO}, {"x": ONE, "s": TWO}], False),  # between inputs is not between cases
        ([{"x": EMPTY}, {"x": ONE}, {"x": EMPTY}], False),
        ([{"x": NAN}, {"x": NAN}], False),
        ([{"x": ONE}, {"x": TWO}], True),
        ([{"x": EMPTY}, {"x": ONE}, {"x": NAN}], True),
        ([{"x": ONE, "s": MIXED}], True),
        ([], False),
    ],
)
def test_whether_inputs_vary(fed, varied):
    assert vacuous.vary(fed) == varied


@pytest.mark.parametrize(
    ("cases", "why"),
    [
        ([EMPTY, EMPTY], "empty in every case"),
        ([EMPTY, NAN], "all NaN in every case"),
        ([EMPTY, ONE, ONE], "always 1.0, though the inputs vary"),
        ([ONE, TWO], ""),
        ([NAN, ONE], ""),
        ([ONE, MIXED], ""),
        ([Values("constant", 1, 1.0)], ""),  # any scalar is one value
    ],
)
def test_what_proves_nothing(cases, why):
    assert vacuous.of_all(cases, varied=True) == why
    assert vacuous.of_all(cases, varied=False) == ("" if why.startswith("always") else why)


HOLLOW = """\
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
  y = Sub(x, x)
  z = Relu(x)
}
"""


@pytest.mark.parametrize(
    ("other", "statuses"), [(2.0, {"y": {"vacuous"}, "z": {"passed"}}), (1.0, {"y": {"passed"}, "z": {"passed"}})]
)
def test_the_report_says_the_same_of_the_reference_and_of_every_parity(workspace, other, statuses):
    more = (
        "parity:\n  derive: false\n  cases:\n"
        f"    a: {{data: {{x: {{constant: 1.0}}}}}}\n    b: {{data: {{x: {{constant: {other}}}}}}}\n"
    )
    recipe = several.add(workspace, "hollow", several.PASSES, more, text=HOLLOW)
    workspace.replace(recipe, "outputs: [y]", "outputs: [y, z]")
    workspace.replace(recipe, "    y: {0: batch}\n", "    y: {0: batch}\n    z: {0: batch}\n")
    workspace.replace(recipe, "shape: [2, 4]}", "shape: [2, 4], data: {constant: 1.0}}")
    workspace.run("run", recipe)
    report = workspace.report("hollow")
    assert {name: {r["status"] for r in report["parity"] if r["output"] == name} for name in "yz"} == statuses
    noted = [note for note in report["notes"] if "proves little" in note]
    assert noted == (
        ["output y proves little: always 0.0, though the inputs vary"] if statuses["y"] == {"vacuous"} else []
    )


NOTHING = """\
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) <float nan = {nan}> {
  y = Mul(x, nan)
  z = Sub(x, x)
}
"""


def test_a_graph_of_which_nothing_is_proven_is_not_published(workspace):
    """A checkpoint full of NaN, say: whatever the graph computes would be as good."""
    recipe = several.add(workspace, "nothing", several.PASSES, text=NOTHING)
    workspace.replace(recipe, "outputs: [y]", "outputs: [y, z]")
    workspace.replace(recipe, "    y: {0: batch}\n", "    y: {0: batch}\n    z: {0: batch}\n")
    workspace.run("run", recipe, code=1)
    (failed,) = [stage for stage in workspace.report("nothing")["stages"] if stage["status"] == "failed"]
    assert failed["name"] == "parity/export"
    assert failed["failure"] == {
        "stage": "parity/export",
        "fact": "no comparison proves anything: y: all NaN in the reference; z: always 0.0, though the inputs vary",
        "hint": "look at the model's weights and the inputs' data, or set parity.allow_vacuous to build all the same",
        "log": "",
        "kept": [],
    }
    assert not (workspace.root / "build/nothing/model.onnx").exists()
    workspace.write(recipe, workspace.read(recipe) + "parity: {allow_vacuous: true}\n")
    workspace.run("run", recipe)
    assert workspace.statuses("nothing")["parity/export"] == "cached"  # it was judged, not measured again
    assert {row["status"] for row in workspace.report("nothing")["parity"]} == {"vacuous"}
