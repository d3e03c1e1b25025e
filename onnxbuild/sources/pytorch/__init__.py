"""The `pytorch` source: an nn.Module or a program of torch.export, from a factory or an archive, by torch.onnx.export.

Here are the options and what ties the parts together; the modules beside it load a model, call it and export it, and are
imported only where one of its stages runs. Knows no cases and no tolerances. Light to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Companion, Exported, Inspection, Interface, Reference, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import installed

if TYPE_CHECKING:
    from onnxbuild.sources.pytorch.adapter import Adapter

VERSION = 4
DISTRIBUTIONS: tuple[str, ...] = ("torch", "numpy")
_FILE = ("path", "package", "sha256")
HASHED: dict[str, tuple[str, ...]] = {"": _FILE, "checkpoint": _FILE}
# torch 2.13: below its minimum the dynamo exporter silently gives another opset; onnx 1.23 defines opsets up to 28.
# torchscript: torch.onnx._constants.ONNX_MIN_OPSET and ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET.
EXPORTERS: dict[str, tuple[int, int]] = {"dynamo": (18, 28), "torchscript": (7, 20)}
MEANINGLESS: tuple[tuple[str, ...], ...] = ()
STRINGS = False  # a tensor of torch holds numbers
# What a library says of itself, whatever the model: nothing that a recipe's author could act on.
NOISE = (
    r"torchvision is not installed\. Skipping|"  # the exporter's table of operators
    r"The axis name: (\S+) will not be used, since it shares the same shape constraints with another axis: \1\.|"
    r"You are using the legacy TorchScript-based ONNX export"  # the recipe asks for it
)


class Checkpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights for the model: safetensors, a TorchScript archive, or what torch.load reads with weights_only=True."""

    path: Annotated[str, Meta(min_length=1, description="Relative to the project root, or to `package`.")]
    sha256: installed.Sha256 = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the file.")] = ""
    key: Annotated[
        str, Meta(description="The entry of the file that holds the state dict, if it is not the file itself.")
    ] = ""
    prefix: Annotated[str, Meta(description="A prefix to take off the names in the file; others are left out.")] = ""
    strict: Annotated[bool, Meta(description="Every weight must be in the file and in the model.")] = True


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A torch.nn.Module or an ExportedProgram made by an importable callable, or a .pt2 archive; exactly one of them."""

    factory: (
        Annotated[installed.Importable, Meta(description="module:callable, resolved from the project root.")]
        | UnsetType
    ) = UNSET
    path: Annotated[
        str,
        Meta(description="A .pt2 archive of torch.export.save instead. Relative to the project root, or `package`."),
    ] = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the archive.")] = ""
    sha256: installed.Sha256 = ""
    kwargs: Annotated[dict[str, Any], Meta(description="What the factory is called with.")] = {}
    seed: Annotated[int, Meta(ge=0, description="torch.manual_seed before the factory is called.")] = 0
    checkpoint: Checkpoint | UnsetType = UNSET


def files(options: Options) -> Mapping[str, str]:
    """The paths of the archive and of the checkpoint, where there are any."""
    found = {"program": options, "checkpoint": options.checkpoint}
    return {
        role: installed.declared(one.path, one.package)
        for role, one in found.items()
        if not isinstance(one, UnsetType) and one.path
    }


def companions(files: Mapping[str, Path]) -> Mapping[str, Companion]:  # noqa: ARG001  # the protocol's
    """An archive and a checkpoint are one file each."""
    return {}


def preload(options: Options) -> str:  # noqa: ARG001  # the protocol's
    """The template process that has torch imported."""
    return "torch"


def exporters(options: Options) -> Mapping[str, tuple[int, int]]:  # noqa: ARG001  # ditto
    """Both of torch.onnx.export's."""
    return EXPORTERS


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """Nothing beyond what onnxbuild itself is installed with."""
    return {}


def wrong(options: Options) -> Iterable[tuple[str, str, str]]:
    """Not exactly one of a factory and an archive, and what belongs to the other of them."""
    if options.factory is UNSET and not options.path:
        yield "", "neither 'factory' nor 'path' is given", "give one: module:callable, or the path of a .pt2 archive"
    elif options.factory is not UNSET and options.path:
        yield "path", "a 'factory' is given too", "give one of them: an archive holds the whole model"
    elif options.factory is not UNSET:
        for name in ("package", "sha256"):
            if getattr(options, name):
                yield name, f"'{name}' is of an archive, and there is a factory", "a checkpoint has its own"
    else:
        for name, default in (("kwargs", {}), ("seed", 0), ("checkpoint", UNSET)):
            if getattr(options, name) != default:
                yield name, f"'{name}' means nothing for an archive", "an archive holds its weights; remove it"


def unfit(options: Options, files: Mapping[str, Path]) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Files are looked at where they are read."""
    return ()


def distributions(stage: str, exporter: str) -> Sequence[str]:
    """The dynamo exporter is written in onnxscript."""
    return ("onnxscript", "onnx-ir") if (stage, exporter) == ("export", "dynamo") else ()


def remarks(heard: Iterable[str]) -> list[str]:
    """What the tracer's warnings mean for a reader of the report."""
    from onnxbuild.sources.pytorch import tracing

    return tracing.fixed(heard)


def explain(error: Exception, root: Path) -> StageError:
    """What an exception of the model's own code means."""
    from onnxbuild.sources import failures

    return failures.explain(error, "", root)


def recognised(path: Path, name: str) -> dict[str, Any] | None:
    """A file that is named .pt2."""
    return {"path": name} if path.suffix == ".pt2" else None


def inspect(task: Task) -> Inspection:
    """What a run of the model tells. Raises StageError."""
    from onnxbuild.sources.pytorch import inspecting

    return inspecting.inspect(task)


def describe(task: Task) -> Interface:
    """What a program says of itself; a module says nothing. Raises StageError."""
    import torch

    from onnxbuild.sources.pytorch import loading, programs

    with torch.no_grad():
        program = loading.build(task.options["source"]["pytorch"], task.inputs, Path(task.root)).program
    if program is None:
        hint = "declare inputs and outputs under export, or let `onnxbuild init` find them out"
        raise StageError("a torch.nn.Module does not say what it takes and gives", hint)
    return programs.interface(program)


def export(task: Task) -> Exported:
    """Export by the exporter that the recipe names. Raises StageError."""
    from onnxbuild.sources.pytorch import modules, programs

    options = task.options["export"]
    model, notes, own = _adapter(task, options["inputs"], options.get("arguments"))
    if own is not None:
        programs.require(own, model, programs.asked_by_recipe(options))
    return modules.export(model, notes, task)


def program(task: Task) -> Any:
    """The model as a torch.export.ExportedProgram, for a target that is made from one. Raises StageError."""
    from onnxbuild.sources.pytorch import modules, programs

    options = task.options["export"]
    model, _, own = _adapter(task, options["inputs"], options.get("arguments"))
    if own is not None:
        programs.require(own, model, programs.asked_by_recipe(options))
    return modules.program(model, task)


def reference(task: Task) -> Reference:
    """The model itself, called through the adapter that is exported. Its errors are the caller's to explain."""
    from onnxbuild.sources.pytorch import modules, programs
    from onnxbuild.sources.pytorch.state import State

    model, _, program = _adapter(task, task.options["inputs"], task.options.get("arguments"))
    if program is not None:
        programs.require(program, model, programs.asked_by_cases(task.options["cases"]))
    return Reference(modules.caller(model), State(model.model).changed)


def output_shapes(task: Task) -> dict[str, None]:  # noqa: ARG001  # the protocol's
    """A module says nothing of its outputs' shapes before it runs."""
    return {}


def _adapter(task: Task, inputs: Mapping[str, Any], arguments: Any) -> tuple[Adapter, list[str], Any]:
    """The adapted model, notes on how it was loaded, and the program that it is the module of, None for any other."""
    import torch

    from onnxbuild.sources.pytorch import loading
    from onnxbuild.sources.pytorch.adapter import Adapter

    outputs = task.options["outputs"] if "outputs" in task.options else task.options["export"]["outputs"]
    with torch.no_grad():
        model, notes, program = loading.build(task.options["source"]["pytorch"], task.inputs, Path(task.root))
    return Adapter(model, list(inputs), outputs, arguments, notes.append), notes, program
