from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onnxbuild.errors import StageError
from onnxbuild.parity import arrays

KINDS = {
    "c/bfloat16": np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16),
    "c/float16": np.array([1.5, np.nan, -np.inf], np.float16),
    "c/bool": np.array([True, False, True]),
    "c/int64": np.array([[-(2**63), 2**63 - 1]]),
    "c/uint64": np.array(2**64 - 1, np.uint64),
    "c/float64": np.array([1e-310, -0.0]),
    "c/empty": np.zeros((0, 4), np.float32),
    "c/strings": np.array([["a", "ü\0"], ["", "漢"]], object),
    "c/scalar": np.float32(3).reshape(()),
    "c/turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    "c/big-endian": np.arange(3, dtype=">f4"),
}


def same(got, expected):
    assert got.shape == expected.shape
    if expected.dtype.kind == "O":
        return got.tolist() == expected.tolist()
    assert got.dtype == expected.dtype.newbyteorder("=")
    return got.tobytes() == expected.astype(expected.dtype.newbyteorder("=")).tobytes()


def test_what_is_saved_is_read(tmp_path):
    arrays.save(tmp_path / "file", KINDS)
    stored = arrays.read(tmp_path / "file")
    assert sorted(stored) == sorted(KINDS)
    assert len(stored) == len(KINDS)
    for name, array in KINDS.items():
        assert same(stored[name], array), name


def test_arrays_are_aligned_whatever_lies_before_them(tmp_path):
    arrays.save(tmp_path / "file", {"a": np.ones(3, bool), "b": np.ones(3), "c": np.ones(1, np.float16)})
    assert all(array.flags.aligned for array in arrays.read(tmp_path / "file").values())


def test_bytes_depend_on_the_content_alone(tmp_path):
    arrays.save(tmp_path / "a", KINDS)
    arrays.save(tmp_path / "b", dict(reversed(KINDS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_tools_can_read_it(tmp_path):
    from safetensors.numpy import load_file

    arrays.save(tmp_path / "file", {name: array for name, array in KINDS.items() if array.dtype.kind in "fib"})
    found = load_file(tmp_path / "file")
    assert same(found["c/int64"], KINDS["c/int64"])
    assert same(found["c/turned"], KINDS["c/turned"])


def test_nothing_at_all_can_be_kept(tmp_path):
    arrays.save(tmp_path / "file", {})
    assert dict(arrays.read(tmp_path / "file")) == {}


def test_arrays_are_read_only_and_outlive_the_mapping(tmp_path):
    arrays.save(tmp_path / "file", {"a": np.arange(4)})
    found = arrays.read(tmp_path / "file")["a"]
    assert found.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


@pytest.mark.parametrize("array", [np.array([1j]), np.array([{"a": 1}], object)])
def test_what_the_format_lacks_is_refused(tmp_path, array):
    with pytest.raises(StageError, match="can't be kept"):
        arrays.save(tmp_path / "file", {"a": array})
    assert not (tmp_path / "file").exists()


@given(
    npst.arrays(st.sampled_from(["f2", "f4", "f8", "i1", "u2", "i8", "?"]), npst.array_shapes(min_dims=0, min_side=0))
)
def test_any_array_survives(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("arrays") / "file"
    arrays.save(path, {"a": array, "b": np.zeros(1)})
    assert same(arrays.read(path)["a"], array)


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.ones(2, np.complex64), "return real numbers or bools"),
        (np.array([object()], object), "return numbers, bools or strings"),
    ],
)
def test_what_can_not_be_kept_says_what_can(tmp_path, array, hint):
    with pytest.raises(StageError) as caught:
        arrays.save(tmp_path / "a", {"y": array})
    assert caught.value.hint == hint
