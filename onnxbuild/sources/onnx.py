"""The `onnx` source: an existing .onnx file. Light to import.

"Reference" means that file's own outputs in onnxruntime on the CPU, with graph optimisation off: the file as it is
written, not as a runtime rewrites it, so that a fault of an optimisation shows as a difference instead of being on both
sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from onnxbuild.contracts import Arrays, Exported, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import installed

if TYPE_CHECKING:
    from onnx import ModelProto

VERSION = 2
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "numpy")
HASHED: dict[str, tuple[str, ...]] = {"": ("path", "package", "sha256")}
EXPORTERS: dict[str, tuple[int, int]] = {}  # the file is taken as it is
MEANINGLESS: tuple[tuple[str, ...], ...] = (("export", "exporter"), ("export", "arguments"), ("symbolics",))
NOISE = ""
LONGEST = 1024  # characters of a path beside a model; looking at each of its folders takes a while


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """An existing .onnx file."""

    path: Annotated[str, Meta(min_length=1, description="The .onnx file. Relative to the project root, or `package`.")]
    sha256: installed.Sha256 = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the file.")] = ""


def files(options: Options) -> Mapping[str, str]:
    return {"model": installed.declared(options.path, options.package)}


def distributions(stage: str, exporter: str) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """The reference is what onnxruntime makes of the file."""
    return ("onnxruntime",) if stage == "reference" else ()


def remarks(heard: Iterable[str]) -> list[str]:  # noqa: ARG001  # the protocol's
    """Nothing is traced, so no library warns of what was lost on the way."""
    return []


def explain(error: Exception, root: Path) -> StageError:  # noqa: ARG001  # the protocol's
    """What an exception of the reference means."""
    if isinstance(error, StageError):
        return error
    text = " ".join(str(error).split())
    return StageError(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def export(task: Task) -> Exported:
    """The file's model, its external data left where it is. Raises StageError."""
    from onnxbuild.graphs import interface

    path = Path(task.inputs["model"])
    model = _read(path)
    asked = task.options["export"]
    found = interface.signature(model)
    _require("input", list(asked["inputs"]), [value["name"] for value in found["inputs"]], path.name)
    _require("output", asked["outputs"], [value["name"] for value in found["outputs"]], path.name)
    if task.options.get("symbolics"):
        raise StageError("symbolics has no meaning for an .onnx file", "take the section out")
    _require_inputs(found["inputs"], asked["inputs"], path.name)
    return Exported(model, path.parent, {"exporter": "none", "notes": []})


def reference(task: Task) -> Callable[[Arrays], Arrays]:
    """The file itself in onnxruntime, on the CPU, unoptimised."""
    import onnxruntime

    from onnxbuild.runtimes import onnxruntime as sessions

    path = Path(task.inputs["model"])
    _read(path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # onnxruntime's have no common class
        raise StageError(f"onnxruntime can't load {path.name}: {str(error).splitlines()[0]}") from None
    return sessions.caller(session, list(task.options["outputs"]))


def _read(path: Path) -> ModelProto:
    """The model without its external data, which must be plain files in the model's folder."""
    import onnx
    from google.protobuf.message import DecodeError

    from onnxbuild.graphs import modelfile, tensors

    try:
        model = modelfile.structure(path)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise StageError(f"{path.name} is not an ONNX model: {error}") from None
    if not model.graph.node or not model.opset_import:
        raise StageError(f"{path.name} is not an ONNX model: it has no nodes or no opset")
    for tensor in (*tensors.large_candidates(model), *tensors.other_tensors(model)):
        if tensors.is_external(tensor):
            try:
                _require_plain(tensor.name, tensors.location(tensor), path)
            except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
                raise StageError(f"{path.name}: the data of {tensor.name!r} can't be read: {error}") from None
    return model


def _require_plain(tensor: str, location: str, path: Path) -> None:
    """External data may lie only in the model's folder, in a real file: it is an input like the model itself."""
    folder = path.parent
    target = folder / location
    if len(location) > LONGEST:
        raise StageError(f"{path.name}: the data of {tensor!r} is at a path of {len(location):,} characters")
    what = f"{path.name}: the data of {tensor!r}, {location!r},"
    if not location or Path(location).is_absolute() or not target.resolve().is_relative_to(folder.resolve()):
        raise StageError(f"{what} lies outside the model's folder", "keep external data beside the model")
    parts = [folder.joinpath(*Path(location).parts[: i + 1]) for i in range(len(Path(location).parts))]
    if any(part.is_symlink() for part in parts):
        raise StageError(f"{what} is a symbolic link", "put a copy of the file there")
    if not target.is_file():
        raise StageError(f"{what} is not there")
    if target.stat().st_nlink > 1:
        raise StageError(f"{what} has another name too, as a hard link", "put a copy of the file there")
    with open(target, "rb"):
        pass  # makes it a discovered input of this stage: onnxruntime reads it where nobody sees


def _require(role: str, declared: list[str], found: list[str], file: str) -> None:
    wrong = [name for name in declared if name not in found]
    left = [name for name in found if name not in declared]
    if not wrong and not left:
        return
    import difflib

    near = [close[0] for name in wrong if (close := difflib.get_close_matches(name, left or found, 1))]
    facts = [f"has no {role} {', '.join(map(repr, wrong))}"] if wrong else []
    if left and not near:
        facts.append(f"has {role}s that the recipe does not declare: {', '.join(map(repr, left))}")
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"its {role}s are {', '.join(found) or 'none'}"
    raise StageError(f"{file} {'; it '.join(facts) or f'has other {role}s'}", hint)


def _require_inputs(found: list[dict[str, Any]], declared: Mapping[str, Mapping[str, object]], file: str) -> None:
    """Element types, ranks and fixed sizes must be those that the recipe declares."""
    for value in found:
        spec = declared[value["name"]]
        if value["dtype"] != spec["dtype"]:
            raise StageError(f"{file}: input '{value['name']}' is {value['dtype']}, the recipe says {spec['dtype']}")
        shape, own = spec["shape"], value["shape"]
        assert isinstance(shape, list)
        fits = own is None or (
            len(own) == len(shape) and all(not isinstance(a, int) or a == b for a, b in zip(own, shape, strict=True))
        )
        if not fits:
            raise StageError(f"{file}: input '{value['name']}' has the shape {own}, which {shape} does not fit")
