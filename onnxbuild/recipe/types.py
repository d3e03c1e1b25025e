"""The shape of a recipe: frozen types with constraints and descriptions, the one source of its JSON Schema.

Knows no YAML, no files and nothing that holds between two fields; `recipe.rules` checks those.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.contracts import Shapes
from onnxbuild.parity.datasets import Dataset
from onnxbuild.parity.metric import Metric
from onnxbuild.parity.tolerance import Tolerance, Tolerances
from onnxbuild.recipe.plugins import BESIDE, Model, Pass, Step, Targets
from onnxbuild.recipe.running import Benchmark, Identifier, NonNegative, Package, Positive, Runtime, form, said
from onnxbuild.sources import SOURCES
from onnxbuild.sources.installed import Importable

Name = Annotated[
    str, form(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-', not starting with a sign")
]
Axis = Annotated[str, form(r"(0|[1-9][0-9]{0,2})", "an axis number, counted from 0")]
# A device's name is a device in every folder of Windows, whatever follows its first dot, and a dot at the end is lost there.
RecipeName = Annotated[
    str,
    form(
        r"(?!([Cc][Oo][Nn]|[Pp][Rr][Nn]|[Aa][Uu][Xx]|[Nn][Uu][Ll]|[Cc][Oo][Mm][0-9]|[Ll][Pp][Tt][0-9])([.]|$))"
        r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?",
        "letters, digits, '.', '_' and '-', not starting with a sign or ending with a dot, and no device of Windows",
    ),
]
TensorName = Annotated[str, Meta(min_length=1)]
Operator = Annotated[str, form(r"[A-Za-z_]\w*::[A-Za-z_]\w*(\.\w+)?", "namespace::name, as in torch.ops")]
OpType = Annotated[str, form(r"[^:\s]*::[^:\s]+", "domain::op_type")]
DType = Literal[
    "float16", "float32", "float64", "bfloat16",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string",
]  # fmt: skip
# Literal of the names in the sources' tables, so that no kind of source is named here.
Exporter: Any = Literal[tuple(dict.fromkeys(name for source in SOURCES.values() for name in source.EXPORTERS))]


class Normal(Struct, frozen=True, forbid_unknown_fields=True):
    """Normally distributed values."""

    mean: Annotated[float, said("Their mean.")] = 0.0
    std: Annotated[Tolerance, said("Their standard deviation.")] = 1.0


class Uniform(Struct, frozen=True, forbid_unknown_fields=True):
    """Values that are equally likely all over a range."""

    low: Annotated[float, said("The smallest value.")] = 0.0
    high: Annotated[float, said("The end of the range, which is not reached.")] = 1.0


class Integers(Struct, frozen=True, forbid_unknown_fields=True):
    """Whole numbers that are equally likely all over a range."""

    low: Annotated[int, said("The smallest value.")] = 0
    high: Annotated[int, Meta(description="One past the largest value.")] = 10


class Npz(Struct, frozen=True, forbid_unknown_fields=True):
    """An array out of a file."""

    path: Annotated[str, Meta(description="A NumPy .npz file, relative to the project root.")]
    key: Annotated[str, Meta(description="The array's name in the file; the input's own name if left out.")] = ""


class Data(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How values are made; exactly one key. Without it: normal floats, integers 0 to 9, booleans, strings "a" to "c"."""

    normal: Normal | UnsetType = UNSET
    uniform: Uniform | UnsetType = UNSET
    integers: Integers | UnsetType = UNSET
    # as it is written: no float holds all 64-bit integers
    constant: Annotated[int | float | str, said("This value everywhere.")] | UnsetType = UNSET
    values: (
        Annotated[list[int | float | str], Meta(min_length=1, description="These values, over and over, in order.")]
        | UnsetType
    ) = UNSET
    npz: Npz | UnsetType = UNSET


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """An input of the graph."""

    dtype: Annotated[DType, said("The type of its elements.")]
    shape: Annotated[
        list[NonNegative],
        Meta(
            description="The example's size on each axis, as the exporter sees it. Prefer 2 or more on a dynamic axis."
        ),
    ]
    data: Data | UnsetType = UNSET


class Dim(Struct, frozen=True, forbid_unknown_fields=True):
    """The range of a dynamic dimension, both ends included."""

    min: Annotated[NonNegative, said("The smallest size.")] = 1
    max: Annotated[int, Meta(ge=1, description="Without it, no upper bound is promised or tested.")] | UnsetType = UNSET
    multiple_of: Annotated[Positive, Meta(description="Only multiples of this are valid sizes.")] = 1


# Not a range: `recipe.schema` writes one description of what either of them may be, `export_rules` reads the expression.
Relation = Annotated[str, Meta(min_length=1)]


class Arguments(Struct, frozen=True, forbid_unknown_fields=True):
    """How `forward` is called. A string names an input, {constant: ...} is what it holds; lists and mappings nest."""

    args: Annotated[list[Any], said("Arguments by position.")] = []
    kwargs: Annotated[dict[Identifier, Any], said("Arguments by name.")] = {}


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    """The graph's interface, and how it is exported."""

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

    dtype: Annotated[DType, said("Of its elements.")]
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
    dtype: Annotated[DType, said("Of the model's output.")] = "float32"
    outputs: Annotated[
        list[TensorName], Meta(description="What the results are called; a single one as the model's own if left out.")
    ] = []
    keep: Annotated[bool, Meta(description="Publish the model's own output as well.")] = False


class Attribute(Struct, frozen=True, forbid_unknown_fields=True):
    """An attribute of the node."""

    type: Annotated[Literal["float", "int", "string", "floats", "ints", "strings"], said("As in onnx.AttributeProto.")]
    argument: Annotated[
        str, Meta(description="The torch operator's argument that holds it; its own name if left out.")
    ] = ""


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """A node in a custom domain, with its schema."""

    domain: Annotated[str, Meta(min_length=1, description="The operator's domain, such as com.acme.")]
    op_type: Annotated[Identifier, said("The operator's name in it.")]
    inputs: Annotated[list[Identifier], Meta(min_length=1, description="Names of the tensor arguments, in order.")]
    outputs: Annotated[list[Identifier], Meta(min_length=1, description="Names for the results, in order.")]
    version: Annotated[Positive, said("The domain's version, in the graph's opset_import.")] = 1
    attributes: Annotated[dict[Identifier, Attribute], said("The node's attributes, by name.")] = {}


class Symbolic(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a custom torch operator becomes; exactly one key."""

    decompose: (
        Annotated[
            Importable, Meta(description="module:function that builds it from standard operators: f(op, *arguments).")
        ]
        | UnsetType
    ) = UNSET
    node: Node | UnsetType = UNSET


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes (the example's where left out) and data (the input's own where left out)."""

    dims: Annotated[dict[Identifier, NonNegative], said("Sizes, by the dimension's name.")] = {}
    data: Annotated[dict[str, Data], said("How values are made, by the input's name.")] = {}


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
    seed: Annotated[NonNegative, said("Of the inputs' random values.")] = 0
    allow_not_run: Annotated[
        list[OpType], Meta(description="Operators (domain::op_type) that may keep onnxruntime from running the graph.")
    ] = []
    allow_vacuous: Annotated[
        bool,
        Meta(
            description="Publish though no comparison proves anything: every output is empty, NaN or always one value."
        ),
    ] = False


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """An onnxbuild recipe."""

    version: Annotated[Literal[1], said("Of the recipe's format.")]
    name: Annotated[RecipeName, Meta(description="Results land in build/<name>/. A base's is not taken over.")]
    model: Model  # type: ignore[valid-type]  # made from the table of sources
    export: Export
    description: Annotated[str, said("A sentence for the report.")] = ""
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
    metric: Annotated[Metric | UnsetType, Meta(description="A figure on data that no graph may lose too much of.")] = (
        UNSET
    )
    runtime: Runtime = Runtime()
    targets: Annotated[Targets, Meta(description="Files for other runtimes, made from the final graph.")] = Targets()  # type: ignore[valid-type]
    benchmark: Benchmark | UnsetType = UNSET
    package: Package = Package()


ONE_OF: tuple[type[Struct], ...] = (Model, Pass, Step, Data, Symbolic, Dataset)  # mappings with exactly one key


def given(any_of: Struct) -> list[tuple[str, Any]]:
    """The keys that are set in a mapping named after plug-ins, in the plug-ins' order, with their values."""
    return [(name, getattr(any_of, name)) for name in any_of.__struct_fields__ if getattr(any_of, name) is not UNSET]


def chosen(one_of: Struct) -> tuple[str, Any]:
    """The key that is set in a mapping with exactly one key, and its value."""
    (name, *_) = keys(one_of)
    return name, getattr(one_of, name)


def keys(one_of: Struct) -> list[str]:
    """The keys that are set in a mapping which has to have exactly one, without those that may stand beside it."""
    return [name for name in choices(one_of) if getattr(one_of, name) is not UNSET]


def choices(one_of: Struct) -> list[str]:
    """The keys of which a mapping has to have exactly one."""
    beside = BESIDE.get(type(one_of).__name__, ())
    return [name for name in one_of.__struct_fields__ if name not in beside]
