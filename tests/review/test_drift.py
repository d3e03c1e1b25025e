"""What of a build is a drift, in which words; and from which error on the ratchet holds."""

from __future__ import annotations

import msgspec
import pytest
from samples import facts

from onnxbuild import recipe as recipes
from onnxbuild.review import drift, lockfile
from onnxbuild.review.facts import Error, File, Score, rounded

replace = msgspec.structs.replace
STEP = 2.0**-23
FACTS = facts()
LOCK = lockfile.of(FACTS)
FILES = FACTS.files


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"name": "other"}, ["name: net -> other"]),
        ({"sources": {}}, ["input w.safetensors: gone"]),
        ({"sources": {"w.safetensors": File("00" * 32, 2_000)}}, ["input w.safetensors: 1,000 -> 2,000 bytes"]),
        ({"tools": {"onnx": "1.24.0", "torch": "2.13.0+cpu"}}, ["tool onnx: 1.23.2 -> 1.24.0"]),
        ({"tools": {"onnx": "1.23.2"}}, ["tool torch: 2.13.0+cpu -> absent"]),
        ({"opset_imports": {"ai.onnx": 19}}, ["graph: opset ai.onnx 18 -> 19"]),
        ({"ir_version": 11}, ["graph: IR version 10 -> 11"]),
        ({"ops": {"Conv": 52, "Relu": 4}}, ["graph: op Conv 53 -> 52"]),
        ({"ops": {"Conv": 53, "Relu": 4, "Add": 1}, "bytes": 5030}, ["graph: op Add 0 -> 1", "graph: 5,000 -> 5,030 bytes"]),
        ({"parameters": 900}, ["graph: 1,000 -> 900 parameters"]),
        (
            {"graph_sha256": "00" * 32},
            ["graph: as many of each operator, but other attributes, constants, names or connections"],
        ),
        ({"outputs": {"scores": "float32[2, 4]"}}, ["output scores: float32[batch, 4] -> float32[2, 4]"]),
        ({"inputs": dict(reversed(FACTS.inputs.items()))}, ["inputs: order image, mask -> mask, image"]),
        ({"dims": {"batch": "1..32"}}, ["dimension batch: 1..64 -> 1..32"]),
        ({"weights_sha256": "00" * 32}, ["weights: other values, names or shapes"]),
        ({"files": {**FILES, "ort/model.ort": File("00" * 32, 6_000)}}, ["file ort/model.ort: other content"]),
        ({"files": {"model.onnx": FILES["model.onnx"]}}, ["file ort/model.ort: gone"]),
        ({"parity": {}}, ["parity onnx scores: no longer compared"]),
        ({"bound": ["ops", "graph_sha256"]}, ["graph: its operators depend on the hardware now, or no longer"]),
    ],
)  # fmt: skip
def test_each_difference_is_a_line(change, told):
    assert drift.compare(LOCK, replace(FACTS, **change)).drifts == told


def test_before_it_is_published_missing_files_are_no_drift():
    early = replace(FACTS, files={"ort/model.ort": File("00" * 32, 6_000)})

    assert drift.compare(LOCK, early, published=False).drifts == ["file ort/model.ort: other content"]


@pytest.mark.parametrize(
    ("locked", "now", "step", "fails"),
    [
        (1e-3, 9.9e-3, STEP, False),
        (1e-3, 1e-2, STEP, True),
        (0.0, 1.1e-6, STEP, False),  # below ten rounding steps an error says nothing, whatever was locked
        (1e-9, 1.1e-6, STEP, False),
        (0.0, 1.2e-6, STEP, True),
        (0.0, 1.1e-4, 100 * STEP, False),  # of an output whose largest value is 100
        (0.0, 1e-9, 0.0, True),
        (0.0, 0.0, 0.0, False),
    ],
)
def test_the_ratchet_holds_from_ten_times_the_locked_error_on(locked, now, step, fails):
    lock = lockfile.of(replace(FACTS, parity={"onnx": {"scores": Error(locked, None, None)}}))
    told = drift.compare(
        lock, replace(FACTS, parity={"onnx": {"scores": Error(rounded(now), None, 0.02, step)}})
    ).drifts

    assert bool(told) == fails, told
    if told and not locked:
        was = "and it was none when it was locked, though within the tolerance (2.0 % of it)"
        assert told == [f"parity onnx scores: error 0 -> {now:.2g}, {was}"]


def test_an_error_that_is_a_number_on_one_side_alone_is_a_drift():
    none, one = ({"onnx": {"scores": Error(error, None, 0.5)}} for error in (None, 1e-6))
    for locked, now, told in ((none, one, "error no number -> 1e-06"), (one, none, "error 1e-06 -> no number")):
        lock = lockfile.of(replace(FACTS, parity=locked))
        assert drift.compare(lock, replace(FACTS, parity=now)).drifts == [f"parity onnx scores: {told}"]
    assert drift.compare(lockfile.of(replace(FACTS, parity=none)), replace(FACTS, parity=none)).drifts == []


def test_a_lock_file_reads_back_as_what_was_written_whatever_the_names(tmp_path):
    names = [
        "y",
        "no",
        "1.5",
        "1e5",
        "null",
        "a: b",
        "#x",
        "ends ",
        "- z",
        "a.b::c",
        "ö",
        "[",
        'q"',
        "1" * 64,
        "~",
        "0x1f",
        "a:",
    ]
    made = replace(FACTS, tools={name: name for name in names}, outputs=dict.fromkeys(names, "float32[]"))
    path = tmp_path / "net.lock.yaml"
    lockfile.write(path, lockfile.of(made))

    assert lockfile.read(path, tmp_path / "net.yaml") == lockfile.of(made)
    assert recipes.documents.text_of(path).count("\n") == lockfile.to_yaml(lockfile.of(made)).count("\n")


@pytest.mark.parametrize(
    ("locked", "now", "fails"),
    [
        ({"cosine": 1e-4}, {"cosine": 9.9e-4}, False),
        ({"cosine": 1e-4}, {"cosine": 1e-3}, True),
        ({"cosine": 0.0}, {"cosine": 1.1e-6}, False),  # below ten rounding steps
        ({"sqnr": 1e-2}, {"sqnr": 1e-1}, True),
        ({"argmax": 0.0}, {"argmax": 0.0}, False),
        ({"argmax": 0.0}, {"argmax": 0.01}, True),  # a share has no rounding
    ],
)
def test_the_ratchet_holds_for_figures_that_are_better_the_larger_they_are(locked, now, fails):
    before = replace(FACTS, parity={"onnx": {"y": Error(0.1, None, None, losses=locked)}})
    after = replace(FACTS, parity={"onnx": {"y": Error(0.1, None, 0.02, STEP, now, STEP)}})
    told = drift.compare(lockfile.of(before), after).drifts

    assert bool(told) == fails, told
    said = {
        "cosine": "cosine 0.9999 -> 0.999, its loss 10 times that when it was locked",
        "sqnr": "sqnr 40 dB -> 20 dB, its loss 10 times that when it was locked",
        "argmax": "argmax 1 -> 0.99, and it had no loss when it was locked",
    }
    assert told == ([f"parity onnx y: {said[next(iter(locked))]}"] if fails else [])


@pytest.mark.parametrize(
    ("locked", "now", "worse", "told"),
    [
        (0.95, 0.95, 0.001, []),
        (0.95, 0.9495, 0.001, []),
        (0.95, 0.94, 0.001, ["metric onnx: 0.95 -> 0.94"]),
        (0.95, 0.99, 0.001, []),  # one that got better is no drift
        (0.1, 0.12, -0.001, ["metric onnx: 0.1 -> 0.12"]),  # a loss
        (0.1, 0.05, -0.001, []),
        (0.0, 0.0, 0.0, []),
    ],
)
def test_a_metric_that_got_worse_by_a_tenth_of_what_is_allowed_is_a_drift(locked, now, worse, told):
    lock = lockfile.of(replace(FACTS, metric={"onnx": Score(locked, worse)}))
    assert drift.compare(lock, replace(FACTS, metric={"onnx": Score(now, worse)})).drifts == told
    assert drift.compare(lock, FACTS).drifts == ["metric onnx: gone"]
    assert drift.compare(LOCK, replace(FACTS, metric={"onnx": Score(now, worse)})).drifts == ["metric onnx: new"]
