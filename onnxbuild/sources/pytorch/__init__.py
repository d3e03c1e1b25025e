"""The `pytorch` source: an nn.Module from an importable factory, exported by torch.onnx.export.

Here are the options and what ties the parts together; the modules beside it load a model, call it and export it, and are
imported only where one of its stages runs. Knows no cases and no tolerances. Light to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Arrays, Companion, Exported, Inspection, Interface, Reference, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import installed

if TYPE_CHECKING:
    from onnxbuild.sources.pytorch.adapter import Adapter

VERSION = 3
DISTRIBUTIONS: tuple[str, ...] = ("torch", "numpy")
HASHED: dict[str, tuple[str, ...]] = {"checkpoint": ("path", "package", "sha256")}
# torch 2.13: below its minimum the dynamo exporter silently gives another opset; onnx 1.23 defines opsets up to 28.
# torchscript: torch.onnx._constants.ONNX_MIN_OPSET and ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET.
EXPORTERS: dict[str, tuple[int, int]] = {"dynamo": (18, 28), "torchscript": (7, 20)}
MEANINGLESS: tuple[tuple[str, ...], ...] = ()
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
    """A torch.nn.Module made by an importable callable."""

    factory: Annotated[installed.Importable, Meta(description="module:callable, resolved from the project root.")]
    kwargs: Annotated[dict[str, Any], Meta(description="What the factory is called with.")] = {}
    seed: Annotated[int, Meta(ge=0, description="torch.manual_seed before the factory is called.")] = 0
    checkpoint: Checkpoint | UnsetType = UNSET


def files(options: Options) -> Mapping[str, str]:
    """The checkpoint's path, if there is one; inside an installed package it is found without importing that."""
    checkpoint = options.checkpoint
    return {} if checkpoint is UNSET else {"checkpoint": installed.declared(checkpoint.path, checkpoint.package)}


def companions(files: Mapping[str, Path]) -> Mapping[str, Companion]:  # noqa: ARG001  # the protocol's
    """A checkpoint is one file."""
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


def wrong(options: Options) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Each option stands for itself."""
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


def recognised(path: Path, name: str) -> dict[str, Any] | None:  # noqa: ARG001  # the protocol's
    """No file is a module by itself."""
    return None


def inspect(task: Task) -> Inspection:
    """What a run of the model tells. Raises StageError."""
    return Inspection(describe(task))


def describe(task: Task) -> Interface:  # noqa: ARG001  # the protocol's
    """A module says nothing of itself. Raises StageError."""
    hint = "declare inputs and outputs under export"
    raise StageError("a torch.nn.Module does not say what it takes and gives", hint)


def export(task: Task) -> Exported:
    """Export by the exporter that the recipe names. Raises StageError."""
    import torch

    from onnxbuild.parity import samples
    from onnxbuild.sources import failures
    from onnxbuild.sources.pytorch import dynamo, naming, numbers, places, symbolics, torchscript

    root = Path(task.root)
    options = task.options["export"]
    model, notes = _adapter(task, options["inputs"], options.get("arguments"))
    arrays = samples.make(options["inputs"], _example_case(options), 0, root)
    example = tuple(numbers.to_torch(arrays[name]) for name in options["inputs"])
    narrowed: dict[str, dict[str, int]] = {}
    customs = symbolics.resolve(task.options.get("symbolics", {}), options["opset"], root)
    folder = Path(task.objects)
    with places.watched(options["exporter"], root) as seen, torch.no_grad():
        try:
            if options["exporter"] == "dynamo":
                proto, more, narrowed = dynamo.export(model, example, options, customs.for_dynamo(), folder)
                notes += more
            else:
                customs.register_for_torchscript()
                proto, folder = torchscript.export(model, example, options, customs.opsets, Path(task.scratch))
        except Exception as error:
            what, inputs = f"the {options['exporter']} exporter failed", list(options["inputs"])
            raise failures.explain(error, what, root, inputs, seen.sizes, seen.operator) from error
    customs.require_used()
    naming.strip_prefix(proto)
    related = {name: dim for name, dim in options.get("dims", {}).items() if isinstance(dim, str)}
    notes += naming.name_axes(proto, options.get("dynamic_axes", {}), related)
    facts = {"exporter": options["exporter"], "notes": list(dict.fromkeys(notes)), "narrowed": narrowed}
    return Exported(proto, folder, facts)


def reference(task: Task) -> Reference:
    """The model itself, called through the adapter that is exported. Its errors are the caller's to explain."""
    import torch

    from onnxbuild.sources.pytorch import numbers
    from onnxbuild.sources.pytorch.state import State

    model, _ = _adapter(task, task.options["inputs"], task.options.get("arguments"))
    state = State(model.model)

    def run(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            results = model(*(numbers.to_torch(arrays[name]) for name in model.names))
        return {name: numbers.to_numpy(tensor) for name, tensor in zip(model.outputs, results, strict=True)}

    return Reference(run, state.changed)


def output_shapes(task: Task) -> dict[str, None]:  # noqa: ARG001  # the protocol's
    """A module says nothing of its outputs' shapes before it runs."""
    return {}


def _example_case(options: Mapping[str, Any]) -> dict[str, Any]:
    """The case at which the exporter sees the model: the shapes that the recipe's inputs state."""
    axes = options.get("dynamic_axes", {})
    return {
        "name": "example",
        "data": {},
        "shapes": {name: spec["shape"] for name, spec in options["inputs"].items()},
        "dynamic": {name: [int(axis) for axis in axes[name]] for name in options["inputs"] if name in axes},
    }


def _adapter(task: Task, inputs: Mapping[str, Any], arguments: Any) -> tuple[Adapter, list[str]]:
    """The adapted model and notes on how it was loaded."""
    import torch

    from onnxbuild.sources.pytorch import loading
    from onnxbuild.sources.pytorch.adapter import Adapter

    outputs = task.options["outputs"] if "outputs" in task.options else task.options["export"]["outputs"]
    checkpoint = task.inputs.get("checkpoint")
    with torch.no_grad():
        model, notes = loading.build(
            task.options["source"]["pytorch"], Path(checkpoint) if checkpoint else None, Path(task.root)
        )
    return Adapter(model, list(inputs), outputs, arguments, notes.append), notes
