"""`tensorrt`: an engine of TensorRT-RTX, which needs no GPU to be built, or of classic TensorRT, which does.

An engine loads in the version that built it, and on the GPUs that it was built for, and nowhere else. TensorRT itself is in
`tensorrt_engine`. Knows no store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from onnxbuild.errors import StageError
from onnxbuild.targets import ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnxbuild.contracts import Json, Shapes

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = ("tensorrt-rtx-cu13", "tensorrt-rtx-cu13-libs", "tensorrt")
RUNTIME = "tensorrt"
ENGINE = "model.engine"
ABOUT = "model.json"
FILES: tuple[str, ...] = (ENGINE, ABOUT)
SHAPED = True
CURRENT = "CURRENT"
_PACKAGE_AND_EXTRA = {"rtx": ("tensorrt_rtx", "tensorrt"), "classic": ("tensorrt", "tensorrt-classic")}


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Which TensorRT, and for which GPUs. Precisions are the graph's own: the network is strongly typed."""

    flavor: Annotated[
        Literal["rtx", "classic"],
        Meta(description="TensorRT-RTX builds without a GPU; classic TensorRT builds for the GPU of this machine."),
    ] = "rtx"
    profiles: Annotated[
        Literal["from_dims"],
        Meta(description="One optimization profile: from the least to the most of export.dims, tuned for the example."),
    ] = "from_dims"
    compute_capabilities: Annotated[
        list[
            Annotated[
                str, Meta(pattern=r"^(SM\d+|CURRENT)$(?!\n)", extra_json_schema={"x-expected": "SM86 or CURRENT"})
            ]
        ],
        Meta(
            description="The GPUs that a TensorRT-RTX engine is for, as SM86; CURRENT is this machine's. None: the "
            "library's default, 8.0, 8.6, 8.9, 12.0 and later."
        ),
    ] = []
    tf32: Annotated[
        bool, Meta(description="Allow float32 products of 10 bits (BuilderFlag.TF32), as the library does by default.")
    ] = True


def files(options: Options) -> tuple[str, ...]:  # noqa: ARG001  # the protocol's
    """Both, always."""
    return FILES


def requires(options: Options) -> Mapping[str, str]:
    """The flavor's package."""
    package, extra = _PACKAGE_AND_EXTRA[options.flavor]
    return {package: extra}


def wrong(options: Options, shapes: Shapes) -> Iterable[tuple[str, str, str]]:
    """Dimensions without an upper bound, strings, and GPUs named where only this machine's can be built for."""
    for dim in ranges.unbounded(shapes):
        fact = f"{dim} has no max, and a TensorRT engine is built for a range of sizes"
        yield f"export.dims.{dim}", fact, f"say how large it may be: {dim}: {{max: 64}}"
    for name, declared in shapes.inputs.items():
        if declared["dtype"] == "string":
            fact = f"input '{name}' holds strings, which TensorRT does not know"
            yield "", fact, "look words up before the graph, or take tensorrt out of targets"
    if options.flavor == "classic" and options.compute_capabilities:
        fact = "classic TensorRT builds for the GPU of this machine alone"
        yield "compute_capabilities", fact, "remove them, or say flavor: rtx"


def fixed(options: Options) -> None:  # the protocol's
    """Nothing: the files take every size that is declared."""


def facets(options: Options) -> Sequence[str]:
    """What of this machine decides the bytes."""
    here = options.flavor == "classic" or CURRENT in options.compute_capabilities
    return ("system", "gpu") if here else ("system",)


def notes(options: Options) -> Sequence[str]:
    """Sentences for the report."""
    if options.flavor == "classic":
        bound = "the engine is bound to this TensorRT version and this machine's kind of GPU"
    else:
        of = ", ".join(options.compute_capabilities) or "compute capability 8.0, 8.6, 8.9, 12.0 and later"
        bound = f"the engine is bound to this TensorRT-RTX version, and to GPUs of {of}"
    return [bound, "TensorRT's compiler names and orders things otherwise each time: the engine's bytes may differ"]


def build(path: Path, options: Options, scratch: Path, shapes: Shapes) -> tuple[Mapping[str, Path], Sequence[str]]:
    """Build an engine; gives it and a description of it by the names they are published under, and notes.

    `path` is a graph in the store's form, `scratch` an empty folder. Raises StageError where TensorRT can't build it, and
    where the engine would take or give something else than the graph.
    """
    from onnxbuild.graphs import interface, modelfile
    from onnxbuild.targets import tensorrt_engine

    *_, written = modelfile.write(path, scratch / "model.onnx")
    sizes = {name: _three(axes) for name, axes in ranges.of_inputs(shapes).items()}
    named = options.compute_capabilities
    engine, made = tensorrt_engine.build(written, options.flavor, sizes, named, tf32=options.tf32)
    model = modelfile.structure(path)
    signature = interface.signature(model)
    for role in ("inputs", "outputs"):
        _require_same(role, made[role], signature[role])
    (scratch / ENGINE).write_bytes(engine)
    about = {"flavor": options.flavor, "compute_capabilities": named, "tf32": options.tf32, **made}
    (scratch / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
    return {name: scratch / name for name in FILES}, []


def _three(axes: Sequence[ranges.Range]) -> tuple[list[int], list[int], list[int]]:
    """The least, the example's and the largest shape of an input; `wrong` has refused those without a largest."""
    most = [one.example if one.most is None else one.most for one in axes]
    return [one.least for one in axes], [one.example for one in axes], most


def _require_same(role: str, made: Sequence[Json], graph: Sequence[Json]) -> None:
    """Raise where the engine has other inputs or outputs than the graph: TensorRT narrows some dtypes in silence."""
    engine, one = {value["name"]: value for value in made}, role.removesuffix("s")
    for value in graph:
        here = engine.get(value["name"])
        if here is None:
            raise StageError(f"the engine has no {one} '{value['name']}', which the graph has")
        if (here["dtype"], len(here["shape"])) != (value["dtype"], len(value["shape"] or here["shape"])):
            fact = f"{one} '{value['name']}' is {_said(here)} in the engine, and {_said(value)} in the graph"
            raise StageError(fact, "cast it inside the graph, or take tensorrt out of targets")


def _said(value: Any) -> str:
    return f"{value['dtype']} of rank {len(value['shape'] or [])}"
