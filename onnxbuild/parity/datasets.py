"""Data that a recipe names: which files it is in, and what is fed to the model of it, in a fixed order.

A dataset is an .npz file, a folder of .npz files, a folder of pictures, or a function of the project's. Types here are the
recipe's. Runs no model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Companion
from onnxbuild.errors import StageError
from onnxbuild.system import observed

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays, Json

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[Positive, Meta(description="Take so many samples, the first ones; all of them if left out.")]
Batch = Annotated[
    Positive, Meta(description="Samples in one run of the model; as many as its axis 0, if that is static.")
]
Triple = Annotated[list[float], Meta(max_length=3)]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class NpzFile(Struct, frozen=True, forbid_unknown_fields=True):
    """Arrays by input name, each with the samples along its axis 0, which is the input's axis 0."""

    path: Annotated[str, Meta(description="A NumPy .npz file, relative to the project root.")]
    batch_size: Batch = 1
    count: Count | UnsetType = UNSET


class NpzFiles(Struct, frozen=True, forbid_unknown_fields=True):
    """A file for each run of the model, holding arrays by input name."""

    path: Annotated[str, Meta(description="A folder; its .npz files are taken in the order of their names.")]
    count: Count | UnsetType = UNSET


class Images(Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures, each made into the tensor (pixels * scale - mean) / std for the model's one input.

    They stand as their EXIF orientation says; of 16 bits the upper 8 count, and what is transparent shows its colour.
    """

    path: Annotated[
        str,
        Meta(
            description="A folder; the pictures in it and below (bmp, gif, jpeg, jpg, png, ppm, tif, tiff, webp) are "
            "taken in the order of their paths."
        ),
    ]
    size: Annotated[
        list[Positive], Meta(min_length=2, max_length=2, description="Height and width of the tensor, in pixels.")
    ]
    shorter_side: (
        Annotated[
            Positive,
            Meta(
                description="Scale the shorter side to this, then cut `size` out of the middle; without it the picture "
                "is stretched to `size`."
            ),
        ]
        | UnsetType
    ) = UNSET
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "lanczos"], Meta(description="Pillow's filter for scaling.")
    ] = "bilinear"
    colour: Annotated[
        Literal["RGB", "BGR", "L"], Meta(description="The order of channels; L is grey, one channel.")
    ] = "RGB"
    layout: Annotated[Literal["NCHW", "NHWC"], Meta(description="The order of a tensor's axes.")] = "NCHW"
    scale: Annotated[float, Meta(description="What pixels, 0 to 255, are multiplied with.")] = 1 / 255
    mean: Annotated[Triple, Meta(description="One for each channel, or none.")] = []
    std: Annotated[Triple, Meta(description="One for each channel, or none.")] = []
    batch_size: Batch = 1
    count: Count | UnsetType = UNSET


class Generator(Struct, frozen=True, forbid_unknown_fields=True):
    """A function of the project's that gives arrays by input name, again and again: a generator or a list."""

    function: Annotated[
        str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", description="module:function, from the project root.")
    ]
    kwargs: Annotated[dict[str, Any], Meta(description="What it is called with.")] = {}
    count: Count | UnsetType = UNSET


class Dataset(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Real data for the model; exactly one key."""

    npz: NpzFile | UnsetType = UNSET
    npz_folder: NpzFiles | UnsetType = UNSET
    images: Images | UnsetType = UNSET
    generator: Generator | UnsetType = UNSET


def kind_of(data: Dataset) -> tuple[str, Any]:
    """The kind of a dataset and its options."""
    return next((name, one) for name in data.__struct_fields__ if (one := getattr(data, name)) is not UNSET)


def file(data: Dataset) -> dict[str, str]:
    """The file that a dataset names, by role; none where it is a folder or a function."""
    return {f"data:{data.npz.path}": data.npz.path} if data.npz is not UNSET else {}


def folder_of(data: Dataset) -> tuple[str, tuple[str, ...]] | None:
    """The folder that a dataset names and the suffixes of what is taken of it; None where it names none."""
    if data.npz_folder is not UNSET:
        return data.npz_folder.path, (".npz",)
    return (data.images.path, SUFFIXES) if data.images is not UNSET else None


def listed(data: Dataset, root: Path) -> list[str]:
    """The files of a dataset's folder, in the order in which they are taken, by their path in the folder.

    Raises OSError where the folder can't be listed.
    """
    found = folder_of(data)
    if found is None:
        return []
    path, suffixes = found
    names = sorted(_below(root / path, "", suffixes, (), deep=data.images is not UNSET))
    count = kind_of(data)[1].count
    return names if count is UNSET else names[:count]


def _below(
    folder: Path, prefix: str, suffixes: tuple[str, ...], above: tuple[str, ...], *, deep: bool
) -> Iterator[str]:
    """The files in a folder and, with `deep`, below it; a link to one of the folders `above` leads nowhere new."""
    real = observed.realpath(folder)
    if real in above:
        return
    for name in observed.listdir(folder):
        if observed.kind(folder / name) == "folder":
            if deep:
                yield from _below(folder / name, f"{prefix}{name}/", suffixes, (*above, real), deep=deep)
        elif name.lower().endswith(suffixes):
            yield prefix + name


def companions(data: Dataset, root: Path) -> dict[str, Companion]:
    """The files of a dataset's folder, by their path as the recipe would write it; none where it can't be listed."""
    found = folder_of(data)
    if found is None:
        return {}
    try:
        return {f"{found[0].rstrip('/')}/{name}": Companion(root / found[0] / name) for name in listed(data, root)}
    except OSError:  # it is gone since the recipe was read: then it has no files, and the stage says so
        return {}


def named(said: Any, folder: str) -> Iterator[Dataset]:
    """The datasets that name a folder, in any part of what a recipe says."""
    for key, inner in said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ():
        yield from named(inner, folder)
        if key in ("npz_folder", "images") and isinstance(inner, dict):
            with contextlib.suppress(msgspec.ValidationError):  # something else of that name
                one = msgspec.convert({key: inner}, Dataset)
                if (found := folder_of(one)) is not None and found[0].rstrip("/") == folder.rstrip("/"):
                    yield one


def distributions(data: Dataset) -> tuple[str, ...]:
    """The packages whose versions decide the values."""
    return ("numpy", "pillow") if data.images is not UNSET else ("numpy",)


def feeds(
    given: Json,
    inputs: Mapping[str, Json],
    files: Mapping[str, str],
    call: Callable[[Mapping[str, Json]], Iterable[Any]],
    *,
    others: bool = False,
) -> Iterator[Arrays]:
    """What the model is fed, by input name: `inputs` are the recipe's, `files` the dataset's by the role that they have.

    `call` gives the samples of what a `generator` names. With `others`, what else the data holds of the same samples is
    there too, such as labels; of pictures that is `path`, where each lies in its folder. Raises StageError where the data
    is not of the inputs' dtypes and ranks, or where there is none.
    """
    data = msgspec.convert(given, Dataset)
    kind, options = kind_of(data)
    ways: dict[str, Callable[..., Iterator[Arrays]]] = {
        "npz": _of_file,
        "npz_folder": _of_files,
        "images": _of_images,
        "generator": _of_function,
    }
    number = 0
    own = _inside(options.path, files) if kind == "npz_folder" else []
    for number, feed in enumerate(ways[kind](options, inputs, files, call), 1):
        what = own[number - 1] if own else f"data.{kind}: sample {number}"
        fitting = {name: _fitting(what, name, spec, feed) for name, spec in inputs.items()}
        yield fitting | _others(feed, inputs) if others else fitting
    if not number:
        raise StageError(f"data.{kind}: there are no samples", "it takes at least one: look at its path and count")


def _others(feed: Mapping[str, Any], inputs: Mapping[str, Json]) -> Arrays:
    """What of a feed is no input."""
    import numpy as np

    return {str(name): np.asarray(value) for name, value in feed.items() if name not in inputs}


def _fitting(what: str, name: str, spec: Json, feed: Any) -> Any:
    """One input's array of a feed, if it is what the input takes."""
    import numpy as np

    from onnxbuild.parity import arrays, samples

    if not isinstance(feed, Mapping):
        raise StageError(f"{what} is {type(feed).__name__}, not a mapping", "yield arrays by input name")
    if name not in feed:
        raise StageError(f"{what} has no array '{name}'", f"it has: {', '.join(map(str, feed))}")
    try:
        array = samples.plain(np.asarray(feed[name]), spec["dtype"])
    except Exception as error:  # noqa: BLE001  # numpy and whatever the object is raise what they like
        raise StageError(
            f"{what}: '{name}' is no array: {type(error).__name__}: {error}", "yield NumPy arrays"
        ) from None
    if arrays.dtype_name(array) != spec["dtype"] or array.ndim != len(spec["shape"]):
        fact = f"{what}: '{name}' is {arrays.dtype_name(array)} of rank {array.ndim}"
        raise StageError(fact, f"the input is {spec['dtype']} of rank {len(spec['shape'])}; make the data so")
    return array


def _of_file(options: NpzFile, inputs: Mapping[str, Json], files: Mapping[str, str], _: Any) -> Iterator[Arrays]:
    arrays = _loaded(Path(files[f"data:{options.path}"]), options.path)
    rows = min((len(arrays[name]) for name in inputs if name in arrays), default=0)
    taken = {name: array for name, array in arrays.items() if name in inputs or (array.ndim and len(array) == rows)}
    rows = rows if options.count is UNSET else min(rows, options.count)
    for start in range(0, rows, options.batch_size):
        yield {name: array[start : min(start + options.batch_size, rows)] for name, array in taken.items()}


def _of_files(options: NpzFiles, _: Mapping[str, Json], files: Mapping[str, str], __: Any) -> Iterator[Arrays]:
    for role in _inside(options.path, files):
        yield _loaded(Path(files[role]), role)


def _inside(folder: str, files: Mapping[str, str]) -> Sequence[str]:
    return sorted(role for role in files if role.startswith(f"{folder.rstrip('/')}/"))


def _loaded(path: Path, name: str) -> Arrays:
    """The arrays of a .npz file. Objects in it, which would be unpickled, are refused by numpy."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except Exception as error:  # noqa: BLE001  # zipfile, zlib and numpy's reader of headers raise what they like
        raise StageError(
            f"{name} can't be read: {error or type(error).__name__}", "write it with numpy.savez"
        ) from None


def _of_images(options: Images, inputs: Mapping[str, Json], files: Mapping[str, str], _: Any) -> Iterator[Arrays]:
    import numpy as np

    from onnxbuild.parity import pictures

    ((name, spec),) = inputs.items()
    roles = _inside(options.path, files)
    for start in range(0, len(roles), options.batch_size):
        batch = [
            pictures.tensor(Path(files[role]), role, options) for role in roles[start : start + options.batch_size]
        ]
        whole = np.stack(batch)
        paths = [
            role.removeprefix(f"{options.path.rstrip('/')}/") for role in roles[start : start + options.batch_size]
        ]
        made = np.rint(whole).astype(spec["dtype"]) if "int" in spec["dtype"] else whole.astype(spec["dtype"])
        yield {"path": np.array(paths), name: made}


def _of_function(
    options: Generator,
    _: Mapping[str, Json],
    __: Mapping[str, str],
    call: Callable[[Mapping[str, Json]], Iterable[Any]],
) -> Iterator[Arrays]:
    number = 0
    for feed in call({"factory": options.function, "kwargs": options.kwargs}):
        if options.count is not UNSET and number == options.count:
            return
        number += 1
        yield feed
    if options.count is not UNSET and number < options.count:
        fact = f"{options.function} gave {number} samples; the recipe asks for {options.count}"
        raise StageError(fact, "lower count, or let it give more")
