"""`web`: the published model in a web page, by onnxruntime-web's WebAssembly build. Adds no file: a page loads model.onnx.

What says that it can is a session in that build: see `runtimes.web`. Knows no store and no JavaScript.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from onnxbuild.errors import StageError
from onnxbuild.runtimes import web
from onnxbuild.text import units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnxbuild.contracts import Shapes

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ()
RUNTIME = "web"
FILES: tuple[str, ...] = ()
SHAPED = False
ADDRESSED = 4 << 30  # bytes that WebAssembly's 32-bit memory addresses; weights and all results lie in it


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Proves the published model.onnx in onnxruntime-web, which node runs."""


def files(options: Options) -> tuple[str, ...]:  # noqa: ARG001  # the protocol's
    """None: a page loads the published model."""
    return FILES


def requires(options: Options) -> Mapping[str, str]:  # noqa: ARG001  # ditto
    """No package of Python's."""
    return {}


def wrong(options: Options, shapes: Shapes) -> Iterable[tuple[str, str, str]]:  # noqa: ARG001  # ditto
    """Inputs of which JavaScript can make no tensor."""
    for name, spec in shapes.inputs.items():
        if spec["dtype"] not in web.DTYPES:
            fact = f"JavaScript has no {spec['dtype']}, which input '{name}' is of"
            yield "", fact, "give the model an input of float32, which it converts itself, or take web out of targets"


def fixed(options: Options) -> None:  # the protocol's
    """Nothing: the files take every size that is declared."""


def facets(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Nothing of this machine."""
    return ()


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # ditto
    """Nothing that holds before it is run."""
    return ()


def build(
    path: Path,
    options: Options,  # noqa: ARG001  # ditto
    scratch: Path,  # noqa: ARG001  # ditto
    shapes: Shapes,  # noqa: ARG001  # ditto
) -> tuple[Mapping[str, Path], Sequence[str]]:
    """No files. Raises StageError for a model that is larger than WebAssembly's memory.

    `path` is the published model, its weights in it or beside it.
    """
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    if size > ADDRESSED:
        fact = f"the model has {units.size(size)}, and WebAssembly addresses {units.size(ADDRESSED)}"
        raise StageError(fact, "make the weights smaller (float16 or int8), or take web out of targets")
    return {}, []
