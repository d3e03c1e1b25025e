"""The values that the model is tried with, made from a recipe's description of an input.

Every input of every case has a random stream of its own, seeded by (seed, case, input), so neither the order of inputs
nor other cases move a value. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.errors import StageError
from onnxbuild.system.files import opened

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Arrays, Json

    Array: TypeAlias = np.ndarray[Any, Any]


WORDS = [*"abc"]  # what strings are drawn from where nothing is said of them
NEGATIVE = 0.75  # of signed values; the default draws no negative ones
LARGEST = 1 << 30  # bytes of one array of a .npz file: a few kilobytes can unpack to any number of zeros


def make(inputs: dict[str, Json], case: dict[str, Json], seed: int, root: Path) -> Arrays:
    """The input arrays of a case, by name, in the dtypes and order of `inputs`.

    `root` is where relative paths of .npz files start. Raises StageError where a description doesn't fit the input:
    values outside an integer dtype, a .npz file with another rank, dtype or static size.
    """
    import numpy as np

    arrays = {}
    for name, spec in inputs.items():
        kind, options = _description(spec, case["data"].get(name))
        shape = tuple(case["shapes"][name])
        dtype = dtype_of(spec["dtype"])
        if kind == "npz":
            axes = case.get("dynamic", {}).get(name, [])
            arrays[name] = _real(name, options, dtype, shape, axes, root)
        else:
            drawn = _drawn(name, kind, options, dtype, shape, generator(seed, case["name"], name))
            arrays[name] = np.asarray(drawn)  # of rank 0 numpy makes a number
    return arrays


def other(inputs: dict[str, Json], case: dict[str, Json], seed: int, root: Path) -> Arrays:
    """Other arrays of the same description for a case: drawn anew; those of a file with their values moved along.

    What never varies, such as a constant, is the same.
    """
    import numpy as np

    arrays = make(inputs, {**case, "name": f"{case['name']}, again"}, seed, root)
    for name, spec in inputs.items():
        if _description(spec, case["data"].get(name))[0] == "npz":
            array = arrays[name]
            arrays[name] = np.roll(array.reshape(-1), array.size // 2 or 1).reshape(array.shape)
    return arrays


def dtype_of(name: str) -> np.dtype[Any]:
    """The numpy dtype of a recipe's name for it, bfloat16 included; strings are objects."""
    import numpy as np

    if name == "string":
        return np.dtype(object)

    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def plain(array: Array, dtype: str) -> Array:
    """The same values as a runtime takes them for a recipe's dtype, however a file holds them.

    In the machine's byte order, text as objects, and bfloat16, which numpy keeps as bytes without a type, as what it is.
    """
    import numpy as np

    if dtype == "string" and array.dtype.kind in "US":
        return (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array).astype(object)
    if dtype == "bfloat16" and array.dtype.kind == "V" and array.dtype.itemsize == 2:
        return array.view(dtype_of(dtype))
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def generator(seed: int, case: str, name: str) -> np.random.Generator:
    """The random stream of one input of one case."""
    import numpy as np

    digest = hashlib.sha256("\0".join((str(seed), case, name)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is floating point; numpy alone does not say so of bfloat16 and the 8-bit floats."""
    return dtype.kind == "f" or "float" in dtype.name


def _description(spec: Json, override: Json | None) -> tuple[str, Json]:
    """The kind of data and its options: the case's own, else the input's, else the default of the dtype."""
    described: dict[str, Json] = override or spec.get("data") or {}
    for kind, options in described.items():
        return kind, options
    if spec["dtype"] == "string":
        return "words", WORDS
    if "float" in spec["dtype"]:
        return "normal", {"mean": 0.0, "std": 1.0}
    return "integers", {"low": 0, "high": 2 if spec["dtype"] == "bool" else 10}


def _drawn(
    name: str, kind: str, options: Json, dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    """Values of one of the kinds that need no file."""
    import numpy as np

    if dtype.kind == "O" or kind in ("values", "signed"):
        made = _text if dtype.kind == "O" else _listed if kind == "values" else _signed
        return made(name, kind, options, dtype, shape, rng)
    if kind == "normal":
        return _cast(rng.normal(options["mean"], options["std"], shape), dtype)
    if kind == "uniform":
        if options["low"] > options["high"]:
            raise StageError(f"input '{name}': uniform from {options['low']} to {options['high']} holds no value")
        return _cast(rng.uniform(options["low"], options["high"], shape), dtype)
    if kind == "integers":
        low, high = options["low"], options["high"]
        if low >= high:
            raise StageError(f"input '{name}': integers from {low} up to, not including, {high} hold no value")
        _require_range(name, dtype, low, high - 1)
        return rng.integers(low, high, shape, dtype=dtype if dtype.kind in "iu" else np.int64).astype(dtype)
    if not is_float(dtype):
        _require_range(name, dtype, options, options)
        return np.full(shape, int(options), dtype)
    return np.full(shape, options, np.float64).astype(dtype)


def _text(
    name: str,
    kind: str,
    options: Json,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> Array:
    """Strings: one of WORDS each, one everywhere, or those of a list, over and over, in order."""
    import numpy as np

    words = options if kind in ("words", "values") else [options]
    if not all(isinstance(word, str) for word in words):
        fact = f"input '{name}': data of the kind '{kind}' holds no strings"
        raise StageError(fact, "strings are given as constant, values or npz")
    if kind == "words":
        return np.array(words, dtype)[rng.integers(0, len(words), shape)].reshape(shape)
    return np.resize(np.array(words, dtype), shape)


def _listed(name: str, kind: str, options: Json, dtype: np.dtype[Any], shape: tuple[int, ...], _: Any) -> Array:
    """The numbers of a list, over and over, in order."""
    import numpy as np

    if wrong := [value for value in options if isinstance(value, str)]:
        raise StageError(f"input '{name}': {kind}: {wrong[0]!r} is not a value of {dtype.name}", "give numbers")
    _require_range(name, dtype, min(options), max(options))
    return np.resize(np.array(options).astype(dtype), shape)


def _signed(
    name: str,  # noqa: ARG001  # as its neighbours have it
    kind: str,  # noqa: ARG001  # see above
    options: Json,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> Array:
    """Integers of both signs, small and large ones alike, up to `most` or what the dtype holds."""
    import numpy as np

    most = min(options["most"], _limits(dtype)[1])
    size = np.floor(np.exp(rng.uniform(0.0, np.log(most), shape)))
    return _cast(np.where(rng.random(shape) < NEGATIVE, -size, size), dtype)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    import numpy as np

    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _require_range(name: str, dtype: np.dtype[Any], low: float, high: float) -> None:
    """Raise where an integer dtype can't hold a bound that the recipe gives."""
    if is_float(dtype):
        return
    least, most = _limits(dtype)
    for value in (low, high):
        if not least <= value <= most or value != int(value):
            raise StageError(
                f"input '{name}': {value} is not a value of {dtype.name}",
                f"{dtype.name} holds the whole numbers from {least} to {most}",
            )


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Random float64 values in another dtype: rounded for integers, and never beyond the largest finite value."""
    import ml_dtypes
    import numpy as np

    if is_float(dtype):
        limits = ml_dtypes.finfo(dtype)
        return np.clip(values, float(limits.min), float(limits.max)).astype(dtype)
    least, most = _limits(dtype)
    # float64 can't hold every 64-bit limit; the next float below can be cast without wrapping around.
    top = float(most) if int(float(most)) <= most else float(np.nextafter(float(most), 0.0))
    return np.clip(np.rint(values), float(least), top).astype(dtype)


def _real(
    name: str, options: Json, dtype: np.dtype[Any], shape: tuple[int, ...], dynamic: list[int], root: Path
) -> Array:
    """Real data from a .npz file, cropped or repeated along the dynamic axes to the case's sizes."""
    import numpy as np

    key, path = options["key"] or name, options["path"]
    try:
        values = _unpacked(name, key, root / path, path)
    except StageError:
        raise
    except Exception as error:  # noqa: BLE001  # zipfile, zlib and numpy's reader of headers raise what they like
        fact = f"input '{name}': {path} can't be read: {error or type(error).__name__}"
        raise StageError(fact, "write it with numpy.savez") from None
    values = plain(values, "string" if dtype.kind == "O" else dtype.name)
    if values.dtype != dtype or values.ndim != len(shape):
        raise StageError(
            f"input '{name}': '{key}' in {path} is {values.dtype.name} of shape {list(values.shape)}, "
            f"the input is {dtype.name} of rank {len(shape)}"
        )
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True)):
        if have != want and (axis not in dynamic or not have):
            raise StageError(f"input '{name}': '{key}' in {path} has {have} on axis {axis}, the input has {want}")
        if have != want:
            values = np.take(values, np.arange(want) % have, axis=axis)
    return np.ascontiguousarray(values).reshape(shape)


def _unpacked(name: str, key: str, file: Path, path: str) -> Array:
    """One array of a .npz file. Objects in it, which would be unpickled, are refused by numpy."""
    import numpy as np

    with opened(file) as handle:  # opened here: numpy leaves a file open that turns out not to be one of its own
        if handle.read(2) != b"PK":
            raise ValueError("it is no .npz file")
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as arrays:
            if key not in arrays:
                raise StageError(f"input '{name}': {path} holds no array '{key}'", f"it holds: {', '.join(arrays)}")
            entry = key if key in arrays.zip.namelist() else f"{key}.npy"
            if (size := arrays.zip.getinfo(entry).file_size) > LARGEST:
                fact = f"input '{name}': '{key}' in {path} unpacks to {size:,} bytes, more than {LARGEST >> 30} GiB"
                raise StageError(fact, "keep in it what the cases need, and no more")
            values: Array | bytes = arrays[key]
    if isinstance(values, bytes):
        raise ValueError(f"'{key}' is not an array")  # noqa: TRY004  # the file's fault, not the caller's
    return values
