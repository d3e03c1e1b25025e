"""The `sklearn` source: a fitted scikit-learn estimator or pipeline, by skl2onnx; LightGBM and XGBoost, by onnxmltools.

Here are the options and what ties the parts together; the modules beside it load a model, look through it, feed it and
convert it, and are imported only where one of its stages runs. Knows no cases and no tolerances. Light to import.

Labels have to be equal, scores within tolerance. Thresholds of trees become float32. The converters round those of
scikit-learn's own trees and forests so that every float32 takes the branch that it takes there, and XGBoost's are float32
anyway; those of HistGradientBoosting and LightGBM go to the nearest float32, so that a value just there may take the other
branch. Measured on 178 wines with values put a rounding step from each threshold: 0 of 591 (forest), 0 of 1179 (gradient
boosting), 0 of 606 (XGBoost) rows were off, 108 of 1122 (HistGradientBoosting), 118 of 1200 (LightGBM).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Arrays, Companion, Exported, Inspection, Interface, Json, Reference, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import installed
from onnxbuild.system.files import opened

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("scikit-learn", "numpy")
HASHED: dict[str, tuple[str, ...]] = {"": ("path", "package", "sha256")}
# skl2onnx 1.20: __max_supported_opset__; below 9 its converters have no string tensors. onnxmltools 1.16: its own maximum.
SKL2ONNX = {"skl2onnx": (9, 22)}
ONNXMLTOOLS = {"onnxmltools": (9, 15)}
EXPORTERS: dict[str, tuple[int, int]] = SKL2ONNX | ONNXMLTOOLS
MEANINGLESS: tuple[tuple[str, ...], ...] = (("export", "arguments"), ("symbolics",))
STRINGS = True
# scikit-learn speaks of its own deprecations through a category of Python's, which are left out anyway.
NOISE = ""

# How the libraries' own files begin; other files have these names, too.
BEGINNINGS = {".json": (b'{"learner"', b'{"version"'), ".ubj": (b"{L",), ".txt": (b"tree\n", b"tree\r\n")}
MOST = 64  # bytes that are looked at
SKOPS, XGBOOST, LIGHTGBM, PICKLES = (".skops",), (".json", ".ubj"), (".txt",), (".pkl", ".pickle", ".joblib")
# Options of skl2onnx that add outputs which scikit-learn has no result for.
WITHOUT_REFERENCE = ("decision_path", "decision_leaf", "output_class_labels")


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted scikit-learn estimator or pipeline, or a gradient-boosted model of LightGBM or XGBoost."""

    path: Annotated[
        str,
        Meta(
            description="The model's file: .skops (scikit-learn), .json or .ubj (XGBoost), .txt (LightGBM). Relative to "
            "the project root, or to `package`."
        ),
    ] = ""
    package: Annotated[str, Meta(description="An installed Python package that ships the file.")] = ""
    sha256: installed.Sha256 = ""
    factory: (
        Annotated[installed.Importable, Meta(description="module:callable, resolved from the project root.")]
        | UnsetType
    ) = UNSET
    kwargs: Annotated[dict[str, Any], Meta(description="What the factory is called with.")] = {}
    seed: Annotated[
        int, Meta(ge=0, description="Of Python's and NumPy's generators, before the factory is called.")
    ] = 0
    trusted: Annotated[
        list[str], Meta(description="Types that the .skops file may hold beside scikit-learn's, as in skops.io.load.")
    ] = []
    zipmap: (
        Annotated[
            Literal["columns"],
            Meta(description="skl2onnx's option: an output for each class; left out, the scores are one matrix."),
        ]
        | UnsetType
    ) = UNSET
    options: Annotated[
        dict[str, Any],
        Meta(
            description="skl2onnx's options of the last estimator (raw_scores, nocl, ...), or by the name of a step or "
            "class."
        ),
    ] = {}
    target_opset: Annotated[
        dict[Literal["ai.onnx.ml"], Annotated[int, Meta(ge=1, le=5)]],
        Meta(description="skl2onnx's: the highest version of ai.onnx.ml that may be used."),
    ] = {}
    white_op: Annotated[list[str], Meta(description="skl2onnx's: the only ONNX operators that may be used.")] = []
    black_op: Annotated[list[str], Meta(description="skl2onnx's: ONNX operators that may not be used.")] = []


def files(options: Options) -> Mapping[str, str]:
    """The model's file, by its role."""
    return {"model": installed.declared(options.path, options.package)} if options.path else {}


def companions(files: Mapping[str, Path]) -> Mapping[str, Companion]:  # noqa: ARG001  # the protocol's
    """A model is one file."""
    return {}


def preload(options: Options) -> str:  # noqa: ARG001  # ditto
    """The template process that has scikit-learn and its converter imported."""
    return "sklearn"


def exporters(options: Options) -> Mapping[str, tuple[int, int]]:
    """The one that reads what the file holds; both for a factory."""
    if _kind(options) in (*XGBOOST, *LIGHTGBM):
        return ONNXMLTOOLS
    return SKL2ONNX if options.path else EXPORTERS


def requires(options: Options) -> Mapping[str, str]:
    """The converter, and what reads the file."""
    kind = _kind(options)
    if kind in (*XGBOOST, *LIGHTGBM):
        library = "lightgbm" if kind in LIGHTGBM else "xgboost"
        return dict.fromkeys((library, "onnxmltools", "skl2onnx", "sklearn"), "boosters")
    return dict.fromkeys(("sklearn", "skl2onnx", *(["skops"] if kind in SKOPS else [])), "sklearn")


def unfit(options: Options, files: Mapping[str, Path]) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # the protocol's
    """Files are looked at where they are read."""
    return ()


def wrong(options: Options) -> Iterable[tuple[str, str, str]]:
    """What of the options doesn't go together, or can't be honoured."""
    if not options.path and options.factory is UNSET:
        yield (
            "",
            "it has neither 'path' nor 'factory'",
            "path is a fitted model's file, factory a function that gives one",
        )
    elif options.path and options.factory is not UNSET:
        yield "factory", "a model comes from a file or from a factory, and 'path' is given too", "remove one of them"
    yield from _file(options)
    for name in ("kwargs", "seed") if options.factory is UNSET and options.path else ():
        if getattr(options, name):
            yield name, f"'{name}' is for a factory", "remove it: a file holds the fitted model"
    if any("zipmap" in value for value in (options.options, *_mappings(options.options))):
        fact = "with zipmap the scores are a sequence of maps, and only tensors can be built"
        yield "options", fact, "zipmap: columns beside `options` gives an output for each class, nothing one matrix"
    for name in ("options", "target_opset", "white_op", "black_op", "zipmap"):
        if getattr(options, name) and _kind(options) in (*XGBOOST, *LIGHTGBM):
            yield name, f"'{name}' is skl2onnx's, and onnxmltools converts this file", "remove it"
    for name in WITHOUT_REFERENCE:
        if any(name in value for value in (options.options, *_mappings(options.options))):
            fact = f"the option '{name}' adds an output that scikit-learn has no result for to be held against"
            yield "options", fact, f"leave '{name}' out"


def _kind(options: Options) -> str:
    return PurePath(options.path).suffix.lower()


def _mappings(options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [value for value in options.values() if isinstance(value, dict)]


def _file(options: Options) -> Iterator[tuple[str, str, str]]:
    kind = _kind(options)
    if options.path and kind in PICKLES:
        yield (
            "path",
            f"'{options.path}' is a pickle, and reading one runs whatever code is in it",
            conversion(options.path),
        )
    elif options.path and kind not in (*SKOPS, *XGBOOST, *LIGHTGBM):
        hint = "name it .skops (scikit-learn), .json or .ubj (XGBoost) or .txt (LightGBM)"
        yield "path", f"the name '{options.path}' does not say what kind of model it is", hint
    if options.trusted and kind not in SKOPS:
        yield "trusted", "'trusted' is of .skops files", "remove it"
    for name in ("package", "sha256"):
        if getattr(options, name) and not options.path:
            yield name, f"'{name}' is of a file, and there is no 'path'", "add path, or remove it"


def conversion(path: str) -> str:
    """The command that makes a .skops file of a pickle, to be run where the pickle is trusted."""
    made = PurePath(path).with_suffix(".skops").as_posix()
    return (
        'if you trust it, convert it once: python -c "import joblib, skops.io; '
        f"skops.io.dump(joblib.load('{path}'), '{made}')\", and set path to '{made}'"
    )


def distributions(stage: str, exporter: str) -> Sequence[str]:
    """The converter is what the graph's bytes depend on; what it imports is discovered."""
    return (exporter, "onnx") if stage == "export" else ()


def remarks(heard: Iterable[str]) -> list[str]:  # noqa: ARG001  # the protocol's
    """Nothing is traced, so no library warns of what was lost on the way."""
    return []


def explain(error: Exception, root: Path) -> StageError:
    """What an exception of the model means."""
    from onnxbuild.sources.sklearn import failing

    return failing.explain(error, "", root)


def recognised(path: Path, name: str) -> dict[str, Json] | None:
    """A .skops file, and one of XGBoost or LightGBM that begins as theirs do; `name` is how the recipe is to call it."""
    kind = path.suffix.lower()
    if kind in SKOPS:
        return {"path": name}
    if kind not in BEGINNINGS or not path.is_file():
        return None
    with opened(path) as file:
        return {"path": name} if file.read(MOST).lstrip().startswith(BEGINNINGS[kind]) else None


def inspect(task: Task) -> Inspection:
    """What the fitted estimator says, and the values that its encoders and scalers saw. Raises StageError."""
    from onnxbuild.sources.sklearn import describing

    section, file, root = _given(task)
    return describing.inspection(section, file, root)


def describe(task: Task) -> Interface:
    """What the fitted estimator knows of its features and classes. Raises StageError."""
    from onnxbuild.sources.sklearn import describing

    section, file, root = _given(task)
    return describing.interface(section, file, root)


def export(task: Task) -> Exported:
    """Convert by the exporter that the recipe names. Raises StageError."""
    from onnxbuild.sources.sklearn import converting, failing, loading

    section, file, root = _given(task)
    asked = task.options["export"]
    model = loading.model(section, file, root)
    try:
        proto, notes = converting.convert(model, section, asked, root)
    except Exception as error:
        raise failing.explain(error, f"the {asked['exporter']} exporter failed", root) from error
    return Exported(proto, None, {"exporter": asked["exporter"], "notes": notes})


def reference(task: Task) -> Reference:
    """The estimator's own results, in the outputs' order. An estimator has no state, so nothing of it can change."""
    from onnxbuild.sources.sklearn import feeding, loading, results, settings

    section, file, root = _given(task)
    model = loading.model(section, file, root)
    feed = feeding.Feed(model, task.options["inputs"])
    chosen = settings.of_last(section, model)

    def run(arrays: Arrays) -> Arrays:
        made = results.computed(model, feed.data(arrays), chosen)
        return {name: made[own] for name, own in results.named(list(made), list(task.options["outputs"])).items()}

    return Reference(run)


def output_shapes(task: Task) -> dict[str, None]:  # noqa: ARG001  # the protocol's
    """An estimator says nothing of its outputs' shapes before it runs."""
    return {}


def _given(task: Task) -> tuple[Mapping[str, Any], Path | None, Path]:
    """The `sklearn` section, the model's file where there is one, and the project's root."""
    file = task.inputs.get("model")
    return task.options["source"]["sklearn"], Path(file) if file else None, Path(task.root)
