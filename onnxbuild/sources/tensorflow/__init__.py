"""The `tensorflow` source: a SavedModel, or a function from an importable factory, converted by tf2onnx.

Here are the options and what ties the parts together; the modules beside it read SavedModels, call functions and hold a
model against a recipe, and are imported only where one of its stages runs. Light to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Arrays, Companion, Exported, Inspection, Interface, Json, Reference, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import installed, tf2onnx
from onnxbuild.system import observed

if TYPE_CHECKING:
    from onnxbuild.sources.tensorflow.model import Model

VERSION = 2
DISTRIBUTIONS: tuple[str, ...] = ("tensorflow", "numpy")
HASHED: dict[str, tuple[str, ...]] = {"": ("path", "package")}
EXPORTERS: dict[str, tuple[int, int]] = {"tf2onnx": tf2onnx.OPSETS}
MEANINGLESS: tuple[tuple[str, ...], ...] = (("export", "arguments"), ("symbolics",))
STRINGS = True
NOISE = tf2onnx.NOISE
SAVED_MODEL = "saved_model.pb"
# What lies beside it, as TensorFlow writes it: https://www.tensorflow.org/guide/saved_model
_FOLDERS = ("assets", "assets.extra", "variables")
_FILES = ("fingerprint.pb", "keras_metadata.pb")
_OF_PATH = ("signature", "tags", "package")
_OF_FACTORY = ("kwargs", "seed")

Names = Annotated[
    list[str], Meta(description="Whose channels are last in TensorFlow and second in the graph; tf2onnx's.")
]


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A SavedModel (`path`), or what an importable callable makes (`factory`)."""

    path: Annotated[str, Meta(description="A SavedModel's folder. Relative to the project root, or to `package`.")] = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the folder.")] = ""
    signature: Annotated[str, Meta(min_length=1, description="The SavedModel's signature.")] = "serving_default"
    tags: Annotated[list[str], Meta(description="The tags of the graph in the SavedModel.")] = msgspec.field(
        default_factory=lambda: ["serve"]
    )
    factory: (
        Annotated[
            installed.Importable,
            Meta(description="module:callable that gives a tf.Module, a tf.function or a concrete function."),
        ]
        | UnsetType
    ) = UNSET
    kwargs: Annotated[dict[str, Any], Meta(description="What the factory is called with.")] = {}
    seed: Annotated[int, Meta(ge=0, description="tf.random.set_seed before the factory is called.")] = 0
    inputs_as_nchw: Names = []
    outputs_as_nchw: Names = []


def files(options: Options) -> Mapping[str, str]:
    """The file that a SavedModel's folder is known by."""
    if not options.path:
        return {}
    return {"model": installed.declared(str(Path(options.path, SAVED_MODEL)), options.package)}


def companions(files: Mapping[str, Path]) -> Mapping[str, Companion]:
    """What else a SavedModel's folder holds, by the place in it: TensorFlow's own code reads it, unseen."""
    if "model" not in files:
        return {}
    folder = files["model"].parent
    try:
        beside = {*observed.listdir(folder)}
    except OSError:  # a folder that can't be read is told of where it is hashed
        return {}
    names = [name for name in _FILES if name in beside]
    names += [f"{name}/{inner}" for name in _FOLDERS if name in beside for inner in _inside(folder / name)]
    return {name: Companion(folder / name) for name in names}


def _inside(folder: Path) -> Iterator[str]:
    """The files in a folder and those below it, by their place in it."""
    try:
        names = sorted(observed.listdir(folder))
    except OSError:  # hashing says what is wrong with it
        return
    for name in names:
        if observed.kind(folder / name) == "folder":
            yield from (f"{name}/{inner}" for inner in _inside(folder / name))
        else:
            yield name


def preload(options: Options) -> str:  # noqa: ARG001  # the protocol's
    """The template process that has TensorFlow imported."""
    return "tensorflow"


def exporters(options: Options) -> Mapping[str, tuple[int, int]]:  # noqa: ARG001  # ditto
    """tf2onnx alone."""
    return EXPORTERS


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """TensorFlow and its converter."""
    return {"tensorflow": "tensorflow", "tf2onnx": "tensorflow"}


def unfit(options: Options, files: Mapping[str, Path]) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # the protocol's
    """Files are looked at where they are read."""
    return ()


def wrong(options: Options) -> Iterable[tuple[str, str, str]]:
    """What is said of both kinds of model at once, or of neither."""
    if bool(options.path) == bool(options.factory):
        fact = f"it has {'both' if options.path else 'neither'} 'path' {'and' if options.path else 'nor'} 'factory'"
        yield "", fact, "give the path of a SavedModel, or a factory that makes the model"
        return
    given = {name: getattr(options, name) for name in (_OF_FACTORY if options.path else _OF_PATH)}
    default = Options()
    for name in [name for name, value in given.items() if value != getattr(default, name)]:
        kind = "a factory" if options.path else "a SavedModel"
        yield (
            name,
            f"'{name}' is for {kind}",
            f"this model is {'a SavedModel' if options.path else 'made by a factory'}",
        )


def distributions(stage: str, exporter: str) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """The exporter is tf2onnx."""
    return ("tf2onnx",) if stage == "export" else ()


def remarks(heard: Iterable[str]) -> list[str]:  # noqa: ARG001  # the protocol's
    """Neither library warns of a loss on the way: what tf2onnx can't convert it refuses."""
    return []


def explain(error: Exception, root: Path) -> StageError:
    """What an exception of the model's own code means."""
    from onnxbuild.sources import failures

    return failures.explain(error, "", root)


def recognised(path: Path, name: str) -> dict[str, Json] | None:
    """A SavedModel's folder, or the file in it that it is known by; `name` is how the recipe is to call it."""
    if path.name == SAVED_MODEL:
        return {"path": str(Path(name).parent)}
    return {"path": name} if (path / SAVED_MODEL).is_file() else None


def inspect(task: Task) -> Inspection:
    """What the signature says. Raises StageError where there is none."""
    return Inspection(describe(task), looked=["the inputs and outputs are those of the model's signature"])


def describe(task: Task) -> Interface:
    """What the SavedModel's signature says, or the function's own. Raises StageError."""
    from onnxbuild.sources.tensorflow import layouts

    options = _options(task)
    model = _model(task, options)
    return layouts.in_graph(model.interface(), options.inputs_as_nchw, options.outputs_as_nchw)


def export(task: Task) -> Exported:
    """The model as tf2onnx converts it. Raises StageError."""
    from onnxbuild.sources import failures
    from onnxbuild.sources.tensorflow import layouts

    options, asked = _options(task), task.options["export"]
    model = _model(task, options)
    specs = layouts.specs(model, asked, options.inputs_as_nchw, options.outputs_as_nchw)
    try:
        proto = model.convert(specs, asked["outputs"], asked["opset"], options.inputs_as_nchw, options.outputs_as_nchw)
    except StageError:
        raise
    except Exception as error:
        raise failures.explain(error, "tf2onnx failed", Path(task.root)) from error
    notes = [*model.notes, *tf2onnx.name_axes(proto, asked)]
    return Exported(proto, None, {"exporter": "tf2onnx", "notes": list(dict.fromkeys(notes))})


def reference(task: Task) -> Reference:
    """TensorFlow's own result, on one thread. Its errors are the caller's to explain."""
    from onnxbuild.sources.tensorflow import layouts

    options, outputs = _options(task), list(task.options["outputs"])
    model = _model(task, options)
    layouts.specs(model, task.options, options.inputs_as_nchw, options.outputs_as_nchw)

    def run(arrays: Arrays) -> Arrays:
        given = layouts.channels_last(arrays, options.inputs_as_nchw)
        return layouts.channels_second(model.run(given, outputs), options.outputs_as_nchw)

    return Reference(run, model.changed)


def output_shapes(task: Task) -> dict[str, list[int | str | None] | None]:
    """The shapes that the model gives its outputs; none where it says nothing before it runs."""
    from onnxbuild.sources.tensorflow import layouts

    options = _options(task)
    try:
        interface = _model(task, options).interface()
    except StageError:
        return {}
    found = layouts.in_graph(interface, options.inputs_as_nchw, options.outputs_as_nchw)
    return {value.name: value.shape for value in found.outputs}


def _options(task: Task) -> Options:
    return msgspec.convert(task.options["source"]["tensorflow"], Options)


def _model(task: Task, options: Options) -> Model:
    """The model that the options name, ready to be called. Raises StageError."""
    from onnxbuild.sources.tensorflow import functions, saved_models

    tf2onnx.tensorflow()
    if "model" in task.inputs:
        return saved_models.load(Path(task.inputs["model"]).parent, options.tags, options.signature)
    tf2onnx.seed(options.seed)
    return functions.build(task.options["source"]["tensorflow"], Path(task.root))
