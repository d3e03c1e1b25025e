"""What a recipe says of data for a pass or its metric, against what is declared of the model's inputs and lies on the disk.

Headers of .npz files are read, and no array. Imports nothing heavy.
"""

from __future__ import annotations

import ast
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from msgspec import UNSET

from onnxbuild.parity import datasets
from onnxbuild.parity.datasets import Dataset, Images, NpzFile
from onnxbuild.passes import OF_DATA
from onnxbuild.recipe import importables
from onnxbuild.recipe.findings import Finding
from onnxbuild.recipe.findings import Path as Keys
from onnxbuild.recipe.types import given
from onnxbuild.system import files, observed
from onnxbuild.text import units
from onnxbuild.text.wording import nearest

if TYPE_CHECKING:
    from onnxbuild.recipe.rules import Sections
    from onnxbuild.recipe.types import Export, Input

_KINDS = {"f": "float", "i": "int", "u": "uint"}
_OTHERS = {"b": "bool", "U": "string", "S": "string", "O": "object", "V2": "bfloat16"}  # numpy has no code for the last
_EMPTY = {True: "put pictures into it, or name another folder", False: "put .npz files into it, or name another folder"}


def of(sections: Sections) -> Iterator[tuple[Keys, Dataset]]:
    """Every dataset of a recipe, with its key; also those that have not one key, which is told of elsewhere."""
    for number, step in enumerate(sections.optimize or []):
        for name, options in given(step):
            data = OF_DATA[name].data(options) if name in OF_DATA else None
            if data is not None:
                yield ("optimize", number, name, "data"), data
    if sections.metric is not None:
        yield ("metric", "data"), sections.metric.data


def valid(sections: Sections) -> Iterator[tuple[Keys, str, Any]]:
    """Those that have one key: that key, and the options below it."""
    for path, data in of(sections):
        if len(given(data)) == 1:
            kind, options = datasets.kind_of(data)
            yield (*path, kind), kind, options


def folders(sections: Sections) -> Iterator[tuple[Keys, str]]:
    """The folders that datasets name, each with its key."""
    for path, kind, options in valid(sections):
        if kind in ("images", "npz_folder"):
            yield (*path, "path"), options.path


def check(sections: Sections) -> Iterator[Finding]:
    """What is wrong by what is declared alone."""
    for path, kind, options in valid(sections):
        if kind == "images" and sections.published is not None:
            yield from _images(path, options, sections.published)


def on_disk(sections: Sections, root: Path) -> Iterator[Finding]:
    """What is wrong by what lies on the disk; a missing .npz file is told of as any missing file."""
    if sections.metric is not None and (wrong := importables.problem(sections.metric.function, root)):
        yield Finding(("metric", "function"), f"'{sections.metric.function}' cannot be imported: {wrong[0]}", wrong[1])
    for path, kind, options in valid(sections):
        if kind == "npz" and sections.published is not None:
            yield from _npz((*path, "path"), options, root, sections.published)
        elif kind in ("images", "npz_folder"):
            yield from _folder(path, Dataset(**{kind: options}), root, sections.published)
        elif kind == "generator" and (wrong := importables.problem(options.function, root)):
            yield Finding((*path, "function"), f"'{options.function}' cannot be imported: {wrong[0]}", wrong[1])
        if kind == "images" and importables.folder_of("PIL") is None:
            yield Finding(path, "it needs PIL, which is not installed", "pip install 'onnxbuild[images]'", key=True)


def _folder(path: Keys, data: Dataset, root: Path, export: Export | None) -> Iterator[Finding]:
    name, _ = datasets.folder_of(data) or ("", ())
    options = datasets.kind_of(data)[1]
    try:
        found = datasets.listed(data, root)
    except OSError:
        hint = ""
        if (root / name).parent.is_dir():
            hint = nearest(Path(name).name, sorted(one.name for one in (root / name).parent.iterdir()))
        yield Finding((*path, "path"), f"no folder '{name}' in {root}", hint)
        return
    if not found:
        yield Finding((*path, "path"), f"the folder '{name}' holds nothing of it", _EMPTY[data.images is not UNSET])
    elif options.count is not UNSET and len(found) < options.count:
        yield Finding((*path, "count"), f"the folder '{name}' holds {len(found)} files", f"set count: {len(found)}")
    elif data.images is not UNSET and export is not None:
        yield from _batches(path, len(found), data.images.batch_size, export.inputs, export)
    for one in found:
        if not one.isascii() and (shown := os.fsencode(one).decode("utf-8", "backslashreplace")) != one:
            fact = f"'{shown}' in the folder '{name}' is not named in UTF-8"
            yield Finding((*path, "path"), fact, "rename it")
        elif not observed.kind(root / name / one):
            fact = f"'{one}' in the folder '{name}' is a link that leads nowhere"
            yield Finding((*path, "path"), fact, "mend it, or remove it")


def _images(path: Keys, options: Images, export: Export) -> Iterator[Finding]:
    if len(export.inputs) != 1:
        fact = f"pictures are for a model with one input; this one has {len(export.inputs)}"
        yield Finding(path, fact, "use npz or a generator", key=True)
        return
    ((name, spec),) = export.inputs.items()
    channels = 1 if options.colour == "L" else 3
    shape = [channels, *options.size] if options.layout == "NCHW" else [*options.size, channels]
    yield from _fits(path, options.batch_size, [0, *shape], name, spec, export)
    if spec.dtype not in ("float32", "float16", "float64", "uint8"):
        yield Finding(path, f"input '{name}' is {spec.dtype}, pictures are numbers", "use npz or a generator", key=True)
    wrong = [*_of_channels(path, options, channels)]
    yield from wrong or (_as_bytes(path, options, name) if spec.dtype == "uint8" else [])
    if options.shorter_side is not UNSET and options.shorter_side < max(options.size):
        fact = f"{options.size[0]} x {options.size[1]} can't be cut out of a picture whose shorter side is "
        yield Finding((*path, "shorter_side"), f"{fact}{options.shorter_side}", "make it as large as size, or larger")


def _of_channels(path: Keys, options: Images, channels: int) -> Iterator[Finding]:
    for option in ("mean", "std"):
        if (values := getattr(options, option)) and len(values) != channels:
            yield Finding((*path, option), f"{len(values)} values for {channels} channels", "give one for each channel")
    if 0.0 in options.std:
        yield Finding((*path, "std"), "nothing can be divided by 0", "give what the model was trained with")


def _as_bytes(path: Keys, options: Images, name: str) -> Iterator[Finding]:
    """What pixels become has to be what an input of uint8 can tell apart."""
    means, stds = options.mean or [0.0], options.std or [1.0]
    many = max(len(means), len(stds))
    pairs = zip(means * (many // len(means)), stds * (many // len(stds)), strict=True)
    ends = sorted((pixel * options.scale - mean) / std for mean, std in pairs for pixel in (0, 255))
    least, most = ends[0], ends[-1]
    if least <= -0.5 or most >= 255.5:
        fact = f"pixels become {units.value(least)} to {units.value(most)}, and input '{name}' is uint8, 0 to 255"
        yield Finding(path, fact, "leave them as they are, scale: 1, and subtract and divide in prepend", key=True)
    elif most - least <= 1:
        fact = f"pixels become {units.value(least)} to {units.value(most)}, of which the uint8 of input '{name}' holds"
        yield Finding(path, f"{fact} two values at most", "set scale: 1", key=True)


def _fits(path: Keys, batch: int, shape: list[int], name: str, spec: Input, export: Export) -> Iterator[Finding]:
    """Whether samples of a shape, its axis 0 apart, go into an input, `batch` of them at once."""
    dynamic = export.dynamic_axes.get(name, {})
    if len(shape) != len(spec.shape):
        fact = f"'{name}' has rank {len(shape)}, the input has {len(spec.shape)}"
        hint = f"the input's shape is {spec.shape}; axis 0 holds the samples"
        if not spec.shape:
            hint = "the input has no axis for samples: use npz_folder or a generator, which give it run by run"
        yield Finding(path, fact, hint, key=True)
        return
    for axis, (have, want) in enumerate(zip(shape, spec.shape, strict=True)):
        if axis and have != want and str(axis) not in dynamic:
            yield Finding(path, f"'{name}' has {have} on axis {axis}, the input has {want}", key=True)
    if spec.shape and "0" not in dynamic and batch != spec.shape[0]:
        fact = f"axis 0 of input '{name}' is static {spec.shape[0]}"
        yield Finding(path, fact, f"set batch_size: {spec.shape[0]}", key=True)


def _npz(path: Keys, options: NpzFile, root: Path, export: Export) -> Iterator[Finding]:
    try:
        headers = _headers(root / options.path)
    except OSError:
        return
    except Exception as error:  # noqa: BLE001  # zipfile and the header's syntax raise what they like
        yield Finding(
            path, f"'{options.path}' can't be read: {error or type(error).__name__}", "write it with numpy.savez"
        )
        return
    rows = {}
    for name, spec in export.inputs.items():
        if name not in headers:
            hint = nearest(name, headers) or f"it holds: {', '.join(headers) or 'nothing'}"
            yield Finding(path, f"'{options.path}' holds no array '{name}'", hint)
            continue
        dtype, shape = headers[name]
        if dtype != spec.dtype:
            yield Finding(
                path, f"'{name}' in '{options.path}' is {dtype}, the input is {spec.dtype}", "convert the file"
            )
        yield from _fits(path[:-1], options.batch_size, shape, name, spec, export)
        rows[name] = shape[0] if shape else 0
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{count} of '{name}'" for name, count in rows.items())
        yield Finding(path, f"'{options.path}' holds {told}", "every input needs as many samples")
        return
    have = next(iter(rows.values()), 0)
    take = have if options.count is UNSET else options.count
    if rows and not have:
        yield Finding(path, f"'{options.path}' holds no samples", "put some along axis 0 of its arrays")
    elif rows and have < take:
        yield Finding((*path[:-1], "count"), f"'{options.path}' holds {have} samples", f"set count: {have}")
    else:
        yield from _batches(path[:-1], take, options.batch_size, rows, export)


def _batches(path: Keys, count: int, batch: int, names: Iterable[str], export: Export) -> Iterator[Finding]:
    """Whether the last run, too, is of as many samples as an axis 0 that is static."""
    if count % batch and any("0" not in export.dynamic_axes.get(name, {}) for name in names):
        fact = f"{count} samples are no multiple of batch_size {batch}"
        yield Finding((*path, "batch_size"), fact, "set count to a multiple of it")


def _headers(path: Path) -> Mapping[str, tuple[str, list[int]]]:
    """The dtype and shape of each array of a .npz file, by name. Format: numpy.lib.format."""
    with files.opened(path) as file, zipfile.ZipFile(file) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as entry:
                found[name.removesuffix(".npy")] = _header(entry)
        return found


def _header(entry: IO[bytes]) -> tuple[str, list[int]]:
    start = entry.read(8)
    if start[:6] != b"\x93NUMPY":
        raise ValueError("what is in it is no NumPy array")
    length = int.from_bytes(entry.read(2 if start[6] == 1 else 4), "little")
    header = ast.literal_eval(entry.read(length).decode("latin1"))
    code = str(header["descr"]).lstrip("<>=|")
    bits = (
        f"{_KINDS[code[0]]}{8 * int(code[1:])}" if code[0] in _KINDS else _OTHERS.get(code[:1], _OTHERS.get(code, code))
    )
    return bits, [int(size) for size in header["shape"]]
