"""The optimize stage: a pass over the store, its facts, and what the library said."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile
from onnxbuild.stages import optimize
from onnxbuild.system import capture


@pytest.fixture
def task(tmp_path):
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]>'
        "g (float[n, 32] x) => (float[n, 32] y) { h = MatMul(x, w) i = Identity(h) y = Relu(i) }"
    )
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    ref, _ = modelfile.save(model, None, tmp_path / "objects")
    (tmp_path / "scratch").mkdir()

    def make(name, options):
        folders = {"root": str(tmp_path), "objects": str(tmp_path / "objects"), "scratch": str(tmp_path / "scratch")}
        inputs = {"graph": str(tmp_path / "objects" / ref)}
        return Task("optimize/1", "optimize", {"pass": name, "options": options}, inputs, **folders)

    return make


def test_it_keeps_the_result_and_reuses_the_weights(task, tmp_path):
    asked = task("onnxoptimizer", ["eliminate_identity"])
    weights = modelfile.save(modelfile.structure(asked.inputs["graph"]), tmp_path / "objects", tmp_path / "objects")[1]

    outcome = optimize.run(asked)

    assert outcome.facts == {"pass": "onnxoptimizer", "notes": [], "modified": True}
    assert outcome.objects == [outcome.outputs["graph"], *weights]
    onnx.checker.check_model(str(tmp_path / "objects" / outcome.outputs["graph"]), full_check=True)


def test_a_pass_that_changes_nothing_gives_the_same_graph(task):
    asked = task("onnxoptimizer", ["nop"])

    outcome = optimize.run(asked)

    assert asked.inputs["graph"].endswith(outcome.outputs["graph"])
    assert outcome.facts["modified"] is False


def test_notes_go_into_the_facts(task):
    assert optimize.run(task("onnxruntime", {"graph_optimization_level": "all"})).facts["notes"] == [
        "all: bound to this hardware and this onnxruntime version"
    ]


@pytest.mark.parametrize("name", ["onnxsim", "onnxscript", "onnxruntime"])
def test_options_may_be_empty(task, name):
    outcome = optimize.run(task(name, {}))

    assert outcome.facts["modified"] is True
    assert outcome.warnings == []


def test_a_refusal_is_a_stage_error(task):
    with pytest.raises(StageError, match="knows no optimizer pass 'x'"):
        optimize.run(task("onnxsim", {"skipped_optimizers": ["x"]}))


PRINTS = """
import os, sys
from pathlib import Path
from onnxbuild.stages.optimize import printing
with printing(Path(sys.argv[1])) as said:
    print("from Python")
    sys.stderr.write("without a newline")
    sys.stderr.flush()
    os.write(2, b"\\n\\x1b[1;31m2026-11-23 12:13:19.123456789 [W:onnxruntime:, x.cc:1 f] from native code\\x1b[m\\n")
    os.write(1, b"twice\\ntwice\\n\\n")
print(sorted(said), file=sys.stderr)
"""


def test_what_is_printed_by_python_and_native_code_is_heard_and_passed_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PRINTS, str(tmp_path / "said")], capture_output=True, text=True, check=True
    )

    heard = ["[W:onnxruntime:, x.cc:1 f] from native code", "from Python", "twice", "without a newline"]
    assert done.stderr == f"{heard}\n"
    assert all(line in done.stdout for line in heard)


def test_the_descriptors_come_back_after_an_exception(tmp_path, capfd):
    with pytest.raises(RuntimeError), capture.printing(tmp_path / "said"):
        raise RuntimeError

    os.write(1, b"still here\n")
    assert capfd.readouterr().out == "still here\n"
