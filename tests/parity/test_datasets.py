"""Data that a recipe names: what is fed of it, in which order, and pictures as tensors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from onnxbuild.errors import StageError
from onnxbuild.parity import datasets

INPUTS = {"x": {"dtype": "float32", "shape": [1, 2]}, "n": {"dtype": "int64", "shape": [1]}}
PIXELS = {"x": {"dtype": "float32", "shape": [1, 3, 2, 4]}}


def fed(root, given, inputs=INPUTS, call=None):
    data = datasets.msgspec.convert(given, datasets.Dataset)
    files = {role: str(root / path) for role, path in datasets.file(data).items()}
    files |= {role: str(one.path) for role, one in datasets.companions(data, root).items()}
    return list(datasets.feeds(given, inputs, files, call))


def test_an_npz_file_is_fed_batch_by_batch_up_to_the_count(tmp_path):
    x, n = np.arange(14, dtype=np.float32).reshape(7, 2), np.arange(7)
    np.savez(tmp_path / "d.npz", x=x, n=n, unused=n)
    got = fed(tmp_path, {"npz": {"path": "d.npz", "batch_size": 2, "count": 5}})
    assert [feed["n"].tolist() for feed in got] == [[0, 1], [2, 3], [4]]
    assert np.array_equal(np.concatenate([feed["x"] for feed in got]), x[:5])
    assert all([*feed] == ["x", "n"] for feed in got)


def test_a_folder_of_npz_files_is_fed_in_the_order_of_names(tmp_path):
    for name in ("b", "a", "c"):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((1, 2), np.float32), n=np.array([ord(name)]))
    (tmp_path / "notes.txt").touch()
    got = fed(tmp_path, {"npz_folder": {"path": ".", "count": 2}})
    assert [feed["n"].tolist() for feed in got] == [[97], [98]]


def test_a_function_is_fed_as_it_gives(tmp_path):
    asked = []

    def call(named):
        asked.append(named)
        return ({"x": np.full((1, 2), i, np.float32), "n": np.array([i])} for i in range(5))

    given = {"generator": {"function": "mine:samples", "kwargs": {"seed": 1}, "count": 3}}
    assert [feed["n"].tolist() for feed in fed(tmp_path, given, call=call)] == [[0], [1], [2]]
    assert asked == [{"factory": "mine:samples", "kwargs": {"seed": 1}}]


@pytest.mark.parametrize(
    ("samples", "fact", "hint"),
    [
        ([], "mine:samples gave 0 samples; the recipe asks for 2", "lower count, or let it give more"),
        ([[1]], "data.generator: sample 1 is list, not a mapping", "yield arrays by input name"),
        ([{"x": 1}], "data.generator: sample 1: 'x' is int64 of rank 0", "the input is float32 of rank 2; make the data so"),
        ([{"n": 1}], "data.generator: sample 1 has no array 'x'", "it has: n"),
        ([{"x": np.zeros((1, 2), np.float32), "n": np.zeros(1, int)}], "mine:samples gave 1 samples; the recipe asks for 2",
         "lower count, or let it give more"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_is_refused(tmp_path, samples, fact, hint):
    with pytest.raises(StageError, match=f"^{re.escape(fact)}") as told:
        fed(tmp_path, {"generator": {"function": "mine:samples", "count": 2}}, call=lambda _: samples)
    assert told.value.hint == hint


def test_no_samples_at_all_are_refused(tmp_path):
    with pytest.raises(StageError, match=r"^data.generator: there are no samples") as told:
        fed(tmp_path, {"generator": {"function": "mine:samples"}}, call=lambda _: [])
    assert told.value.hint == "it takes at least one: look at its path and count"


@pytest.mark.parametrize("kind", ["npz", "npz_folder", "images"])
def test_a_damaged_file_is_named(tmp_path, kind):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.png").write_bytes(b"no picture")
    (tmp_path / "d/a.npz").write_bytes(b"no archive")
    options = {"path": "d/a.npz"} if kind == "npz" else {"path": "d"}
    if kind == "images":
        options["size"] = [2, 4]
    with pytest.raises(StageError, match=r"^d/a\.(png|npz) can't be read") as told:
        fed(tmp_path, {kind: options}, PIXELS if kind == "images" else INPUTS)
    assert told.value.hint in ("write it with numpy.savez", "take it out of the folder, or mend it")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "p/deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    for name in ("b.png", "a.PNG", "deep/c.png"):
        Image.fromarray(pixels).save(folder / "p" / name, format="png")
        pixels = pixels[::-1]
    (folder / "p/readme.md").touch()
    return folder, pixels[::-1]


def test_a_picture_is_scaled_normalised_and_laid_out_as_is_said(pictures):
    folder, pixels = pictures
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    options = {"path": "p", "size": [12, 8], "mean": mean, "std": std}
    inputs = {"x": {"dtype": "float32", "shape": [1, 3, 12, 8]}}
    got = fed(folder, {"images": options}, inputs)
    assert len(got) == 3  # a.PNG, b.png, deep/c.png
    wanted = (pixels / np.float32(255) - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(got[1]["x"], wanted.transpose(2, 0, 1)[None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[0]["x"], wanted[::-1].transpose(2, 0, 1)[None], rtol=1e-5, atol=1e-6)

    raw = {"path": "p", "size": [12, 8], "colour": "BGR", "layout": "NHWC", "scale": 1.0, "batch_size": 3}
    (batch,) = fed(folder, {"images": raw}, {"x": {"dtype": "uint8", "shape": [3, 12, 8, 3]}})
    assert np.array_equal(batch["x"][1], pixels[:, :, ::-1])
    grey = {"path": "p", "size": [12, 8], "colour": "L", "scale": 1.0, "count": 1}
    (one,) = fed(folder, {"images": grey}, {"x": {"dtype": "float32", "shape": [1, 1, 12, 8]}})
    assert np.array_equal(one["x"][0, 0], np.asarray(Image.fromarray(pixels[::-1]).convert("L"), np.float32))


def test_the_middle_of_a_scaled_picture_is_cut_out(pictures):
    folder, pixels = pictures
    options = {"path": "p", "size": [6, 4], "shorter_side": 8, "scale": 1.0, "interpolation": "nearest"}
    got = fed(folder, {"images": options}, {"x": {"dtype": "float32", "shape": [1, 3, 6, 4]}})
    assert np.array_equal(got[1]["x"][0], pixels[3:9, 2:6].transpose(2, 0, 1))
    (folder / "wide").mkdir()
    Image.fromarray(pixels.transpose(1, 0, 2)).resize((24, 16), 0).save(folder / "wide/w.png")
    wide = {**options, "path": "wide", "size": [8, 8]}
    (one,) = fed(folder, {"images": wide}, {"x": {"dtype": "float32", "shape": [1, 3, 8, 8]}})
    assert np.array_equal(one["x"][0], pixels.transpose(1, 0, 2)[:, 2:10].transpose(2, 0, 1))


# What pictures and arrays may be, besides 8 bits in one folder


def one_picture(folder, save, **options):
    """The tensor of a picture that `save` puts in a folder, 8 high and 6 wide, pixels as they are."""
    (folder / "one").mkdir()
    save(folder / "one")
    given = {"images": {"path": "one", "size": [8, 6], "scale": 1.0, "layout": "NHWC", **options}}
    (feed,) = fed(folder, given, {"x": {"dtype": "float32", "shape": [1, 8, 6, 3]}})
    return feed["x"][0]


RAMP = np.linspace(0, 255, 48).astype(np.uint8).reshape(8, 6)
GREY = np.stack([RAMP] * 3, -1).astype(np.float32)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_grey_picture_of_16_bits_is_as_bright_as_one_of_8(tmp_path, order):
    wide = (RAMP.astype(np.uint16) * 256 + 9).astype(f"{order}u2")
    got = one_picture(tmp_path, lambda folder: Image.fromarray(wide).save(folder / "a.tiff"))
    assert np.array_equal(got, GREY)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_picture_without_a_largest_value_is_refused(tmp_path, dtype):
    with pytest.raises(StageError, match=r"^one/a.tiff has pixels of 32 bits, whose range is not known") as told:
        one_picture(tmp_path, lambda folder: Image.fromarray(RAMP.astype(dtype)).save(folder / "a.tiff"))
    assert told.value.hint == "save it with 8 or 16 bits for each channel"


def test_a_picture_stands_as_viewers_show_it(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees to the right
    lying = Image.fromarray(np.rot90(GREY).astype(np.uint8))
    got = one_picture(tmp_path, lambda folder: lying.save(folder / "a.png", exif=turned))
    assert np.array_equal(got, GREY)


def test_a_folder_within_itself_is_looked_through_once(tmp_path):
    (tmp_path / "p/deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        Image.fromarray(RAMP).save(tmp_path / f"p/{name}.png")
    (tmp_path / "p/deep/up").symlink_to("..")
    (tmp_path / "p/again").symlink_to("deep")  # another way to it, which does not lead back
    data = datasets.msgspec.convert({"images": {"path": "p", "size": [8, 6]}}, datasets.Dataset)
    assert datasets.listed(data, tmp_path) == ["a.png", "again/b.png", "deep/b.png"]


def test_arrays_are_their_values_however_they_are_stored(tmp_path):
    import ml_dtypes

    words, half = np.array([["a", "ünï"]]), np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    number = np.array([[1.5, -2.0]], ">f4")
    np.savez(tmp_path / "d.npz", s=words, b=np.char.encode(words, "utf-8"), h=half, x=number)
    kinds = {"s": "string", "b": "string", "h": "bfloat16", "x": "float32"}
    (feed,) = fed(tmp_path, {"npz": {"path": "d.npz"}}, {k: {"dtype": v, "shape": [1, 2]} for k, v in kinds.items()})
    assert feed["s"].tolist() == feed["b"].tolist() == words.tolist() and feed["s"].dtype == object
    assert feed["h"].dtype == half.dtype and np.array_equal(feed["h"], half)
    assert feed["x"].dtype.isnative and feed["x"].tolist() == [[1.5, -2.0]]


def test_which_file_of_a_folder_does_not_fit_is_named(tmp_path):
    for name, dtype in (("a", np.float32), ("b", float)):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((1, 2), dtype), n=np.zeros(1, int))
    with pytest.raises(StageError, match=r"^\./b.npz: 'x' is float64 of rank 2$"):
        fed(tmp_path, {"npz_folder": {"path": "."}})


def test_what_is_no_array_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"^data.generator: sample 1: 'x' is no array: ValueError: ") as told:
        fed(tmp_path, {"generator": {"function": "m:f"}}, call=lambda _: [{"x": [[1], [1, 2]], "n": [1]}])
    assert told.value.hint == "yield NumPy arrays"
