"""The `keras` source: a model of Keras 3, from a `.keras` file or from a factory, exported under one of its backends.

Keras fixes its backend as it is imported, so every child process has one: `torch`, where a model is a torch module and
goes the way of one, or `tensorflow`, where it is traced as a tf.function. A file saved under one builds under the other.
Keras's settings are its defaults: a keras.json in somebody's home folder has no say. Knows no cases and no tolerances.
Light to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Companion, Exported, Inspection, Interface, Json, Reference, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import installed, tf2onnx

VERSION = 2
DISTRIBUTIONS: tuple[str, ...] = ("keras", "numpy")
HASHED: dict[str, tuple[str, ...]] = {"": ("path", "package", "sha256")}
# dynamo's as torch.onnx has them: below, it silently gives another opset.
EXPORTERS: dict[str, tuple[int, int]] = {"dynamo": (18, 28), "tf2onnx": tf2onnx.OPSETS}
MEANINGLESS: tuple[tuple[str, ...], ...] = (("symbolics",),)
STRINGS = False
# What the libraries say of themselves, whatever the model: nothing that a recipe's author could act on.
NOISE = (
    r"torchvision is not installed\. Skipping|"
    r"The axis name: (\S+) will not be used, since it shares the same shape constraints with another axis: \1\.|"
    r"`isinstance\(treespec, LeafSpec\)` is deprecated|"
    r"__array__ implementation doesn't accept a copy keyword|"  # Keras's own way from torch to NumPy
    r"Model '.*' had a build config, but the model cannot be built automatically|"  # `loading.build` does
) + tf2onnx.NOISE
_EXPORTER = {"torch": "dynamo", "tensorflow": "tf2onnx"}


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A Keras 3 model: a .keras file, or what an importable callable returns."""

    path: Annotated[str, Meta(description="A .keras file. Relative to the project root, or to `package`.")] = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the file.")] = ""
    sha256: installed.Sha256 = ""
    custom_objects: Annotated[
        list[installed.Importable],
        Meta(description="Classes and functions in the file that are not Keras's own, as module:name."),
    ] = []
    factory: Annotated[
        installed.Importable, Meta(description="module:callable that returns a keras.Model, in place of a file.")
    ] = ""
    kwargs: Annotated[dict[str, Any], Meta(description="What the factory is called with.")] = {}
    seed: (
        Annotated[int, Meta(ge=0, description="For Python's, NumPy's and the backend's generators before the factory.")]
        | UnsetType
    ) = UNSET
    backend: Annotated[
        Literal["torch", "tensorflow"],
        Meta(
            description="What Keras runs on. torch needs no TensorFlow; tensorflow keeps recurrent layers as ONNX's own, of "
            "any length. jax is left out: its exporter needs the package onnxruntime, which onnxruntime-gpu excludes."
        ),
    ] = "torch"


def files(options: Options) -> Mapping[str, str]:
    """The .keras file, where there is one."""
    return {"model": installed.declared(options.path, options.package)} if options.path else {}


def companions(files: Mapping[str, Path]) -> Mapping[str, Companion]:  # noqa: ARG001  # the protocol's
    """A .keras file holds all."""
    return {}


def preload(options: Options) -> str:
    """The template process that has the backend imported. With TensorFlow comes Keras, on that backend."""
    return str(options.backend)


def exporters(options: Options) -> Mapping[str, tuple[int, int]]:
    """The one of the backend."""
    name = _EXPORTER[options.backend]
    return {name: EXPORTERS[name]}


def requires(options: Options) -> Mapping[str, str]:
    """Keras, and TensorFlow with its converter for that backend."""
    more = {"tensorflow": "tensorflow", "tf2onnx": "tensorflow"} if options.backend == "tensorflow" else {}
    return {"keras": "keras", **more}


def wrong(options: Options) -> Iterable[tuple[str, str, str]]:
    """A file or a factory, and what belongs to it."""
    if bool(options.path) == bool(options.factory):
        fact = "both a file and a factory" if options.path else "neither a file nor a factory"
        yield "", f"it names {fact}", "say path: for a .keras file, or factory: for a function that returns the model"
        return
    of_file = {"package": options.package, "sha256": options.sha256, "custom_objects": options.custom_objects}
    of_factory = {"kwargs": options.kwargs, "seed": options.seed is not UNSET}
    for name, given in (of_factory if options.path else of_file).items():
        if given:
            other = "factory" if options.path else "path"
            yield name, f"'{name}' belongs to '{other}', which is not there", "remove it"


def unfit(options: Options, files: Mapping[str, Path]) -> Iterable[tuple[str, str, str]]:
    """What the file's own description tells: that it is another format, or holds what is not loaded."""
    if "model" in files:
        from onnxbuild.sources.keras import archives

        yield from archives.unfit(files["model"], options.custom_objects)


def distributions(stage: str, exporter: str) -> Sequence[str]:
    """What the backend is, and what its exporter is written in."""
    if exporter == "dynamo":
        return ("torch", "onnxscript", "onnx-ir") if stage == "export" else ("torch",)
    if exporter == "tf2onnx":
        return tf2onnx.DISTRIBUTIONS if stage == "export" else ("tensorflow",)
    return ()


def remarks(heard: Iterable[str]) -> list[str]:
    """What the tracer's warnings mean for a reader of the report."""
    from onnxbuild.sources.pytorch import tracing

    return tracing.fixed(heard)


def explain(error: Exception, root: Path) -> StageError:
    """What an exception of the model's own code means."""
    from onnxbuild.sources import failures

    return failures.explain(error, "", root)


def recognised(path: Path, name: str) -> dict[str, Json] | None:
    """A file that is named .keras; `name` is how the recipe is to call it."""
    return {"path": name} if path.suffix == ".keras" else None


def inspect(task: Task) -> Inspection:
    """What a functional or sequential model says of itself. Raises StageError for any other."""
    return Inspection(describe(task), looked=["the inputs and outputs are those that the model declares"])


def describe(task: Task) -> Interface:
    """What a functional or sequential model says of itself. Raises StageError for any other."""
    from onnxbuild.sources.keras import calling, loading

    return calling.interface(loading.load(task))


def export(task: Task) -> Exported:
    """Export under the backend that the recipe names. Raises StageError."""
    from onnxbuild.sources.keras import loading

    model = loading.load(task)
    exported: Exported = _backend(task).export(model, task)
    return exported


def reference(task: Task) -> Reference:
    """The model itself, under the same backend, for inference."""
    from onnxbuild.sources.keras import loading

    model = loading.load(task)
    made: Reference = _backend(task).reference(model, task)
    return made


def output_shapes(task: Task) -> Mapping[str, Sequence[int | str | None] | None]:
    """The shapes that a functional or sequential model declares of its outputs."""
    from onnxbuild.sources.keras import calling, loading

    return calling.output_shapes(loading.load(task), list(task.options["outputs"]))


def _backend(task: Task) -> Any:
    """The module of the backend that the recipe names; Keras runs on it already."""
    (options,) = task.options["source"].values()
    if options["backend"] == "torch":
        from onnxbuild.sources.keras import on_torch

        return on_torch
    from onnxbuild.sources.keras import on_tensorflow

    return on_tensorflow
