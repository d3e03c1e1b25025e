"""Child processes: what they are given of the caller's environment, and what is left of those that die."""

from __future__ import annotations

import sys
import tracemalloc

import onnx
import pytest

from onnxbuild.contracts import Task
from onnxbuild.executors import local
from onnxbuild.executors.local import Workers

GRAPH = """\
<ir_version: 8, opset_import: ["" : 17]>
g (float[4] x) => (float[4] y) {
  y = Relu(x)
}
"""


@pytest.fixture
def crew(tmp_path):
    with Workers(tmp_path / "tmp") as crew:
        yield crew


@pytest.fixture
def check(tmp_path):
    """A stage that takes no time."""
    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "g.onnx")
    inputs = {"x": {"dtype": "float32", "shape": [4]}}
    options = {"inputs": inputs, "outputs": ["y"], "dynamic_axes": {}, "opset": 17}

    def check(crew: Workers) -> Task:
        graph, scratch = str(tmp_path / "g.onnx"), str(crew.scratch())
        module, objects = "onnxbuild.stages.check", str(tmp_path / "o")
        return Task("check/export", module, options, {"graph": graph}, str(tmp_path), objects, scratch)

    return check


def ended(crew: Workers) -> local.Finished:
    for _ in range(60):
        if found := crew.wait(1):
            return found[0]
    raise AssertionError("nothing ended")


def test_temporary_files_go_where_the_caller_has_them(workspace):
    workspace.write("m.py", "import tempfile\n\n\ndef make():\n    raise RuntimeError(tempfile.gettempdir())\n")
    workspace.write(
        "m.yaml",
        """\
        version: 1
        name: m
        model: {pytorch: {factory: "m:make"}}
        export: {inputs: {x: {dtype: float32, shape: [2]}}, outputs: [y]}
        """,
    )
    here = workspace.root.parent / "elsewhere"
    here.mkdir()
    workspace.env["TMPDIR"] = str(here)
    assert "RuntimeError: elsewhere" in workspace.run("run", "m.yaml", code=1).err  # paths are shown by their last name


@pytest.mark.skipif(sys.platform != "linux", reason="there are no templates")
def test_nothing_is_left_of_a_template_that_died(crew, check):
    crew.warm("onnx")
    template = crew._templates["onnx"]
    crew._partial["onnx"] = b'{"id":'  # it dies in the middle of an answer
    template.kill()
    assert crew.wait(20) == []
    assert template.stdin.closed
    assert template.stdout.closed
    crew.start(check(crew), "onnx")
    assert ended(crew).result.outcome is not None


@pytest.mark.skipif(sys.platform != "linux", reason="there are no templates")
def test_an_order_that_its_template_never_read_is_lost_with_it(crew, check):
    crew.warm("onnx")
    crew._templates["onnx"].kill()
    crew._templates["onnx"].wait()
    id_ = crew.start(check(crew), "onnx")
    found = ended(crew)
    assert (found.id, found.result, found.status) == (id_, None, -9)


def test_the_end_of_a_log_is_read_and_no_more(tmp_path):
    log = tmp_path / "log"
    text = "ä€😀x" * local.LOG_TAIL
    for size in (0, 10, local.LOG_TAIL, len(text)):
        log.write_text(text[:size], encoding="utf-8")
        assert local._tail(log) == text[:size][-local.LOG_TAIL :]
    log.write_bytes(b"x" * (64 << 20))
    tracemalloc.start()
    try:
        assert local._tail(log) == "x" * local.LOG_TAIL
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert local._tail(tmp_path / "none") == ""
