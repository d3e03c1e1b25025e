"""What is no regular file is refused at once, wherever a file is named: nothing waits for a pipe or a device."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from small import recipe, small

from onnxbuild.system import files

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such files there")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def linked_pipe(path: Path) -> None:
    os.mkfifo(f"{path}.pipe")
    path.symlink_to(f"{path}.pipe")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def stranger(path: Path) -> None:
    path.symlink_to("/dev/random")


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has a hundred bytes at most
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


KINDS = {
    "a named pipe": [pipe, linked_pipe],
    "a character device": [device, stranger],
    "a socket": [listening],
}
EACH = pytest.mark.parametrize(("what", "make"), [(what, make) for what, makes in KINDS.items() for make in makes])


@EACH
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_rule(tmp_path, what, make):
    make(tmp_path / "x")

    for read in (lambda path: files.opened(path).__enter__(), files.read, files.sha256_file):
        with pytest.raises(files.IrregularError, match=what) as caught:
            read(tmp_path / "x")
        assert caught.value.filename == str(tmp_path / "x")


@EACH
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_recipe_is_refused_and_so_is_whatever_it_names(workspace, what, make):
    small(workspace)
    make(workspace.root / "x")
    spec = "x: {dtype: float32, shape: [2, 16]"
    workspace.write("none.yaml", recipe(path="x"))
    workspace.write("data.yaml", recipe("data").replace(spec, f"{spec}, data: {{npz: {{path: x}}}}"))
    torch = "model: {pytorch: {factory: 'm:f', checkpoint: {path: x}}}"
    workspace.write("torch.yaml", recipe("torch").replace("model: {onnx: {path: m.onnx}}", torch))

    ran = workspace.run("run", "none.yaml", "data.yaml", "torch.yaml", code=2, timeout=30)
    assert ran.err.count(f"'x' is {what}, not a file") == 3
    ran = workspace.run("check", "x", code=2, timeout=30)
    assert f"x: cannot be read: is {what}" in ran.err
    assert workspace.run("show", "x", code=2, timeout=30).err.startswith("x is no regular file")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/status"])
def test_a_file_that_holds_more_than_its_size_is_none(path):
    with pytest.raises(files.IrregularError, match="holds more than the 0 bytes"):
        files.sha256_file(Path(path))


def test_a_file_that_grows_while_it_is_read_is_one(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_bytes(b"a")
    with files.opened(path) as file, path.open("ab") as more:
        chunks = files._chunks(file, path)
        first = next(chunks)
        more.write(b"b" * 10)
        more.flush()
        assert first + b"".join(chunks) == b"a" + b"b" * 10


@pytest.mark.parametrize("where", ["digests.json", "latest", "traces", "objects", "report"])
def test_a_pipe_in_the_place_of_a_file_of_ours_holds_nobody_up(workspace, where):
    small(workspace)
    workspace.run("run", "small.yaml")
    store = workspace.root / ".onnxbuild"
    kept = [path for path in sorted((store / where).rglob("[!.]*")) if path.is_file()]
    path = workspace.root / "build/small/report.json" if where == "report" else next(iter(kept), store / where)
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    for command in (["plan", "small.yaml"], ["verify", "small.yaml"], ["cache", "verify", "--repair"], ["cache", "du"]):
        ran = workspace.run(*command, code=None, timeout=60)
        assert ran.code in (0, 1) and "Traceback" not in ran.text, ran.text
    workspace.run("run", "small.yaml", timeout=120)
    assert workspace.run("run", "small.yaml").out.startswith("small: up to date")


def test_external_data_that_is_a_pipe_is_refused(workspace):
    import onnx

    small(workspace)
    model = onnx.load(workspace.root / "m.onnx")
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    onnx.save(model, workspace.root / "m.onnx")
    os.mkfifo(workspace.root / "w.bin")

    ran = workspace.run("run", "small.yaml", code=None, timeout=60)

    assert ran.code in (1, 2) and "'w.bin', is a named pipe" in ran.text.replace("\n", " "), ran.text


def test_an_npz_of_the_right_kind_is_still_read(workspace):
    small(workspace)
    np.savez(workspace.root / "x.npz", x=np.ones((2, 16), np.float32))
    spec = "x: {dtype: float32, shape: [2, 16]"
    workspace.write("small.yaml", recipe().replace(spec, f"{spec}, data: {{npz: {{path: x.npz}}}}"))
    workspace.run("run", "small.yaml")

    assert msgspec.json.decode(workspace.read("build/small/report.json"))["status"] == "done"
