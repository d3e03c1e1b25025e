from __future__ import annotations

import os

import pytest

from onnxbuild.reproducibility import rebuild


def test_nothing_is_left_where_no_child_can_be_started(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(rebuild, "Workers", full)

    with pytest.raises(OSError, match="No space"):
        rebuild.Elsewhere(tmp_path, 1)
    assert os.listdir(tmp_path) == []
    assert cores is None or os.sched_getaffinity(0) == cores
