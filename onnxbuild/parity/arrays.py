"""Named arrays in a file of the safetensors format: equal arrays give equal bytes, and each is read when asked for.

Nothing is pickled. Strings, which the format lacks, are kept as UTF-8 JSON in a U8 tensor and named in its metadata.
The library's own writer is not used: it holds a whole second copy, and its order of metadata is not fixed.
Format: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, then the data without holes).
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.errors import StageError
from onnxbuild.parity.samples import dtype_of
from onnxbuild.system.files import write_atomic

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

_FORMAT = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
}  # fmt: skip
_DTYPE = {format_: name for name, format_ in _FORMAT.items()}
DTYPES = (*_FORMAT, "string")  # all that can be kept
_STRINGS = "strings"  # the metadata's key: a JSON object of name to shape


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; the bytes depend on names, dtypes, shapes and values only.

    Raises StageError for a dtype that no tensor of the format can hold (complex numbers).
    """
    strings = {name: list(array.shape) for name, array in sorted(arrays.items()) if array.dtype.kind in "OUST"}
    bytes_of = {name: _encode(name, array) if name in strings else _little(array) for name, array in arrays.items()}
    # The widest first keeps every array aligned without padding, which the format does not allow.
    order = sorted(bytes_of, key=lambda name: (-bytes_of[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {_STRINGS: json.dumps(strings, sort_keys=True)}} if strings else {}
    offset = 0
    for name in order:
        array = bytes_of[name]
        if array.dtype.name not in _FORMAT:
            raise StageError(f"'{name}' is {array.dtype.name}, which can't be kept", "return real numbers or bools")
        end = offset + array.nbytes
        header[name] = {"dtype": _FORMAT[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_atomic(path, _chunks(text, (bytes_of[name] for name in order)))


def read(path: Path) -> Stored:
    """The arrays of a file that `save` wrote: a mapping that reads an array when it is asked for."""
    return Stored(path)


class Stored(Mapping[str, "Array"]):
    """Read-only arrays that lie in a file; their pages are read when touched."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[8 + length :]
        metadata = header.pop("__metadata__", {})
        self._strings: dict[str, list[int]] = json.loads(metadata.get(_STRINGS, "{}"))
        self._header = {name: header[name] for name in sorted(header)}

    def __getitem__(self, name: str) -> Array:
        import numpy as np

        entry = self._header[name]
        start, end = entry["data_offsets"]
        if name in self._strings:
            values = np.empty(prod(self._strings[name]), object)
            values[:] = json.loads(bytes(self._data[start:end]))
            return values.reshape(self._strings[name])
        dtype = dtype_of(_DTYPE[entry["dtype"]])
        return np.frombuffer(self._data[start:end], np.uint8).view(dtype).reshape(entry["shape"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


def dtype_name(array: Array) -> str:
    """What numpy calls an array's dtype, "string" for text."""
    return "string" if array.dtype.kind in "OUST" else str(array.dtype.name)


def content(array: Array) -> bytes:
    """Bytes that arrays of equal dtype, shape and values share; of text too, which numpy holds as pointers."""
    return _encode("an input", array).tobytes() if array.dtype.kind in "OUST" else array.tobytes()


def _encode(name: str, array: Array) -> Array:
    import numpy as np

    values = array.ravel().tolist()
    if not all(isinstance(value, str) for value in values):
        raise StageError(f"'{name}' holds Python objects, which can't be kept", "return numbers, bools or strings")
    return np.frombuffer(json.dumps(values, separators=(",", ":")).encode(), np.uint8)


def _little(array: Array) -> Array:
    """The array in C order and little-endian; a view where it already is."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(array.shape)
    return flat.astype(flat.dtype.newbyteorder("<")) if flat.dtype.byteorder == ">" else flat


def _chunks(header: bytes, arrays: Iterator[Array]) -> Iterator[bytes | memoryview]:
    import numpy as np

    yield len(header).to_bytes(8, "little")
    yield header
    for array in arrays:
        if array.size:
            yield array.reshape(-1).view(np.uint8).data
