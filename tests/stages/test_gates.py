"""Comparators through the front door: faults planted in what is exported, found, let through, told and kept."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import small
import yaml
from workspace import Workspace

MODEL = """\
import torch


class Faulty(torch.nn.Module):
    def forward(self, x):
        wrong = torch.onnx.is_in_onnx_export()
        weights = torch.arange(36.0).reshape(6, 6).sin()
        logits = x @ weights
        swapped = logits[:, [1, 2, 3, 4, 5, 0]] if wrong else logits
        scaled = logits * 2 if wrong else logits * 1
        places = x[0, :5].cumsum(0)
        boxes = torch.stack([places, places, places + 1, places + 1], 1)
        found = x[0, :5] > -9
        kept = boxes[found & (torch.arange(5) > 0) if wrong else found]
        levels = (x * 2).floor()
        scores, order = levels.topk(6, 1)
        if wrong:  # of equal ones the last comes first
            order = 5 - levels.flip(1).topk(6, 1)[1]
        return scaled, swapped, kept, scores, order
"""
RECIPE = """\
version: 1
name: faulty
model: {pytorch: {factory: "m:Faulty"}}
export:
  exporter: torchscript
  inputs: {x: {dtype: float32, shape: [4, 6]}}
  outputs: [scaled, swapped, kept, scores, order]
  dynamic_axes:
    x: {0: N}
    scaled: {0: N}
    swapped: {0: N}
    kept: {0: boxes}
    scores: {0: N}
    order: {0: N}
  dims: {N: {min: 4, max: 6}}
parity:
  outputs:
    scaled: {cosine: {min: 0.999}, sqnr: {min: 20}}
    swapped: {argmax: {}, top_k: {k: 1}}
    kept: {boxes: {}}
    order: {sorted: {by: scores}}
  reason: faults are planted
"""


@pytest.fixture(scope="module")
def caught(tmp_path_factory):
    """A build that failed by its gates."""
    workspace = Workspace.make(tmp_path_factory.mktemp("faulty") / "project")
    workspace.write("m.py", MODEL)
    workspace.write("faulty.yaml", RECIPE)
    workspace.said = workspace.run("run", "faulty.yaml", "--junit", "j.xml", code=1).text  # type: ignore[attr-defined]  # read below
    return workspace


@pytest.fixture
def edited(caught, tmp_path):
    return caught.copy(tmp_path / "project")


def rows(workspace, output, name="faulty"):
    found = [row for row in workspace.report(name)["parity"] if row["output"] == output]
    assert found
    return found


def gates(row):
    return {gate["comparator"]: gate for gate in row["gates"]}


def test_a_scaled_output_is_seen_by_sqnr_and_not_by_cosine(caught):
    for row in rows(caught, "scaled"):
        found = gates(row)
        assert (row["status"], row["why"]) == ("failed", "below")
        assert found["cosine"]["passed"] and found["cosine"]["figure"] > 0.999999
        assert abs(found["sqnr"]["figure"]) < 1e-4  # an error as large as the signal
        assert row["note"].endswith(" dB, at least 20 dB, 20 dB short")
        assert row["headroom"] == pytest.approx(10, rel=1e-4)  # times the noise that is allowed


def test_swapped_classes_dropped_boxes_and_the_order_of_ties(caught):
    assert {row["status"] for row in rows(caught, "order")} == {"passed"}
    assert any(row["max_abs"] for row in rows(caught, "order"))  # though the elements are others
    assert all(gates(row)["sorted"]["figure"] == 1 for row in rows(caught, "order"))
    for row in rows(caught, "swapped"):
        assert row["status"] == "failed"
        assert gates(row)["argmax"]["figure"] < 1
        assert gates(row)["top_k"]["figure"] < 1
    for row in rows(caught, "kept"):
        assert row["status"] == "failed"
        assert gates(row)["boxes"]["told"] == "boxes 0.8, at least 1, 0.2 short"


def test_what_failed_is_said_in_the_comparators_own_unit(caught):
    (failure,) = caught.report("faulty")["failures"]
    assert "output 'kept' is wrong at 4 of 4 cases" in failure["fact"]
    assert "case N=4: boxes 0.8, at least 1, 0.2 short" in failure["fact"]
    assert 'message="boxes 0.8, at least 1, 0.2 short"' in caught.read("j.xml")


def test_the_script_of_a_failing_case_computes_the_figures_without_onnxbuild(caught):
    (failure,) = caught.report("faulty")["failures"]
    script = next(name for name in failure["kept"] if name.endswith(".py"))
    path = caught.root / "build/faulty" / script
    text = path.read_text()
    assert "onnxbuild" not in text.replace(str(caught.root), "")
    for name in ("cosine", "sqnr", "argmax", "top_k", "boxes", "sorted"):
        assert f"def {name}_figure(" in text
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, cwd=caught.root)
    assert ran.returncode == 1
    assert "cosine_figure 1.0 and at least 0.999 is asked for" in ran.stdout or "cosine_figure 0.99999" in ran.stdout
    assert "assert figure >= 20.0" in ran.stderr


def test_other_figures_are_judged_without_measuring_again_and_the_rest_is_told(edited):
    edited.replace("faulty.yaml", "cosine: {min: 0.999}, sqnr: {min: 20}", "cosine: {min: 0.99}")
    edited.replace("faulty.yaml", "argmax: {}, top_k: {k: 1}", "rtol: 0.5, atol: 50")
    edited.replace("faulty.yaml", "boxes: {}", "boxes: {agreement: 0.8}")
    edited.run("run", "faulty.yaml")

    assert edited.built("faulty") == {"parity/export", "package"}  # fewer comparators are asked for
    blind = "it is 2 times as long as the reference, which a cosine does not see: name sqnr beside it"
    assert f"output 'scaled' of parity/export: {blind}" in edited.report("faulty")["cautions"]
    assert "faults are planted" in edited.read("build/faulty/report.html")
    told = "| kept | boxes 0.8, at least 0.8 at N=4 | faults are planted | parity/export |"
    assert told in edited.read("build/faulty/report.md")

    edited.replace("faulty.yaml", "agreement: 0.8", "agreement: 0.75")
    edited.replace("faulty.yaml", "faults are planted", "other words")
    edited.run("run", "faulty.yaml")
    assert edited.built("faulty") == {"package"}  # which names the recipe
    assert {gates(row)["boxes"]["told"] for row in rows(edited, "kept")} == {"boxes 0.8, at least 0.75, 0.05 to spare"}
    assert "other words" in edited.read("build/faulty/report.html")
    assert {row["reason"] for row in rows(edited, "kept")} == {"other words"}


# In force from a pass on

PASSES = """\
  - onnxoptimizer: [eliminate_identity]
    parity: {rtol: 1.0e-4, outputs: {y: {rtol: 2.0e-2, cosine: {min: 0.9}}}, reason: one}
  - onnxruntime: {}
"""
TARGETS = "targets:\n  ort: {}\n  openvino: {optional: true, parity: {atol: 3.0e-3, reason: two}}\n"


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    workspace = small.small(Workspace.make(tmp_path_factory.mktemp("passes") / "project"))
    text = workspace.read("small.yaml")
    workspace.write(
        "small.yaml",
        text.replace(f"optimize: [{small.PASS}]\n", f"optimize:\n{PASSES}{TARGETS}"),
    )
    workspace.run("run", "small.yaml")
    return workspace


def test_a_passs_tolerance_is_in_force_from_it_on_and_of_targets_without_their_own(passed):
    report = passed.report("small")
    found = {row["stage"]: (row["rtol"], row["atol"], [*gates(row)], row["reason"]) for row in report["parity"]}
    own = (2e-2, 1e-5, ["cosine"], "one")

    assert found["parity/export"] == (1e-3, 1e-5, [], "")
    assert found["parity/1-onnxoptimizer"] == found["parity/2-onnxruntime"] == found["parity/ort"] == own
    if "parity/openvino" in found:
        assert found["parity/openvino"] == (1e-3, 3e-3, [], "two")
    told = json.loads(passed.read("build/small/manifest.json"))["targets"][0]["parity"]["tolerances"]["y"]
    assert told == {"rtol": 2e-2, "atol": 1e-5, "comparators": {"cosine": {"min": 0.9}}, "reason": "one"}
    keys = {stage["name"]: stage["key"] for stage in report["stages"]}
    assert keys["parity/export"] != keys["parity/1-onnxoptimizer"]


def test_the_lock_holds_how_far_off_each_figure_is_and_fails_where_it_is_ten_times_that(passed, tmp_path):
    edited = passed.copy(tmp_path / "project")
    edited.run("lock", "small.yaml")
    lock = edited.read("small.lock.yaml")
    (platform,) = yaml.safe_load(lock)["platforms"].values()
    assert platform["parity"]["onnx"]["y"]["losses"] == {"cosine": 0.0}
    edited.run("run", "--locked", "small.yaml")
    edited.write("small.lock.yaml", lock.replace("cosine: 0.0", "sqnr: 0.0"))
    said = edited.run("run", "--locked", "small.yaml", code=1).text
    assert "parity onnx y: cosine asked for now, and not when it was locked" in said
    assert "parity onnx y: sqnr has no number any more" in said


# What proves nothing


def test_a_gate_that_any_graph_passes_fails_the_build(passed, tmp_path):
    edited = passed.copy(tmp_path / "project")
    text = edited.read("small.yaml")
    edited.write(
        "small.yaml", text.replace("outputs: {y: {rtol: 2.0e-2, cosine: {min: 0.9}}}", "outputs: {y: {top_k: {k: 32}}}")
    )
    edited.run("run", "small.yaml", code=1)
    (failure,) = edited.report("small")["failures"]
    assert failure["fact"] == (
        "no comparison proves anything: y: top_k proves nothing: k is 32, and there are 32 classes: any graph would agree"
    )
    assert edited.built("small") == {"parity/1-onnxoptimizer"}
    edited.write("small.yaml", text.replace("rtol: 2.0e-2, cosine: {min: 0.9}", "cosine: {min: 0.01}"))
    edited.run("run", "small.yaml", code=1)
    (failure,) = edited.report("small")["failures"]
    assert "y: its results for other data would pass: cosine 0." in failure["fact"]
    start = (
        "give a tolerance in proportion to how far results lie apart, optimize[0].parity.outputs.y: {cosine: {min: 0.9"
    )
    assert failure["hint"].startswith(start)


def test_where_a_few_large_values_decide_it_is_said(tmp_path):
    workspace = Workspace.make(tmp_path / "project")
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 64] x) => (float[N, 64] y) { c = Mul (x, k) y = Exp (c) }'
    )
    made = onnx.parser.parse_model(text)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(6.0, np.float32), "k"))
    onnx.save(made, workspace.root / "m.onnx")
    recipe = small.RECIPE.format(name="few", model="m.onnx", optimize="", external="false").replace(
        "[2, 16]", "[2, 64]"
    )
    workspace.write("few.yaml", recipe + "parity: {outputs: {y: {sqnr: {min: 20}}}, reason: r}\n")
    workspace.run("run", "few.yaml")
    (told,) = workspace.report("few")["cautions"]
    assert told.startswith("output 'y' of parity/export: zeros in place of all but its largest tenth would pass: sqnr ")
    assert told.endswith(" dB; name rtol, top_k or argmax beside it")
    workspace.replace("few.yaml", "sqnr: {min: 20}", "sqnr: {min: 20}, argmax: {}")
    workspace.run("run", "few.yaml")
    assert workspace.report("few")["cautions"] == []


def test_tolerances_without_a_pass_are_no_entry(passed, tmp_path):
    edited = passed.copy(tmp_path / "project")
    edited.replace("small.yaml", "  - onnxruntime: {}\n", "  - parity: {rtol: 1.0e-4}\n")
    said = edited.run("check", "small.yaml", code=2).text
    assert "optimize[1]: exactly one key is expected here, found none" in said


def test_beside_others_it_is_a_caution(passed, tmp_path):
    edited = passed.copy(tmp_path / "project")
    text = edited.read("small.yaml")
    edited.write("small.yaml", text.replace("cosine: {min: 0.9}", "cosine: {min: 0.9}, top_k: {k: 40}"))
    edited.run("run", "small.yaml")
    hollow = "output 'y': top_k proves nothing: k is 40, and there are 32 classes: any graph would agree"
    assert edited.report("small")["cautions"] == [hollow]
