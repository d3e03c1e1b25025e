"""The package stage: verified files, replaced whole, nothing stale left behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile
from onnxbuild.stages import package

TEXT = '<ir_version: 8, opset_import: ["": 18]> g (float[n, 32] x) => (float[n, 32] y) { y = MatMul(x, w) }'


@pytest.fixture
def run(tmp_path):
    def run(*, external_data, text=TEXT, scale=1.0):
        model = parser.parse_model(text)
        model.graph.initializer.append(numpy_helper.from_array(np.full((32, 32), scale, np.float32), "w"))
        ref, _ = modelfile.save(model, None, tmp_path / "objects")
        scratch = tmp_path / f"scratch-{external_data}-{scale}"
        scratch.mkdir()
        options = {"external_data": external_data, "recipe": {"name": "m"}}
        inputs = {"graph": str(tmp_path / "objects" / ref)}
        folders = (str(tmp_path), str(tmp_path / "objects"), str(scratch), str(tmp_path / "build" / "m"))
        return package.run(Task("package", package.__name__, options, inputs, *folders))

    return run


def on_disk(folder: Path) -> list[dict[str, object]]:
    return [
        {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir(), reverse=True)
    ]


@pytest.mark.parametrize("external_data", [False, True])
def test_it_writes_files_that_run_and_says_what_they_are(run, tmp_path, external_data):
    outcome = run(external_data=external_data)

    assert outcome.facts["artifacts"] == on_disk(tmp_path / "build" / "m")
    assert len(outcome.facts["artifacts"]) == 1 + external_data
    (y,) = onnxruntime.InferenceSession(str(tmp_path / "build" / "m" / "model.onnx")).run(
        None, {"x": np.ones((2, 32), np.float32)}
    )
    np.testing.assert_array_equal(y, np.full((2, 32), 32.0))


def test_a_data_file_of_an_earlier_build_goes(run, tmp_path):
    run(external_data=True)
    run(external_data=False)

    assert [path.name for path in (tmp_path / "build" / "m").iterdir()] == ["model.onnx"]


def test_a_later_build_replaces_both_files(run, tmp_path):
    run(external_data=True)
    outcome = run(external_data=True, scale=2.0)

    assert outcome.facts["artifacts"] == on_disk(tmp_path / "build" / "m")


def test_a_folder_in_the_place_of_the_model_is_to_be_moved_away(run, tmp_path):
    model = tmp_path / "build" / "m" / "model.onnx"
    model.mkdir(parents=True)

    with pytest.raises(StageError) as caught:
        run(external_data=False)

    assert caught.value.fact == f"{model}: Is a directory"
    assert caught.value.hint == "move it away, or give --out another folder"


def test_what_onnx_refuses_is_not_published(run, tmp_path):
    run(external_data=False)
    before = on_disk(tmp_path / "build" / "m")

    with pytest.raises(StageError, match="the packaged model is not valid ONNX"):
        run(external_data=False, text=TEXT.replace("MatMul(x, w)", "NoSuchOperator(x, w)"), scale=3.0)

    assert on_disk(tmp_path / "build" / "m") == before
