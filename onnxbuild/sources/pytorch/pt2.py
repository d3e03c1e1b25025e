"""A .pt2 archive, as torch.export.save writes it, read only where reading it runs nothing of the archive's.

    <name>/models/model.json                      the program: nodes by their operators' names, sizes as expressions
    <name>/data/weights/… , data/constants/…      the bytes of tensors, and model_…_config.json, which tells how to read them
    <name>/data/sample_inputs/model.pt            the inputs that it was captured with, as torch.save writes them

torch.export.load unpickles what the archive says to unpickle, evaluates sizes (sympy.sympify) and guards (exec) as Python,
imports the modules that it names, calls any function of torch that a node names, and loads libraries that lie in it. Here
all of that is looked at before it is loaded: nothing is unpickled but tensors and plain values (weights_only=True), an
expression has numbers, symbols and sympy's own functions in it, a node names an operator. What is beyond that is refused.
Records are read by torch's own reader, so that what was looked at is what is loaded. Imports torch at module level.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from onnxbuild.errors import StageError

REMEDY = "save it anew by torch.export.save, from a program of tensors and standard operators alone"
OURS = "where you trust it, let a `factory` return torch.export.load(path): that is your own code then"
LARGEST = 1 << 28  # bytes of a record that is read as JSON

_PROGRAM = "models/model.json"
_INPUTS = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_RECORDS = re.compile(
    r"models/model\.json|data/sample_inputs/model\.pt|data/(weights|constants)/(weight_\d+|tensor_\d+|model_\w+_config\.json)"
    r"|archive_format|archive_version|byteorder|\.data/\w+|extra/.*"
)
# What a node may call: an operator, by namespace, name and overload; Python's and torch's arithmetic on sizes.
_TARGET = re.compile(
    r"torch\.ops\.[a-z]\w*\.\w+\.\w+|torch\.ops\.higher_order\.\w+|_operator\.[a-z_]+|math\.[a-z]+|torch\.sym_\w+"
    r"|torch\._check\w*"
)
_NO_OPERATORS = {
    "_operator.attrgetter",
    "_operator.methodcaller",
    "_operator.itemgetter",
    "_operator.call",
    "torch.ops.aten.from_file.default",  # opens a file, and may make it
    "torch.ops.aten.from_file.out",
}
_SYMBOL = re.compile(r"(s|u|z|f|zf|zuf|q)\d+|_?[a-z]\w*")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_FUNCTIONS = {  # of sympy, and torch.utils._sympy.functions
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "floor", "ceiling",
    "sign", "log", "sqrt", "exp", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan",
    "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "Xor", "ITE", "Piecewise", "ExprCondPair",
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv",
    "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat",
    "Identity", "max", "min",
}  # fmt: skip
_METHODS = frozenset({"size", "stride", "storage_offset"})  # of an input, in a guard
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Subscript, ast.Load, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop, ast.keyword, ast.Tuple,
)  # fmt: skip


def load(path: Path) -> Any:
    """The torch.export.ExportedProgram in an archive. Raises StageError where it can't be read, or might run code."""
    try:
        records = _Records(path)
        _check(records)
    except StageError as error:
        raise StageError(f"{path.name} {error.fact}", error.hint or OURS) from None
    except Exception as error:  # noqa: BLE001  # torch's reader and JSON raise what they like
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StageError(f"{path.name} is not a readable .pt2 archive: {said}", REMEDY) from None
    # torch.export.load itself would go on to a reader of older archives, which unpickles whatever is in them.
    from torch.export.pt2_archive._package import load_pt2

    try:
        return load_pt2(str(path)).exported_programs["model"]
    except Exception as error:  # see above
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StageError(f"{path.name} can't be loaded by torch {torch.__version__}: {said}", REMEDY) from error


class _Records:
    """The records of an archive by their names below its folder."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise StageError("is no .pt2 archive, which is a zip file", REMEDY)
        with zipfile.ZipFile(path) as archive:
            if packed := [one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]:
                raise StageError(
                    f"is refused: '{packed[0]}' is compressed, which torch.export.save does not do", REMEDY
                )
        self._file = torch._C.PyTorchFileReader(str(path))  # noqa: SLF001  # what torch.export.load reads it with
        self.names = list(self._file.get_all_records())

    def json(self, name: str) -> Any:
        """A record that is JSON."""
        found = self.bytes(name)
        if len(found) > LARGEST:
            raise StageError(f"unpacks '{name}' to {len(found):,} bytes")
        return json.loads(found)

    def bytes(self, name: str) -> bytes:
        """A record."""
        if name not in self.names:
            raise StageError(f"has no record '{name}'", REMEDY)
        return bytes(self._file.get_record(name))


def _check(records: _Records) -> None:
    """Raises StageError for anything whose loading would run what the archive says."""
    if _PROGRAM not in records.names:
        older = "serialized_exported_program.json" in records.names
        raise StageError("is of an older torch's form" if older else "holds no exported program", REMEDY)
    strange = [name for name in records.names if not _RECORDS.fullmatch(name)]
    if strange:
        raise StageError(f"is refused: it holds '{strange[0]}', which is no part of a program and its tensors")
    for config in _CONFIGS:
        for name, entry in records.json(config)["config"].items():
            if entry.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise StageError(f"is refused: '{name}' is a pickle, which may call code")
    if _INPUTS in records.names and (held := records.bytes(_INPUTS)):
        try:
            torch.load(io.BytesIO(held), map_location="cpu", weights_only=True)
        except Exception as error:  # pickle's are of any class
            raise StageError("is refused: its sample inputs hold more than tensors and plain values") from error
    for key, text in _told(records.json(_PROGRAM)):
        _require(key, text)


def _told(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a program, with the key that it is under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for item in value:
            yield from _told(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            yield from _told(item, name)


def _require(key: str, text: str) -> None:
    """Raises StageError for a text that loading or running the program would take for code of another kind than it is."""
    if "__enum__" in text:
        raise StageError("is refused: it names a Python module to import")
    if key in ("target", "as_operator"):
        if not _TARGET.fullmatch(text) or text in _NO_OPERATORS or ".__" in text:
            raise StageError(f"is refused: it calls {text!r}, which is no operator")
    elif key in ("expr_str", "guards_code") and not _is_arithmetic(text):
        raise StageError(f"is refused: {text[:80]!r} is more than arithmetic on sizes")
    elif key == "as_custom_obj":
        raise StageError("is refused: it holds an object of a class of its own")


def _is_arithmetic(text: str) -> bool:
    """Whether an expression holds nothing but numbers, names of sizes, and functions of those."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    quoted = {id(node) for call in called.values() for node in (*call.args, *call.keywords)}
    quoted |= {id(node.slice) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    return all(_is_plain(node, called, quoted) for node in ast.walk(tree))


def _is_plain(node: ast.AST, called: dict[int, ast.Call], quoted: set[int]) -> bool:
    """Whether one part of an expression is of the allowed kinds. Text stands in calls and subscripts only."""
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in ("math", "torch"):
            return id(node) in called and re.fullmatch(r"[a-z]+|sym_[a-z]+", node.attr) is not None
        return id(node) in called and node.attr in _METHODS and not called[id(node)].args
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS if id(node) in called else _is_size(node.id)
    if isinstance(node, ast.Call):
        return isinstance(node.func, (ast.Name, ast.Attribute))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        known = _SYMBOL.fullmatch(node.value) or _NUMBER.fullmatch(node.value)
        return id(node) in quoted and known is not None and "__" not in node.value
    return isinstance(node, _ARITHMETIC) or (isinstance(node, ast.Constant) and isinstance(node.value, int | float))


def _is_size(name: str) -> bool:
    return name in ("L", "args", "oo", "int_oo", "inf", "true", "false", "math", "torch") or (
        _SYMBOL.fullmatch(name) is not None and "__" not in name
    )
