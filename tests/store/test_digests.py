from __future__ import annotations

import mmap
import os
import time

import pytest

from onnxbuild.store.digests import Digests
from onnxbuild.system import observed
from onnxbuild.system.files import sha256_file

SIZE = 1 << 20


@pytest.fixture
def weights(tmp_path):
    """A file that is old enough to be remembered."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * SIZE)
    os.utime(path, (time.time() - 10, time.time() - 10))
    return path


@pytest.fixture
def aged(monkeypatch):
    """ctime can't be set back, so the minimum age goes instead."""
    monkeypatch.setattr(observed, "MINIMUM_AGE_NS", 0)


def hashed(monkeypatch):
    """Counts the files that are really hashed."""
    seen = []
    real = Digests._hash
    monkeypatch.setattr(Digests, "_hash", lambda self, path, name: seen.append(name) or real(self, path, name))
    return seen


def test_a_large_file_is_hashed_once_across_commands(tmp_path, weights, aged, monkeypatch):
    seen = hashed(monkeypatch)
    first = Digests(tmp_path / "memory.json")
    digest = first.of(weights)
    first.save()

    assert Digests(tmp_path / "memory.json").of(weights) == digest == sha256_file(weights)
    assert len(seen) == 1
    Digests(tmp_path / "memory.json", paranoid=True).of(weights)


def test_a_young_file_is_not_remembered(tmp_path, weights, monkeypatch):
    seen = hashed(monkeypatch)
    memory = Digests(tmp_path / "memory.json")
    memory.of(weights)
    memory.of(weights)

    assert len(seen) == 2


def rewritten(path):
    path.write_bytes(b"b" * SIZE)


def rewritten_with_old_time(path):
    before = path.stat()
    path.write_bytes(b"b" * SIZE)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(b"b" * SIZE)
    os.replace(other, path)


def through_mmap(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), SIZE) as view:
        view[:4] = b"bbbb"


@pytest.mark.parametrize("edit", [rewritten, rewritten_with_old_time, replaced, through_mmap])
def test_no_way_of_changing_a_file_gets_past_the_memory(tmp_path, weights, aged, edit):
    memory = Digests(tmp_path / "memory.json")
    before = memory.of(weights)

    edit(weights)

    assert memory.of(weights) == sha256_file(weights) != before


def test_dirty_mmap_pages_do_not_get_past_the_memory(tmp_path, weights, aged):
    """The page is dirty before the digest is remembered, and written again after: without fsync stat would not change."""
    memory = Digests(tmp_path / "memory.json")
    with open(weights, "r+b") as file, mmap.mmap(file.fileno(), SIZE) as view:
        view[0] = ord("x")
        before = memory.of(weights)
        view[0] = ord("y")

        assert memory.of(weights) == sha256_file(weights) != before


@pytest.mark.parametrize("content", [b"", b"{", b'{"x": 1}', b"\xff"])
def test_a_damaged_memory_is_no_memory(tmp_path, weights, content):
    (tmp_path / "memory.json").write_bytes(content)

    assert Digests(tmp_path / "memory.json").of(weights) == sha256_file(weights)


def test_a_lost_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        Digests(tmp_path / "memory.json").of(tmp_path / "nothing")
