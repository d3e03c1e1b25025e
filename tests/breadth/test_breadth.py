"""The breadth table: quick architectures of several families and some of onnx's own models; all with ONNXBUILD_BREADTH=1.

Both are heavy: `make test` leaves them to CI.
"""

from __future__ import annotations

import os

import architectures
import pytest
import table
import verdicts
from building import Outcome

ENTRIES = architectures.load()

# The quick ones: a decoder with a cache, pictures of any size.
QUICK = ("opt-with-past", "resnet")
# Subgraphs, functions, strings, optional inputs, quantised types, sizes that depend on the data, what no recipe can say.
MODELS = (
    "node-if", "node-loop11", "node-scan9_sum", "node-gru_defaults", "node-nonzero_example", "node-string_concat",
    "node-clip_default_max", "node-qlinearmatmul_2D_uint8*", "node-bernoulli", "node-identity*", "node-optional_get*",
    "node-training_dropout_default", "node-constantofshape_*", "simple-sequence_model1",
)  # fmt: skip


def whole(function):
    """A test of the rest of the table."""
    reason = "the whole table: set ONNXBUILD_BREADTH=1"
    skipped = pytest.mark.skipif(os.environ.get("ONNXBUILD_BREADTH") != "1", reason=reason)
    return pytest.mark.heavy(skipped(function))


def ours(found):
    """What is our fault, with what was said of it."""
    return [(name, one.reason) for name, one in found.items() if one.fault == "ours"]


def test_there_are_at_least_forty_architectures_of_every_family():
    assert len(ENTRIES) >= 40
    families = {"text", "vision", "audio", "detection and segmentation", "encoder-decoders", "decoders with past"}
    assert families <= {one.family for one in ENTRIES.values()}


@pytest.mark.heavy
def test_quick_architectures(tmp_path):
    found = dict(table.of_architectures(tmp_path, QUICK, beside=False))
    assert {name: one.result for name, one in found.items()} == dict.fromkeys(QUICK, "built")
    assert ours(found) == []


@pytest.mark.heavy
def test_some_of_the_models_that_onnx_ships(tmp_path):
    found = dict(table.of_onnx(tmp_path, MODELS))
    assert ours(found) == []
    assert [one.result for one in found.values()].count("built") > 6
    on_purpose = {one.reason.partition(" (")[0] for one in found.values() if one.result == "refused" and not one.fault}
    assert on_purpose == {*verdicts.DELIBERATE.values()}


@whole
@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in QUICK])
def test_an_architecture(tmp_path, name):
    assert ours(dict(table.of_architectures(tmp_path, [name]))) == []


@whole
def test_all_models_that_onnx_ships(tmp_path):
    found = dict(table.of_onnx(tmp_path, []))
    assert len(found) > 2000
    assert ours(found) == []


REFUSED = Outcome(built=False, stage="parity/export", fact="output 'y' is wrong at 3 of 8 cases")


@pytest.mark.parametrize(
    ("plain", "made", "fault"),
    [
        ({"status": "right"}, Outcome(built=True), ""),
        ({"status": "right", "same": False}, Outcome(built=True), "ours"),
        ({"status": "right"}, REFUSED, "ours"),
        ({"status": "right"}, REFUSED._replace(stage="parity/1-onnxsim"), "pass"),
        ({"status": "right"}, REFUSED._replace(fact="input 'x' is a sequence; only tensors can be fed"), ""),
        ({"status": "wrong", "said": "off"}, REFUSED, "exporter"),
        ({"status": "model", "said": "raises"}, REFUSED, "model"),
        ({"status": "crash", "said": "-11"}, REFUSED, "runtime"),
        ({"status": "right"}, Outcome(built=False, stage="command", fact="exit code 3"), "ours"),
    ],
)
def test_whose_fault_it_is(plain, made, fault):
    assert verdicts.judge(plain, made).fault == fault
