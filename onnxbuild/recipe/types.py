"""The shape of a recipe: frozen types with constraints and descriptions, the one source of its JSON Schema.

Knows no YAML, no files and nothing that holds between two fields; `recipe.rules` checks those.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Shapes
from onnxbuild.parity.tolerance import Tolerance, Tolerances
from onnxbuild.recipe.forms import (
    Axis,
    DType,
    Identifier,
    Name,
    NonNegative,
    Operator,
    OpType,
    Positive,
    RecipeName,
    TensorName,
)
from onnxbuild.recipe.operators import Symbolic
from onnxbuild.recipe.plugins import Model, Pass, Step, Targets
from onnxbuild.sources import SOURCES

# Literal of the names in the sources' tables, so that no kind of source is named here.
Exporter: Any = Literal[tuple(dict.fromkeys(name for source in SOURCES.values() for name in source.EXPORTERS))]


class Normal(Struct, frozen=True, forbid_unknown_fields=True):
    mean: float = 0.0
    std: Tolerance = 1.0


class Uniform(Struct, frozen=True, forbid_unknown_fields=True):
    low: float = 0.0
    high: float = 1.0


class Integers(Struct, frozen=True, forbid_unknown_fields=True):
    low: int = 0
    high: Annotated[int, Meta(description="One past the largest value.")] = 10


class Npz(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(description="A NumPy .npz file, relative to the project root.")]
    key: Annotated[str, Meta(description="The array's name in the file; the input's own name if left out.")] = ""


class Data(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How values are made; exactly one key. Without it: normal floats, integers 0 to 9, booleans, strings "a" to "c"."""

    normal: Normal | UnsetType = UNSET
    uniform: Uniform | UnsetType = UNSET
    integers: Integers | UnsetType = UNSET
    constant: int | float | str | UnsetType = UNSET  # as it is written: no float holds all 64-bit integers
    values: (
        Annotated[list[int | float | str], Meta(min_length=1, description="These values, over and over, in order.")]
        | UnsetType
    ) = UNSET
    npz: Npz | UnsetType = UNSET


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    dtype: DType
    shape: Annotated[
        list[NonNegative],
        Meta(
            description="The example's size on each axis, as the exporter sees it. Prefer 2 or more on a dynamic axis."
        ),
    ]
    data: Data | UnsetType = UNSET


class Dim(Struct, frozen=True, forbid_unknown_fields=True):
    """The range of a dynamic dimension, both ends included."""

    min: NonNegative = 1
    max: Annotated[int, Meta(ge=1, description="Without it, no upper bound is promised or tested.")] | UnsetType = UNSET
    multiple_of: Annotated[Positive, Meta(description="Only multiples of this are valid sizes.")] = 1


# Not a range: `recipe.schema` writes one description of what either of them may be, `export_rules` reads the expression.
Relation = Annotated[str, Meta(min_length=1)]


class Arguments(Struct, frozen=True, forbid_unknown_fields=True):
    """How `forward` is called. A string names an input, {constant: ...} is what it holds; lists and mappings nest."""

    args: list[Any] = []
    kwargs: dict[Identifier, Any] = {}


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    inputs: Annotated[dict[TensorName, Input], Meta(description="The graph's inputs, in order; {} for none.")]
    outputs: Annotated[list[TensorName], Meta(min_length=1, description="The graph's outputs, in order.")]
    exporter: Annotated[
        Exporter,
        Meta(
            description="dynamo and torchscript are torch.onnx.export with dynamo=True (torch.export) and dynamo=False; "
            "each of the others belongs to one kind of source. Left out, it is the source's own."
        ),
    ] = "dynamo"
    opset: Annotated[int, Meta(ge=1, le=28, description="The version of ONNX's default operator set.")] = 18
    dynamic_axes: Annotated[
        dict[str, dict[Axis, Identifier]],
        Meta(
            description="Input or output name, to axis number, to the dimension's name. Axes not named here are static."
        ),
    ] = {}
    dims: Annotated[
        dict[Identifier, Dim | Relation],
        Meta(
            description="The sizes that the dynamic dimensions may take: a range, or what a dimension is of others "
            "(past + sequence, height // 2)."
        ),
    ] = {}
    arguments: Annotated[
        Arguments | UnsetType,
        Meta(
            description="How forward is called. Without it: by keyword where every input is a parameter of it, in order "
            "where none is."
        ),
    ] = UNSET

    def limits(self, dim: str) -> Dim:
        """The range of a dimension that is free; any size where none is given."""
        found = self.dims.get(dim)
        return found if isinstance(found, Dim) else Dim()

    def shapes(self) -> Shapes:
        """What is declared of inputs and outputs, as targets are handed it."""
        section = msgspec.to_builtins(self)
        inputs = {name: {key: spec[key] for key in ("dtype", "shape")} for name, spec in section["inputs"].items()}
        return Shapes(inputs, section["outputs"], section["dynamic_axes"], section["dims"])

    @property
    def related(self) -> dict[str, str]:
        """The dimensions that are expressions of others, as they are written."""
        return {name: dim for name, dim in self.dims.items() if isinstance(dim, str)}


class Prepend(Struct, frozen=True, forbid_unknown_fields=True):
    """An input in place of one of the model's own, and the steps that make that one of it."""

    dtype: DType
    shape: Annotated[list[NonNegative], Meta(description="The example's size on each axis.")]
    steps: Annotated[list[Step], Meta(min_length=1, description="In order; the last one gives the model's input.")]  # type: ignore[valid-type]
    name: Annotated[str, Meta(description="What it is called; as the model's own where left out.")] = ""
    dynamic_axes: Annotated[
        dict[Axis, Identifier], Meta(description="Axis number, to the dimension's name. Others are static.")
    ] = {}
    dims: Annotated[
        dict[Identifier, Dim], Meta(description="The sizes of dimensions that only this input has, as under export.")
    ] = {}
    data: Annotated[
        Data | UnsetType, Meta(description="As of export.inputs; of uint8 without it, integers from 0 to 255.")
    ] = UNSET


class Append(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the model's outputs as it is, and the steps that make others of it."""

    shape: Annotated[list[NonNegative], Meta(description="The size of each axis of the model's output at the example.")]
    steps: Annotated[list[Step], Meta(description="In order; [] for an output that other steps take besides.")]  # type: ignore[valid-type]
    dtype: DType = "float32"
    outputs: Annotated[
        list[TensorName], Meta(description="What the results are called; a single one as the model's own if left out.")
    ] = []
    keep: Annotated[bool, Meta(description="Publish the model's own output as well.")] = False


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes (the example's where left out) and data (the input's own where left out)."""

    dims: dict[Identifier, NonNegative] = {}
    data: dict[str, Data] = {}


class Parity(Tolerances, Struct, frozen=True, forbid_unknown_fields=True):
    """|a - b| <= atol + rtol * |b|, b being the source framework's output; checked after the export and every pass."""

    cases: Annotated[dict[Name, Case], Meta(description="Cases beside those derived from dims.")] = {}
    derive: Annotated[bool, Meta(description="Derive cases from dims: min, example, an odd size, max, pairwise.")] = (
        True
    )
    max_elements: Annotated[
        Positive,
        Meta(description="A derived case whose inputs hold more elements than this is left out, and reported."),
    ] = 4_194_304
    seed: NonNegative = 0
    allow_not_run: Annotated[
        list[OpType], Meta(description="Operators (domain::op_type) that may keep onnxruntime from running the graph.")
    ] = []
    allow_vacuous: Annotated[
        bool,
        Meta(
            description="Publish though no comparison proves anything: every output is empty, NaN or always one value."
        ),
    ] = False


class Session(Struct, frozen=True, forbid_unknown_fields=True):
    """onnxruntime.SessionOptions, by its own names."""

    graph_optimization_level: Literal["disable_all", "basic", "extended", "layout", "all"] = "all"
    intra_op_num_threads: Annotated[int, Meta(ge=0, description="0 leaves it to onnxruntime.")] = 0
    inter_op_num_threads: Annotated[int, Meta(ge=0)] = 0
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    enable_mem_pattern: bool = True
    enable_cpu_mem_arena: bool = True
    config_entries: Annotated[dict[str, str], Meta(description="add_session_config_entry, by key.")] = {}


class Runtime(Struct, frozen=True, forbid_unknown_fields=True):
    providers: Annotated[list[str], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["CPUExecutionProvider"]
    )
    provider_options: dict[str, dict[str, str]] = {}
    require: Annotated[
        list[str], Meta(description="Providers that must really run; anything else fails the build.")
    ] = []
    session: Session = Session()


class Benchmark(Struct, frozen=True, forbid_unknown_fields=True):
    warmup: NonNegative = 10
    runs: Positive = 100
    dims: Annotated[
        dict[Identifier, Positive], Meta(description="Sizes to measure at; the example's where left out.")
    ] = {}


class Package(Struct, frozen=True, forbid_unknown_fields=True):
    external_data: Annotated[
        bool, Meta(description="Write the weights to model.onnx.data; always so past protobuf's 2 GiB limit.")
    ] = False
    layout: Annotated[
        Literal["plain", "ort_model_package"],
        Meta(
            description="plain: model.onnx and a folder per target. ort_model_package: beside them model_package/, which "
            "onnxruntime's model package API opens: a variant per provider and target, weights by their content."
        ),
    ] = "plain"


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """An onnxbuild recipe."""

    version: Literal[1]
    name: Annotated[RecipeName, Meta(description="Results land in build/<name>/.")]
    model: Model  # type: ignore[valid-type]  # made from the table of sources
    export: Export
    description: str = ""
    prepend: Annotated[
        dict[str, Prepend], Meta(description="Steps in the graph before the model, by the input that they feed.")
    ] = {}
    append: Annotated[
        dict[str, Append], Meta(description="Steps in the graph after the model, by the output that they take.")
    ] = {}
    symbolics: Annotated[
        dict[Operator, Symbolic],
        Meta(description="Custom torch operators (namespace::name), for both exporters."),
    ] = {}
    optimize: Annotated[list[Pass], Meta(description="Passes, in order; each one is a stage of its own.")] = []  # type: ignore[valid-type]
    parity: Parity = Parity()
    runtime: Runtime = Runtime()
    targets: Annotated[Targets, Meta(description="Files for other runtimes, made from the final graph.")] = Targets()  # type: ignore[valid-type]
    benchmark: Benchmark | UnsetType = UNSET
    package: Package = Package()


ONE_OF: tuple[type[Struct], ...] = (Model, Pass, Step, Data, Symbolic)  # mappings with exactly one key


def given(any_of: Struct) -> list[tuple[str, Any]]:
    """The keys that are set in a mapping named after plug-ins, in the plug-ins' order, with their values."""
    return [(name, getattr(any_of, name)) for name in any_of.__struct_fields__ if getattr(any_of, name) is not UNSET]


def chosen(one_of: Struct) -> tuple[str, Any]:
    """The key that is set in a mapping with exactly one key, and its value."""
    name = next(f for f in one_of.__struct_fields__ if getattr(one_of, f) is not UNSET)
    return name, getattr(one_of, name)
