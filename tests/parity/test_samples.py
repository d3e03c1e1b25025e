from __future__ import annotations

import hashlib
import zipfile
from typing import get_args

import ml_dtypes
import numpy as np
import onnx
import pytest

from onnxbuild.errors import StageError
from onnxbuild.parity import samples
from onnxbuild.recipe.types import DType


def make(spec, shape=(4, 5), *, case="c", seed=0, root=None, override=None, dynamic=()):
    described = {
        "name": case,
        "dims": {},
        "shapes": {"x": list(shape)},
        "dynamic": {"x": list(dynamic)},
        "data": {"x": override} if override else {},
    }
    return samples.make({"x": spec}, described, seed, root)["x"]


@pytest.mark.parametrize("dtype", get_args(DType))
def test_every_dtype_has_a_default(dtype):
    values = make({"dtype": dtype, "shape": [4, 5]}, (40, 50))
    assert values.dtype == samples.dtype_of(dtype)
    assert values.shape == (40, 50)
    if dtype == "string":
        assert set(values.flat) == {"a", "b", "c"}
        return
    wide = values.astype(np.float64)
    if "float" in dtype:
        assert abs(wide.mean()) < 0.1
        assert 0.9 < wide.std() < 1.1
    else:
        assert sorted(set(wide.ravel())) == [0, 1] if dtype == "bool" else list(range(10))


def test_values_depend_on_seed_case_and_name_only():
    spec = {"dtype": "float32", "shape": [2]}
    case = {"name": "c", "dims": {}, "shapes": {"a": [3], "b": [3]}, "data": {}}
    both = samples.make({"a": spec, "b": spec}, case, 0, None)
    swapped = samples.make({"b": spec, "a": spec}, case, 0, None)
    assert list(swapped) == ["b", "a"]
    assert np.array_equal(both["a"], swapped["a"])
    assert not np.array_equal(both["a"], both["b"])
    assert not np.array_equal(make(spec), make(spec, seed=1))
    assert not np.array_equal(make(spec), make(spec, case="d"))


def test_uniform_stays_in_its_bounds():
    values = make({"dtype": "float32", "shape": [1], "data": {"uniform": {"low": -3.0, "high": 5.0}}}, (1000,))
    assert values.min() >= -3
    assert values.max() <= 5
    assert values.max() - values.min() > 7


def test_integers_end_before_high():
    values = make({"dtype": "uint8", "shape": [1], "data": {"integers": {"low": 250, "high": 256}}}, (500,))
    assert set(values) == set(range(250, 256))
    floats = make({"dtype": "bfloat16", "shape": [1], "data": {"integers": {"low": -2, "high": 2}}}, (500,))
    assert floats.dtype == ml_dtypes.bfloat16
    assert set(floats.astype(float)) == {-2, -1, 0, 1}


# The model turns none of these into a float, so what onnxruntime gives is what the recipe says.
@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int64", 2**53 + 1), ("int64", 2**63 - 1), ("int64", -(2**63)), ("uint64", 2**64 - 1), ("int64", 1.0)],
)
def test_a_constant_is_every_64_bit_integer(workspace, dtype, value):
    workspace.root.joinpath("m.onnx").write_bytes(
        onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> g ({dtype}[2] x) => ({dtype}[2] y) {{ y = Identity(x) }}'
        ).SerializeToString()
    )
    workspace.write(
        "m.yaml",
        f"""\
        version: 1
        name: m
        model: {{onnx: {{path: m.onnx}}}}
        export:
          opset: 17
          inputs:
            x: {{dtype: {dtype}, shape: [2], data: {{constant: {value}}}}}
          outputs: [y]
        """,
    )
    workspace.run("run", "m.yaml")
    (reference,) = [stage for stage in workspace.report("m")["stages"] if stage["name"] == "reference"]
    fed = np.full(2, int(value), dtype)
    assert reference["facts"]["cases"][0]["inputs"]["x"]["sha256"] == hashlib.sha256(fed.tobytes()).hexdigest()


def test_the_case_overrides_the_input():
    spec = {"dtype": "float32", "shape": [1], "data": {"normal": {"mean": 0.0, "std": 1.0}}}
    assert (make(spec, override={"constant": 2.5}) == 2.5).all()


def test_random_values_never_leave_the_dtype():
    wild = {"normal": {"mean": 0.0, "std": 1e30}}
    assert np.isfinite(make({"dtype": "float16", "shape": [1], "data": wild}, (100,))).all()
    for dtype in ("int64", "uint64", "int8"):
        values = make({"dtype": dtype, "shape": [1], "data": wild}, (100,))
        assert values.max() > np.iinfo(dtype).max - 2048
        assert values.min() == np.iinfo(dtype).min


@pytest.mark.parametrize(
    ("dtype", "described", "fact"),
    [
        ("int8", {"integers": {"low": 0, "high": 200}}, "input 'x': 199 is not a value of int8"),
        ("uint8", {"constant": -1}, "input 'x': -1 is not a value of uint8"),
        ("int64", {"constant": 1.5}, "input 'x': 1.5 is not a value of int64"),
        (
            "int64",
            {"integers": {"low": 3, "high": 3}},
            "input 'x': integers from 3 up to, not including, 3 hold no value",
        ),
        ("float32", {"uniform": {"low": 2.0, "high": 1.0}}, "input 'x': uniform from 2.0 to 1.0 holds no value"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(dtype, described, fact):
    with pytest.raises(StageError) as caught:
        make({"dtype": dtype, "shape": [1], "data": described})
    assert caught.value.fact == fact


def npz(path="real.npz", key=""):
    return {"npz": {"path": path, "key": key}}


def test_real_data_is_cropped_or_repeated_along_dynamic_axes(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "real.npz", x=x)
    spec = {"dtype": "float32", "shape": [2, 3], "data": npz()}
    assert np.array_equal(make(spec, (2, 3), root=tmp_path), x)
    assert np.array_equal(make(spec, (1, 3), root=tmp_path, dynamic=[0]), x[:1])
    assert np.array_equal(make(spec, (5, 3), root=tmp_path, dynamic=[0]), np.concatenate([x, x, x])[:5])


def test_real_bfloat16_data_keeps_its_dtype(tmp_path):
    x = np.arange(3).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "real.npz", other=x)
    values = make({"dtype": "bfloat16", "shape": [3], "data": npz(key="other")}, (3,), root=tmp_path)
    assert values.dtype == ml_dtypes.bfloat16
    assert np.array_equal(values, x)


def test_real_data_that_does_not_fit_is_refused(tmp_path):
    np.savez(tmp_path / "real.npz", x=np.zeros((2, 3), np.float32), y=np.zeros(1))
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04 no zip")
    spec = {"dtype": "float32", "shape": [2, 3]}

    def fact(description, shape=(2, 3), **more):
        with pytest.raises(StageError) as caught:
            make({**spec, **more, "data": description}, shape, root=tmp_path, dynamic=[0])
        return caught.value.fact

    assert fact(npz(key="z")) == "input 'x': real.npz holds no array 'z'"
    assert fact(npz(), (2, 4)) == "input 'x': 'x' in real.npz has 3 on axis 1, the input has 4"
    assert (
        fact(npz(), (2, 3, 1))
        == "input 'x': 'x' in real.npz is float32 of shape [2, 3], the input is float32 of rank 3"
    )
    assert fact(npz(), dtype="int64").endswith("the input is int64 of rank 2")
    assert fact(npz("junk.npz")).startswith("input 'x': junk.npz can't be read: ")
    assert fact(npz("none.npz")).startswith("input 'x': none.npz can't be read: ")


def test_an_array_that_unpacks_to_more_than_it_may_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "real.npz", x=np.zeros(2, np.float32))
    with zipfile.ZipFile(tmp_path / "real.npz", "a") as archive:
        archive.getinfo("x.npy").file_size = samples.LARGEST + 1
        archive.writestr("more", b"")  # so that the list of what is in it is written anew
    with pytest.raises(StageError) as caught:
        make({"dtype": "float32", "shape": [2], "data": npz()}, (2,), root=tmp_path)
    assert caught.value.fact == "input 'x': 'x' in real.npz unpacks to 1,073,741,825 bytes, more than 1 GiB"
    assert caught.value.hint == "keep in it what the cases need, and no more"


def test_what_is_no_value_of_a_dtype_and_what_is_no_npz_say_what_is(tmp_path):
    with pytest.raises(StageError) as caught:
        make({"dtype": "uint8", "shape": [2], "data": {"integers": {"low": 0, "high": 300}}}, root=tmp_path)
    assert caught.value.hint == "uint8 holds the whole numbers from 0 to 255"
    (tmp_path / "real.npz").write_bytes(b"no zip at all")
    with pytest.raises(StageError) as caught:
        make({"dtype": "float32", "shape": [2], "data": npz()}, root=tmp_path)
    assert caught.value.hint == "write it with numpy.savez"
