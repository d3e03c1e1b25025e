"""The weights in a TorchScript archive, read without running it.

    <name>/data.pkl      a pickle of the module tree: classes below `__torch__`, tensors, plain values
    <name>/data/<key>    the bytes of a tensor's storage
    <name>/code/…        the classes, in TorchScript; which of their attributes are parameters and buffers stands there

torch.jit.load compiles that code, and runs the classes' `__setstate__`. Here the pickle meets stand-ins only: whatever it
names is a record of our own that calls nothing, and the code is searched for two lists of names. The format is described
in torch/csrc/jit/docs/serialization.md of pytorch's repository. Knows nothing of recipes.
"""

from __future__ import annotations

import ast
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from onnxbuild.errors import StageError

MARK = "constants.pkl"  # the record that torch itself tells a TorchScript archive by
LARGEST = 1 << 26  # bytes of a record that is no tensor
MOST = 1_000_000  # names in a state dict: modules that share one another could spell out any number
DEEPEST = 100  # modules in one another
REMEDY = "save the model's state_dict() alone, best to a safetensors file"

_CLASSES = "__torch__."
_LISTS = re.compile(r"^(?:class (\w+)\((\w+)\):|  __(parameters|buffers)__ = (\[[^\n]*\]))$", re.MULTILINE)
_DTYPES = {  # by the names of c10's scalar types, as storages are called by them
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Bool": torch.bool,
    "Byte": torch.uint8, "UInt16": torch.uint16, "UInt32": torch.uint32, "UInt64": torch.uint64,
    "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    "Float8_e4m3fn": torch.float8_e4m3fn, "Float8_e5m2": torch.float8_e5m2,
}  # fmt: skip
_LIST_OF = re.compile(r"torch\.jit\._pickle\.(build_\w+list|restore_type_tag)")


def is_torchscript(path: Path) -> bool:
    """Whether a zip archive is one that torch.jit.save wrote, as torch tells it: by a record's name."""
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == MARK for name in archive.namelist())


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of an archive by their dotted names, on the CPU, as the loaded module's own `state_dict()`.

    Raises StageError where it can't be read, or where its weights come about by running code only.
    """
    try:
        with zipfile.ZipFile(path) as file:
            archive = _Archive(file)
            return dict(_tensors(archive, archive.tree()))
    except StageError as error:
        raise StageError(f"{path.name} {error.fact}", error.hint or REMEDY) from None
    except Exception as error:  # noqa: BLE001  # a made-up pickle or zip raises whatever it likes out of both
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StageError(f"{path.name} is not a readable TorchScript archive: {said}", REMEDY) from None


class _Named:
    """What a pickle names: inert, whatever is done to it. Called, it gives what `_Archive` makes of the name."""

    def __init__(self, archive: _Archive, name: str) -> None:
        self.archive, self.name = archive, name

    def __call__(self, *arguments: Any) -> Any:
        return self.archive.called(self.name, arguments)

    def __setstate__(self, _: object) -> None:
        raise StageError(f"holds a pickle that changes {self.name}")


class _Object:
    """An object of a class below `__torch__`: its attributes, or what its class's code would make them from."""

    kind = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: _Archive, file: Any) -> None:
        super().__init__(file)
        self._archive = archive
        self._classes: dict[str, type[_Object]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if not full.startswith(_CLASSES):
            return _Named(self._archive, full)
        return self._classes.setdefault(full, type("_Object", (_Object,), {"kind": full}))

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """A storage: its type's name and its record's key."""
        tag, kind, key, *_ = pid
        if tag != "storage" or not isinstance(kind, _Named) or not isinstance(key, str):
            raise StageError("refers to what is no tensor's storage")
        return kind.name, key


class _Archive:
    """The records of one archive. What it hands out is made of tensors, plain values, `_Named` and `_Object`."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._root = next(name for name in file.namelist() if name.partition("/")[2] == MARK).partition("/")[0]
        self._storages: dict[tuple[str, str], torch.Tensor] = {}
        self._declared: dict[str, dict[str, dict[str, list[str]]]] = {}

    def tree(self) -> Any:
        """The module at the top."""
        if f"{self._root}/byteorder" in self._file.namelist() and self._record("byteorder") != b"little":
            raise StageError("was written on a big-endian machine", "save it again on a little-endian one")
        with self._file.open(self._bounded("data.pkl")) as pickled:
            return _Unpickler(self, pickled).load()

    def lists(self, kind: str) -> dict[str, list[str]] | None:
        """The names of a module class's `parameters` and `buffers`; None for a class that is no module."""
        module, _, name = kind.rpartition(".")
        if module not in self._declared:
            found: dict[str, dict[str, list[str]]] = {}
            current: dict[str, list[str]] = {}
            for match in _LISTS.finditer(self._record(f"code/{module.replace('.', '/')}.py").decode()):
                if match[1]:
                    current = found[match[1]] = {}
                else:
                    current[match[3]] = ast.literal_eval(match[4])
            self._declared[module] = found
        return self._declared[module].get(name)

    def called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """What a call in the pickle stands for. What is no weight is of no interest, and stays a record of its name."""
        if name == "torch._utils._rebuild_tensor_v2":
            return self._tensor(*arguments[:4])
        if name == "collections.OrderedDict":
            return {}
        if _LIST_OF.fullmatch(name) and arguments:
            return arguments[0]
        return _Named(self, name)

    def _tensor(self, storage: tuple[str, str], offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
        if storage not in self._storages:
            kind, key = storage
            dtype = _DTYPES.get(kind.removeprefix("torch.").removesuffix("Storage"))
            if dtype is None:
                return _Named(self, kind)
            data = bytearray(self._record(f"data/{key}", limit=None))
            if len(data) % dtype.itemsize:
                raise StageError(f"has {len(data):,} bytes of {dtype} under '{key}', which is no whole number of them")
            self._storages[storage] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[storage].as_strided(size, stride, offset)  # refuses what lies outside the storage

    def _record(self, name: str, limit: int | None = LARGEST) -> bytes:
        return self._file.read(self._bounded(name, limit))

    def _bounded(self, name: str, limit: int | None = LARGEST) -> zipfile.ZipInfo:
        """A record that takes no more memory than it takes on the disk, or than `limit` bytes."""
        info = self._file.getinfo(f"{self._root}/{name}")
        if info.file_size > (info.compress_size if limit is None else limit):
            raise StageError(f"unpacks '{name}' to {info.file_size:,} bytes")
        return info


def _tensors(archive: _Archive, top: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and buffer with its name; each module's own before those of the modules in it."""
    left: list[tuple[str, Any]] = [("", top)]
    count = 0
    while left:
        prefix, module = left.pop()
        lists = archive.lists(module.kind) if isinstance(module, _Object) else None
        if lists is None:
            if not prefix:
                raise StageError("holds no module")
            continue
        state = module.state
        if not isinstance(state, dict):
            where = prefix.removesuffix(".") or "the model itself"
            raise StageError(
                f"is refused: only TorchScript code of its own, which is not run, restores {where}", REMEDY
            )
        count += len(state)
        if count > MOST or prefix.count(".") > DEEPEST:
            raise StageError("has modules in one another without end")
        yield from _own(prefix, state, lists)
        below = [(f"{prefix}{name}.", value) for name, value in state.items() if isinstance(value, _Object)]
        left += reversed(below)


def _own(prefix: str, state: dict[str, Any], lists: dict[str, list[str]]) -> Iterator[tuple[str, torch.Tensor]]:
    every = [
        name for name, value in state.items() if isinstance(value, torch.Tensor)
    ]  # torch before 1.5 lists no buffers
    for name in [*lists.get("parameters", []), *lists["buffers"]] if "buffers" in lists else every:
        value = state.get(name)
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif value is not None:
            raise StageError(
                f"holds '{prefix}{name}' in a form that is read by running code only (a quantized tensor?)"
            )
