"""The `onnx` source: an existing .onnx file. Light to import.

"Reference" means that file's own outputs in onnxruntime on the CPU, with graph optimisation off: the file as it is
written, not as a runtime rewrites it, so that a fault of an optimisation shows as a difference instead of being on both
sides.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from onnxbuild.contracts import Companion, Exported, Inspection, Interface, Json, Reference, Task, Value
from onnxbuild.errors import StageError
from onnxbuild.sources import installed
from onnxbuild.system import observed
from onnxbuild.system.files import kind_of

if TYPE_CHECKING:
    from onnx import ModelProto

VERSION = 4
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "numpy")
HASHED: dict[str, tuple[str, ...]] = {"": ("path", "package", "sha256")}
EXPORTERS: dict[str, tuple[int, int]] = {}  # the file is taken as it is
MEANINGLESS: tuple[tuple[str, ...], ...] = (("export", "exporter"), ("export", "arguments"), ("symbolics",))
STRINGS = True
NOISE = ""
MOST = (1 << 31) - 1  # bytes of a protobuf message
LONGEST = 1024  # characters of a path beside a model; looking at each of its folders takes a while


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """An existing .onnx file."""

    path: Annotated[str, Meta(min_length=1, description="The .onnx file. Relative to the project root, or `package`.")]
    sha256: installed.Sha256 = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the file.")] = ""


def files(options: Options) -> Mapping[str, str]:
    """The model file, by its role."""
    return {"model": installed.declared(options.path, options.package)}


def companions(files: Mapping[str, Path]) -> Mapping[str, Companion]:
    """The files that hold the model's external data: two models may be equal byte for byte but for those."""
    from onnxbuild.graphs import external

    path = files["model"]
    with contextlib.suppress(OSError):  # a model that can't be read is told of where it is hashed
        return {
            f"external data {location!a}": Companion(path.parent / location, _refused(location, path)[0])
            for location in external.locations(path)
        }
    return {}


def preload(options: Options) -> str:  # noqa: ARG001  # the protocol's
    """The template process that has onnx and onnxruntime imported."""
    return "onnx"


def exporters(options: Options) -> Mapping[str, tuple[int, int]]:  # noqa: ARG001  # ditto
    """None."""
    return EXPORTERS


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """Nothing beyond what onnxbuild itself is installed with."""
    return {}


def wrong(options: Options) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Each option stands for itself."""
    return ()


def unfit(options: Options, files: Mapping[str, Path]) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Files are looked at where they are read."""
    return ()


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


def recognised(path: Path, name: str) -> dict[str, Json] | None:
    """A file that is named .onnx; `name` is how the recipe is to call it."""
    return {"path": name} if path.suffix == ".onnx" else None


def inspect(task: Task) -> Inspection:
    """The file says it all. Raises StageError."""
    return Inspection(describe(task), looked=["the inputs, outputs and opset are those of the file"])


def describe(task: Task) -> Interface:
    """What the file says of itself. Raises StageError."""
    from onnxbuild.graphs import interface
    from onnxbuild.sources import declared

    model = _read(Path(task.inputs["model"]))
    found = interface.signature(model)
    left = declared.left_out(model)
    inputs, outputs = (
        [Value(**value) for value in found[role] if value["name"] not in left] for role in ("inputs", "outputs")
    )
    return Interface(inputs, outputs, interface.opset(model) or 0)


def export(task: Task) -> Exported:
    """The file's model as its author wrote it, its external data left where it is. Raises StageError."""
    from onnxbuild.sources import declared

    path = Path(task.inputs["model"])
    model = _read(path)
    asked = task.options["export"]
    notes = declared.require(model, path.name, asked["inputs"], asked["outputs"])
    for output in [value for value in model.graph.output if value.name not in asked["outputs"]]:
        model.graph.output.remove(output)
    if _spell_default_domain(model):
        notes.append("nodes that name the default domain 'ai.onnx' name none now: onnx.checker reads it only so")
    return Exported(model, path.parent, {"exporter": "none", "notes": notes}, authored=True)


def _spell_default_domain(model: ModelProto) -> bool:
    """Let nodes say "" for the default domain, which onnx's checker does not know as "ai.onnx"; whether any did not."""
    from onnxbuild.graphs import tensors

    spelled = [node for body in tensors.bodies(model) for node in body.node if node.domain == "ai.onnx"]
    for node in spelled:
        node.domain = ""
    return bool(spelled)


def reference(task: Task) -> Reference:
    """The file itself in onnxruntime, on the CPU, unoptimised.

    Raises NotRunError where onnxruntime lacks operators that the recipe allows to be lacking, StageError for any other
    reason.
    """
    from onnxbuild.runtimes import onnxruntime as sessions
    from onnxbuild.runtimes import unsupported
    from onnxbuild.sources import declared

    path = Path(task.inputs["model"])
    declared.require(_read(path), path.name, task.options["inputs"], task.options["outputs"])
    try:
        session = sessions.on_cpu(path, "disable_all")
    except Exception as error:  # noqa: BLE001  # onnxruntime's have no common class
        said = sessions.first_line(error)
        if reason := unsupported.reason(path, said, task.options.get("allow_not_run", [])):
            raise unsupported.NotRunError(reason) from None
        raise StageError(f"onnxruntime can't load {path.name}: {said}") from None
    return Reference(sessions.caller(session, list(task.options["outputs"])))


def output_shapes(task: Task) -> dict[str, list[int | str | None] | None]:
    """The shapes that the file gives its outputs."""
    from onnxbuild.graphs import interface

    return {
        value["name"]: value["shape"] for value in interface.signature(_read(Path(task.inputs["model"])))["outputs"]
    }


def _read(path: Path) -> ModelProto:
    """The model without its external data, which must be plain files in the model's folder."""
    import onnx
    from google.protobuf.message import DecodeError

    from onnxbuild.graphs import modelfile, tensors

    if (size := path.stat().st_size) > MOST:
        hint = "save its weights beside it, as external data"
        raise StageError(f"{path.name} has {size:,} bytes, and no protobuf message has more than {MOST:,}", hint)
    try:
        model = modelfile.structure(path)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise StageError(f"{path.name} is not an ONNX model: {error}") from None
    if not model.graph.output or not model.opset_import:
        raise StageError(f"{path.name} is not an ONNX model: it has no outputs or no opset")
    for tensor in (*tensors.large_candidates(model), *tensors.other_tensors(model)):
        if tensors.is_external(tensor):
            try:
                location = tensors.location(tensor)
            except ValueError as error:
                raise StageError(f"{path.name}: the data of {tensor.name!r} can't be read: {error}") from None
            if (refused := _refused(location, path))[0]:
                name = f", {location!r}," if len(location) <= LONGEST else ""
                raise StageError(f"{path.name}: the data of {tensor.name!r}{name} {refused[0]}", refused[1])
    return model


def _refused(location: str, path: Path) -> tuple[str, str]:
    """Why a file of external data is not read, and the remedy: it must be a real file in the model's folder."""
    if len(location) > LONGEST:
        return f"is at a path of {len(location):,} characters", ""
    try:
        return next((wrong for holds, wrong in _refusals(location, path.parent) if holds), ("", ""))
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        return f"can't be read: {error}", ""


def _refusals(location: str, folder: Path) -> Iterator[tuple[bool, tuple[str, str]]]:
    target = folder / location
    outside = not location or Path(location).is_absolute() or not target.resolve().is_relative_to(folder.resolve())
    yield outside, ("lies outside the model's folder", "keep external data beside the model")
    parts = [folder.joinpath(*Path(location).parts[: i + 1]) for i in range(len(Path(location).parts))]
    copy = "put a copy of the file there"
    for part in parts:
        with contextlib.suppress(OSError):
            observed.readlink(part)
    yield any(part.is_symlink() for part in parts), ("is a symbolic link", copy)
    yield not target.exists(), ("is not there", "")
    kind = kind_of(target.stat().st_mode)
    yield bool(kind), (f"is {kind}, not a file", "put a regular file there")
    yield target.stat().st_nlink > 1, ("has another name too, as a hard link", copy)
    yield not os.access(target, os.R_OK), ("may not be read", "give yourself the right to read it")
