from __future__ import annotations

import os

import pytest

from onnxbuild.contracts import Outcome
from onnxbuild.store import objects
from onnxbuild.store.store import LocalStore
from onnxbuild.store.traces import Trace
from onnxbuild.system import files

KEY = "ab" * 32


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def store(tmp_path, warnings):
    return LocalStore(tmp_path / "store", warnings.append)


def kept(store, content=b"weights", discovered=None):
    ref = objects.add_bytes(store.workplace().objects, content)
    outcome = Outcome(outputs={"graph": ref}, objects=[ref], facts={"opset": 18})
    trace = Trace({"stage": "export"}, discovered or {}, outcome, store.sizes([ref]), 1.5, 1 << 20)
    store.keep(KEY, trace)
    return trace


def test_a_kept_trace_is_found_again(store):
    trace = kept(store)

    assert store.find(KEY, lambda _: True) == trace
    assert store.find("cd" * 32, lambda _: True) is None


def test_of_several_traces_the_one_that_holds_is_found(store):
    kept(store, b"one", {"file:a.py": "1"})
    second = kept(store, b"two", {"file:a.py": "2"})

    assert store.find(KEY, lambda trace: trace.discovered["file:a.py"] == "2") == second
    assert store.find(KEY, lambda trace: trace.discovered["file:a.py"] == "3") is None


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "delete object", "shorten object"])
def test_damage_is_a_miss_with_one_warning_and_the_next_build_repairs_it(store, warnings, damage):
    trace = kept(store)
    (path,) = (store.folder / "traces").rglob("*.json")
    blob = store.workplace().objects / trace.outcome.outputs["graph"]
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[:-5])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flip":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif damage == "delete object":
        blob.unlink()
    else:
        os.truncate(blob, 3)

    assert store.find(KEY, lambda _: True) is None
    assert len(warnings) == 1

    kept(store)

    assert store.find(KEY, lambda _: True) == trace
    assert blob.read_bytes() == b"weights"


def test_an_object_is_written_once_and_leaves_no_temporary_file(store):
    first = objects.add_bytes(store.workplace().objects, b"same")
    before = (store.workplace().objects / first).stat().st_ino

    assert objects.add_bytes(store.workplace().objects, b"same") == first
    assert (store.workplace().objects / first).stat().st_ino == before
    assert list(store.folder.rglob(".tmp-*")) == []
    assert objects.digest_of(first) == files.sha256_file(store.workplace().objects / first)


def test_a_write_that_fails_leaves_nothing(store):
    def broken():
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_atomic(store.workplace().objects / "ab" / "cd", broken())

    assert [path for path in store.workplace().objects.rglob("*") if path.is_file()] == []
