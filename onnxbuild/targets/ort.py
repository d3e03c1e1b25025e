"""`ort`: the ORT format of onnxruntime's reduced and mobile builds, and the operators that such a build must have.

onnxruntime itself converts while it opens a session: see "ORT model format" in onnxruntime's documentation. Knows no store.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.system import oserrors
from onnxbuild.system.hidden import hidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnxbuild.contracts import Shapes

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("onnxruntime", "flatbuffers")
RUNTIME = "onnxruntime"
MODEL = "model.ort"
OPERATORS = "required_operators_and_types.config"
FILES: tuple[str, ...] = (MODEL, OPERATORS)
SHAPED = False


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """How onnxruntime optimizes the graph before it writes it."""

    optimization_level: Annotated[
        Literal["disable_all", "basic", "extended", "layout", "all"],
        Meta(
            description="onnxruntime's graph optimization level. Levels above extended bind the file to this hardware."
        ),
    ] = "extended"


def files(options: Options) -> tuple[str, ...]:  # noqa: ARG001  # the protocol's
    """Both, always."""
    return FILES


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """Nothing beyond what onnxbuild itself is installed with."""
    return {}


def wrong(options: Options, shapes: Shapes) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """It takes any shapes."""
    return ()


def fixed(options: Options) -> None:  # the protocol's
    """Nothing: the file takes any sizes."""


def facets(options: Options) -> Sequence[str]:
    """What of this machine decides the bytes."""
    return ("system", "cpu_flags") if options.optimization_level in ("layout", "all") else ("system",)


def notes(options: Options) -> Sequence[str]:
    """Sentences for the report."""
    level = options.optimization_level
    return [f"{level}: bound to this hardware and this onnxruntime version"] if level in ("layout", "all") else []


def build(
    path: Path,
    options: Options,
    scratch: Path,
    shapes: Shapes,  # noqa: ARG001  # the protocol's
) -> tuple[Mapping[str, Path], Sequence[str]]:
    """Convert a graph; gives the files by the name they are published under, and notes on what could not be done.

    `path` is a graph in the store's form, `scratch` an empty folder. Raises StageError where onnxruntime can't convert it,
    and for weights of 2 GiB or more, which the ORT format can't hold.
    """
    from onnxbuild.graphs import modelfile

    with hidden(["torch"]):  # onnxruntime's tools import it where it is there, for an exporter
        from onnxbuild.targets import ort_types

    written = modelfile.write(path, scratch / "model.onnx", external_data=False)
    if len(written) > 1:
        raise StageError("the ORT format holds less than 2 GiB", "take ort out of targets, or make the weights smaller")
    _convert(written[0], scratch, options.optimization_level)
    made = scratch / MODEL
    made.write_bytes(ort_types.ordered(made.read_bytes()))
    return {name: scratch / name for name in FILES}, []


def _convert(path: Path, dest: Path, level: str) -> None:
    from onnxruntime.tools.ort_format_model import utils

    from onnxbuild.runtimes import onnxruntime as sessions

    entries = {"session.save_model_format": "ORT", "session.disable_prepacking": "1"}
    try:
        sessions.on_cpu(path, level, written=dest / MODEL, entries=entries)
    except Exception as error:
        raise StageError(f"onnxruntime can't convert the graph to the ORT format: {oserrors.said(error)}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file open that it reads
        utils.create_config_from_models([dest / MODEL], dest / OPERATORS, True)
    told = (dest / OPERATORS).read_text("utf-8")
    (dest / OPERATORS).write_text(told.replace(str(dest / MODEL), MODEL), "utf-8")  # it names where the model lay
