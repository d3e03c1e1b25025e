"""What a recipe says of data for a pass: what can be known of it is known before anything runs."""

# ruff: noqa: E501  # a table reads by its columns

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from onnxbuild import recipe
from onnxbuild.errors import UserError

RECIPE = """\
version: 1
name: r
model: {{onnx: {{path: m.onnx}}}}
export:
  opset: 18
  inputs: {{{inputs}}}
  outputs: [y]
  dynamic_axes: {{{dynamic}}}
optimize:
  - quantize_static:
      data: {data}
"""
X = "x: {dtype: float32, shape: [2, 3, 4, 5]}"
BATCH = "x: {0: batch}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    (root / "pyproject.toml").touch()
    (root / "m.onnx").touch()
    x = np.zeros((6, 3, 4, 5), np.float32)
    arrays = {
        "good": {"x": x, "n": np.zeros(6, np.int64)},
        "double": {"x": x.astype(float)},
        "wide": {"x": np.zeros((6, 3, 4, 9), np.float32)},
        "flat": {"x": np.zeros((6, 60), np.float32)},
        "uneven": {"x": x, "n": np.zeros(5, np.int64)},
        "none": {"x": x[:0]},
        "other": {"picture": x},
        "objects": {"x": x.astype(object)},
    }
    for name, held in arrays.items():
        np.savez(root / f"{name}.npz", **held)
    (root / "bad.npz").write_bytes(b"PK\x03\x04 not an archive")
    (root / "empty").mkdir()
    (root / "pictures").mkdir()
    Image.new("RGB", (5, 4)).save(root / "pictures/a.png")
    (root / "three").mkdir()
    for name in "abc":
        Image.new("RGB", (5, 4)).save(root / f"three/{name}.png")
    for name in ("dead", "latin"):
        (root / name).mkdir()
    (root / "dead/gone.png").symlink_to("nowhere.png")
    Image.new("RGB", (5, 4)).save(root / "latin/a.png")
    os.rename(root / "latin/a.png", os.fsencode(root / "latin") + b"/\xe4.png")  # pathlib's takes no bytes
    (root / "mine.py").write_text("def samples():\n    yield {}\n")
    return root


def problems(root, data, inputs=X, dynamic=BATCH):
    path = root / "r.yaml"
    path.write_text(RECIPE.format(data=data, inputs=inputs, dynamic=dynamic))
    try:
        recipe.load(path)
    except UserError as error:
        return [str(problem).removeprefix(f"{path}:") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "data",
    [
        "{npz: {path: good.npz}}",
        "{npz: {path: good.npz, batch_size: 4, count: 5}}",
        "{images: {path: pictures, size: [4, 5], mean: [1, 2, 3], std: [1.0, 1, 1]}}",
        "{images: {path: three, size: [4, 5], batch_size: 2}}",  # the last run is of one: the axis is dynamic
        "{generator: {function: 'mine:samples'}}",
    ],
)
def test_good_ones(folder, data):
    assert problems(folder, data) == []


U = X.replace("float32", "uint8")
N = "n: {dtype: int64, shape: [2]}"
WRONG = {
    "{}": ("data: exactly one key is expected here, found none", "keep one of npz, npz_folder, images, generator"),
    "{npz: {path: good.npz}, npz_folder: {path: empty}}": ("found npz and npz_folder", "keep one of npz, npz_folder"),
    "{npz: {path: goood.npz}}": ("npz.path: no file 'goood.npz'", "did you mean 'good.npz'?"),
    "{npz: {path: ../good.npz}}": ("'../good.npz' leaves the project root", "write an absolute path"),
    "{npz: {path: bad.npz}}": ("'bad.npz' can't be read", "write it with numpy.savez"),
    "{npz: {path: double.npz}}": ("'x' in 'double.npz' is float64, the input is float32", "convert the file"),
    "{npz: {path: wide.npz}}": ("'x' has 9 on axis 3, the input has 5", ""),
    "{npz: {path: flat.npz}}": ("'x' has rank 2, the input has 4", "the input's shape is [2, 3, 4, 5]; axis 0 holds the samples"),
    "{npz: {path: none.npz}}": ("'none.npz' holds no samples", "put some along axis 0 of its arrays"),
    "{npz: {path: other.npz}}": ("'other.npz' holds no array 'x'", "it holds: picture"),
    "{npz: {path: good.npz, count: 9}}": ("npz.count: 'good.npz' holds 6 samples", "set count: 6"),
    "{npz_folder: {path: emty}}": ("no folder 'emty'", "did you mean 'empty'?"),
    "{npz_folder: {path: empty}}": ("the folder 'empty' holds nothing of it", "put .npz files into it, or name another folder"),
    "{npz_folder: {path: ../empty}}": ("'../empty' leaves the project root", "write an absolute path"),
    "{images: {path: empty, size: [4, 5]}}": ("the folder 'empty' holds nothing", "put pictures into it, or name another folder"),
    "{images: {path: pictures, size: [4, 5], count: 3}}": ("the folder 'pictures' holds 1 files", "set count: 1"),
    "{images: {path: pictures, size: [4, 6]}}": ("'x' has 6 on axis 3, the input has 5", ""),
    "{images: {path: pictures, size: [4, 5], mean: [0.5]}}": ("1 values for 3 channels", "give one for each channel"),
    "{images: {path: pictures, size: [4, 5], std: [0, 1, 1]}}": ("nothing can be divided by 0", "give what the model was trained with"),
    "{images: {path: pictures, size: [4, 5], shorter_side: 4}}": ("4 x 5 can't be cut out", "make it as large as size, or larger"),
    "{generator: {function: 'mine:sample'}}": ("'mine:sample' cannot be imported", "did you mean 'samples'?"),
    "{generator: {function: mine}}": ("expected", ""),
    "{images: {path: dead, size: [4, 5]}}": ("'gone.png' in the folder 'dead' is a link that leads nowhere", "mend it, or remove it"),
    "{images: {path: latin, size: [4, 5]}}": (r"'\xe4.png' in the folder 'latin' is not named in UTF-8", "rename it"),
    "{npz: {path: objects.npz}}": ("'x' in 'objects.npz' is object, the input is float32", "convert the file"),
}  # fmt: skip


@pytest.mark.parametrize("data", WRONG)
def test_what_is_wrong_is_told_with_its_place(folder, data):
    told = "\n".join(problems(folder, data))
    assert told.startswith("11:")
    for text in WRONG[data]:
        assert text in told


@pytest.mark.parametrize(
    ("data", "inputs", "dynamic", "fact", "hint"),
    [
        ("{npz: {path: good.npz}}", X, "", "axis 0 of input 'x' is static 2", "set batch_size: 2"),
        ("{npz: {path: good.npz, batch_size: 2, count: 5}}", X, "", "5 samples are no multiple of batch_size 2",
         "set count to a multiple of it"),
        ("{npz: {path: uneven.npz}}", f"{X}, {N}", f"{BATCH}, n: {{0: batch}}", "holds 6 of 'x', 5 of 'n'",
         "every input needs as many samples"),
        ("{npz: {path: good.npz}}", "x: {dtype: float32, shape: []}", "", "'x' has rank 4, the input has 0",
         "the input has no axis for samples: use npz_folder or a generator, which give it run by run"),
        ("{images: {path: pictures, size: [4, 5]}}", f"{X}, {N}", BATCH, "this one has 2", "use npz or a generator"),
        ("{images: {path: pictures, size: [4, 5]}}", X.replace("float32", "int64"), BATCH, "input 'x' is int64, pictures are numbers",
         "use npz or a generator"),
        ("{images: {path: three, size: [4, 5], batch_size: 2}}", X, "", "3 samples are no multiple of batch_size 2",
         "set count to a multiple of it"),
        ("{images: {path: pictures, size: [4, 5]}}", U, BATCH, "pixels become 0 to 1, of which the uint8 of input 'x' holds",
         "set scale: 1"),
        ("{images: {path: pictures, size: [4, 5], scale: 1, mean: [100, 0, 0]}}", U, BATCH,
         "pixels become -100 to 255, and input 'x' is uint8, 0 to 255", "subtract and divide in prepend"),
    ],
)  # fmt: skip
def test_against_what_is_declared(folder, data, inputs, dynamic, fact, hint):
    told = "\n".join(problems(folder, data, inputs, dynamic))
    assert fact in told and hint in told
