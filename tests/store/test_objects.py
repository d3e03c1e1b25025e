"""Objects: named by content, written whole or not at all."""

from __future__ import annotations

import hashlib
import os

import pytest

from onnxbuild.store import objects
from onnxbuild.system import files


def test_a_blob_is_named_by_its_sha256_and_a_graph_too(tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()

    assert objects.add_bytes(tmp_path, b"weights") == f"{digest[:2]}/{digest[2:]}"
    assert objects.add_bytes(tmp_path, b"weights", graph=True) == f"{digest}.onnx"
    assert (tmp_path / objects.blob_ref(digest)).read_bytes() == b"weights"
    assert objects.digest_of(objects.blob_ref(digest)) == objects.digest_of(f"{digest}.onnx") == digest


def test_bytes_chunks_and_files_of_one_content_are_one_object(tmp_path):
    (tmp_path / "file").write_bytes(b"ab" * 1000)
    store = tmp_path / "objects"

    refs = {
        objects.add_bytes(store, b"ab" * 1000),
        objects.add_bytes(store, memoryview(bytearray(b"ab" * 1000))),
        objects.add_chunks(store, lambda: (b"ab" for _ in range(1000)), 2000),
        objects.add_file(store, tmp_path / "file"),
    }

    assert len(refs) == 1
    assert [path.name for path in store.rglob("[!.]*") if path.is_file()] == [refs.pop()[3:]]


def test_an_object_that_is_there_is_not_written_again(tmp_path):
    ref = objects.add_bytes(tmp_path, b"x" * 10)
    before = os.stat(tmp_path / ref)

    objects.add_chunks(tmp_path, lambda: [b"x" * 10], 10)

    assert os.stat(tmp_path / ref).st_mtime_ns == before.st_mtime_ns
    assert os.stat(tmp_path / ref).st_ino == before.st_ino


def test_a_short_object_is_written_again(tmp_path):
    ref = objects.add_bytes(tmp_path, b"x" * 10)
    (tmp_path / ref).write_bytes(b"x")

    objects.add_bytes(tmp_path, b"x" * 10)

    assert (tmp_path / ref).read_bytes() == b"x" * 10


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "model").write_bytes(b"old")

    def chunks():
        yield b"ne"
        raise RuntimeError("no space, say")

    with pytest.raises(RuntimeError):
        files.write_atomic(tmp_path / "model", chunks())

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"model": b"old"}


def test_move_replaces_what_is_there(tmp_path):
    (tmp_path / "from").write_bytes(b"new")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "model").write_bytes(b"old")

    files.move(tmp_path / "from", tmp_path / "to" / "model")

    assert (tmp_path / "to" / "model").read_bytes() == b"new"
    assert not (tmp_path / "from").exists()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_move_goes_across_file_systems(tmp_path):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        source = os.path.join(other, "model")
        with open(source, "wb") as file:
            file.write(b"new")

        files.move(objects.Path(source), tmp_path / "build" / "model")

        assert (tmp_path / "build" / "model").read_bytes() == b"new"
        assert os.listdir(other) == []


@pytest.mark.parametrize(
    ("name", "is_ref"),
    [
        ("ab/" + "c" * 62, True),
        ("ab/" + "c" * 61, False),
        ("model.onnx.data", False),
        ("../" + "c" * 62, False),
        ("AB/" + "c" * 62, False),
    ],
)
def test_is_blob_ref(name, is_ref):
    assert objects.is_blob_ref(name) is is_ref
