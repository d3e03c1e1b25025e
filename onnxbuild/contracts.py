"""What the parts agree on: the task a stage is handed, the outcome it gives back, and what a plug-in module must have.

Holds types only. A plug-in is a module that satisfies one of the protocols; the tables of modules are dict literals in
`sources/__init__.py`, `passes/__init__.py` and `stages/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from onnxbuild.errors import StageError

Json: TypeAlias = Any  # a value that JSON can hold
Arrays: TypeAlias = "dict[str, np.ndarray[Any, Any]]"  # tensors by input or output name


class Task(msgspec.Struct, frozen=True):
    """Everything a stage is handed; it reads nothing else but what its model's code opens itself.

    `module` is the name of the Python module whose `run` it is. `options` is the part of the key document that the recipe
    decides. `inputs` maps a role to the absolute path of a file: an object of the store (a graph in the store's form, a
    blob) or a declared file such as a checkpoint. `objects` is the store's folder of objects, into which results are
    written (`modelfile.save`, `objects.add_file`). `scratch` is an empty folder of this task's own, removed afterwards.
    `dest` is the folder that a stage publishes into, "" for a stage that publishes nothing.
    """

    stage: str
    module: str
    options: dict[str, Json]
    inputs: dict[str, str]
    root: str
    objects: str
    scratch: str
    dest: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What a stage gives back.

    `outputs` maps a role ("graph", "reference") to a ref: the path of an object relative to the store's objects folder.
    `objects` lists every ref that the outputs need (tensors of a graph included), `facts` is what later stages, judging
    and the report read, `warnings` what the libraries said. `cacheable` is False where chance had a part in it.
    """

    outputs: dict[str, str] = {}
    objects: list[str] = []
    facts: dict[str, Json] = {}
    warnings: list[str] = []
    cacheable: bool = True


class Trait(Enum):
    """What the parts that run, look up and report stages have to know of a kind of stage; they know no kind by name."""

    GRAPH = "it gives a graph of the chain, which the stages after it take"
    MAKES = "its bytes are published, or lead to what is: `verify --rebuild` makes them again"
    PUBLISHES = "it writes into the output folder; its facts hold `artifacts`"
    REFERENCE = "it runs the source model, which every graph is held against"
    PROVES = "it measures a graph against the reference; its facts are judged by tolerances"
    SCORES = "it makes a figure of a graph, or of the source model, on data; its facts are judged by how far that drops"
    LOOKS_INTO = "it finds out more of a proof that failed, and only a failure brings it about"
    DESCRIBES = "its facts say what is in the graph that it takes"
    TARGETS = "its files are what another runtime loads; its facts describe them"
    TIMES = "its facts are latencies: they vary from run to run"
    ALONE = "nothing else may run at the same time"


class StageModule(Protocol):
    """A kind of stage: one module in `stages/`.

    `VERSION` is raised whenever the code would give another outcome for the same document. `PRELOAD` names the template
    process its children are forked from ("torch" or "onnx"). `DISTRIBUTIONS` are the packages whose version enters every
    key of this kind (plug-ins add their own). `FIELDS` maps the parts of its options to the recipe's fields that they come
    from, for messages; the planner adds what depends on the place in the recipe.
    """

    __name__: str
    VERSION: int
    PRELOAD: str
    DISTRIBUTIONS: tuple[str, ...]
    TRAITS: frozenset[Trait]
    FIELDS: dict[str, tuple[str, ...]]

    def run(self, task: Task) -> Outcome: ...


class Exported(msgspec.Struct):
    """What a source's `export` gives: the model and what really ran.

    `model` may hold external tensors relative to `folder`. `facts` holds at least `exporter`. `authored` says that the notes
    in the model (metadata, doc strings) are somebody's own, and no exporter's: they are kept.
    """

    model: onnx.ModelProto
    folder: Path | None
    facts: dict[str, Json]
    authored: bool = False


class Companion(msgspec.Struct, frozen=True):
    """A file that a declared file names. `refused` says why it may not be read, and is then all that a key holds of it."""

    path: Path
    refused: str = ""


class Reference(msgspec.Struct, frozen=True):
    """The source's own model: `call` computes its outputs for arrays by input name, `changed` says in words what of its
    state is other than it was before the first call.
    """

    call: Callable[[Arrays], Arrays]
    changed: Callable[[], list[str]] = list


class Value(Struct, frozen=True):
    """An input or an output, as its model describes it. An axis of `shape` is a size, the name of a dynamic one, or None
    where it is dynamic without a name; `shape` is None where nothing is known of it.
    """

    name: str
    dtype: str
    shape: list[int | str | None] | None = None


class Interface(Struct, frozen=True):
    """What a source says of itself: its inputs and outputs in order, and the opset of what it is (0: it has none).

    `dims` are ranges that it knows of its dynamic axes, by name ({"batch": {"min": 1, "max": 8}}), or what one is of
    others ("past + sequence"); `sizes` the example's sizes of some of them; `arguments` how it is called, as in a recipe.
    """

    inputs: list[Value]
    outputs: list[Value]
    opset: int = 0
    dims: dict[str, Json] = {}
    sizes: dict[str, int] = {}
    arguments: Json = None


class Inspection(Struct, frozen=True):
    """What was found out of a model by running it: a proposal for a recipe, which the build proves or refuses.

    `data` holds what an input's `data` should be, by input, where the default of its dtype would not do. `rtol` and `atol`
    are proposed from measured rounding, 0 where it could not be measured. `exporter` is the one that took the model, ""
    where that was not tried; `operators` are those that are not the framework's own, which need an entry under `symbolics`.
    `looked` are sentences: what was looked at and found.
    """

    interface: Interface
    data: dict[str, Json] = {}
    rtol: float = 0.0
    atol: float = 0.0
    exporter: str = ""
    operators: list[str] = []
    looked: list[str] = []


class SourceModule(Protocol):
    """A kind of model source: one module in `sources/`.

    `Options` is the type of the recipe's `model.<name>` section. `files(options)` names the declared input files by role
    (`{"checkpoint": "weights/x.safetensors"}`), which are hashed into the key and arrive in `task.inputs`. `HASHED` are the
    options that say where those lie, by the option that holds them ("" for the options themselves). `companions(files)` are
    the files that those name in turn (an .onnx file's external data), by a role of their own; `files` maps a role to a
    path. They are inputs like the declared ones. It is asked before every look-up, so it imports nothing heavy.
    `DISTRIBUTIONS` are the packages whose versions enter the keys of both stages, `distributions(stage, exporter)` those
    that one of them uses besides. What a model's own code imports is discovered, and needs no declaring.
    `EXPORTERS` are the names that `export.exporter` may have, each with its lowest and highest opset (none where nothing is
    exported), `exporters(options)` those that these options leave, the one that is taken by itself first. `MEANINGLESS` are
    the paths of recipe fields that say nothing to this source, `STRINGS` is whether its inputs may be text.
    `preload(options)` names the template process that its children are forked from, `requires(options)` the packages that
    must be there, by import name, each with the extra that brings it, and `wrong(options)` says what is wrong between
    options: the option ("" for all of them), fact and hint.
    `unfit(options, files)` says the same of declared files, by a look at them that runs nothing and imports nothing heavy;
    files that are not there, or can't be read, are told of by others.
    `describe` gives what the source says of itself, in a child process; it raises StageError where it says nothing.
    `inspect` finds out what a new recipe should say, by running the model where it does not tell. `recognised` gives the
    options for a file or folder that is of this kind, None for any other, by its name and its first bytes.
    `export` produces the ONNX model; `reference` gives what computes the source framework's own outputs; `output_shapes` is
    what the source says of its outputs' shapes before anything runs, if it does. `NOISE` is a regular expression for what
    its library says of itself, whatever the model; `remarks` turns what else was heard into notes, `explain` an exception
    of the model into a fact and a remedy.
    """

    Options: Any
    VERSION: int
    DISTRIBUTIONS: tuple[str, ...]
    HASHED: dict[str, tuple[str, ...]]
    EXPORTERS: dict[str, tuple[int, int]]
    MEANINGLESS: tuple[tuple[str, ...], ...]
    STRINGS: bool
    NOISE: str

    def preload(self, options: Any) -> str: ...
    def exporters(self, options: Any) -> Mapping[str, tuple[int, int]]: ...
    def requires(self, options: Any) -> Mapping[str, str]: ...
    def wrong(self, options: Any) -> Iterable[tuple[str, str, str]]: ...
    def unfit(self, options: Any, files: Mapping[str, Path]) -> Iterable[tuple[str, str, str]]: ...
    def files(self, options: Any) -> Mapping[str, str]: ...
    def companions(self, files: Mapping[str, Path]) -> Mapping[str, Companion]: ...
    def distributions(self, stage: str, exporter: str) -> Sequence[str]: ...
    def remarks(self, heard: Iterable[str]) -> list[str]: ...
    def explain(self, error: Exception, root: Path) -> StageError: ...
    def recognised(self, path: Path, name: str) -> dict[str, Json] | None: ...
    def describe(self, task: Task) -> Interface: ...
    def inspect(self, task: Task) -> Inspection: ...
    def export(self, task: Task) -> Exported: ...
    def reference(self, task: Task) -> Reference: ...
    def output_shapes(self, task: Task) -> Mapping[str, Sequence[int | str | None] | None]: ...


class PassModule(Protocol):
    """An optimizer pass: one module in `passes/`.

    `Options` is the type of what follows the pass's name in the recipe. `run` takes the path of a graph in the store's
    form (its external tensors lie beside it, read only), the options, an empty scratch folder and a `passes.Beside`, and
    returns the new model and the folder that its external tensors, where it has any, are relative to: that of `path`, or
    the scratch folder where the library wrote them there. It raises StageError where the library refuses. `notes(options)`
    are sentences for the report, such as "bound to this hardware"; the planner asks for them, so it imports nothing heavy.
    `proposed(operators)` are options for a new recipe whose graph has so many nodes of each operator, and why; None where
    the pass has nothing to do there, or could do harm. `opset(options, before)` is the opset of a graph after the pass, the
    one before it unless the pass is there to change it; the check of its graph asks for that.
    """

    Options: Any
    VERSION: int
    DISTRIBUTIONS: tuple[str, ...]

    def run(self, path: Path, options: Any, scratch: Path, beside: Any = None) -> tuple[onnx.ModelProto, Path]: ...
    def opset(self, options: Any, before: int) -> int: ...
    def proposed(self, operators: Mapping[str, int]) -> tuple[Json, str] | None: ...
    def notes(self, options: Any) -> Sequence[str]: ...


class Shapes(Struct, frozen=True):
    """What a recipe declares of a graph's inputs and outputs, in the recipe's own words.

    `inputs` map a name to {"dtype", "shape": the example's sizes, or those that a target is bound to}, `dynamic_axes` an
    input or output to {axis: dimension}, `dims` a dimension to its range ({"min", "max", "multiple_of"}) or to what it is of
    others ("past + sequence"). `variants` are the sizes that a target is bound to, where they are several, the first being
    that of `inputs`: {"dims": by dimension, "shapes": by input}.
    """

    inputs: dict[str, Json] = {}
    outputs: list[str] = []
    dynamic_axes: dict[str, dict[str, str]] = {}
    dims: dict[str, Json] = {}
    variants: list[dict[str, Json]] = []


class TargetModule(Protocol):
    """What another runtime loads: one module in `targets/`.

    `Options` is the type of the recipe's `targets.<name>`, to which every target adds `parity` and `optional`. `FILES` are
    the names of all that it may give, `files(options)` of what it gives for these options, published below
    `build/<name>/<target>/`, the one that is loaded first. One that loads the published model itself has none: its `build`
    is handed that model as it is published, and only says whether it can. `RUNTIME` names the module of `runtimes` that
    runs it for parity.
    `requires(options)` are the packages that must be there, by import name, each with the extra that brings it;
    `wrong(options, shapes)` says what can't be built of what a recipe declares: the option ("" for all, `export.` and so on
    for what is declared there), fact and hint.
    `fixed(options)` are the sizes of each dimension that the files are bound to, in all combinations, by the option `dims`:
    the example's where it is left out, any where there are none; None where the files take any. They are compared there.
    `facets(options)` are what of the machine decides the bytes, `notes(options)` sentences for the report. The planner asks
    for all of these, so they import nothing heavy. `SHAPED` says that what is declared of inputs decides the bytes too.
    `build` takes a graph in the store's form, the options, an empty folder and what is declared (empty unless `SHAPED`), and
    gives the files by name and more notes; it raises StageError where it can't.
    """

    Options: Any
    VERSION: int
    DISTRIBUTIONS: tuple[str, ...]
    FILES: tuple[str, ...]
    RUNTIME: str
    SHAPED: bool

    def files(self, options: Any) -> tuple[str, ...]: ...
    def requires(self, options: Any) -> Mapping[str, str]: ...
    def wrong(self, options: Any, shapes: Shapes) -> Iterable[tuple[str, str, str]]: ...
    def fixed(self, options: Any) -> Mapping[str, Sequence[int]] | None: ...
    def facets(self, options: Any) -> Sequence[str]: ...
    def notes(self, options: Any) -> Sequence[str]: ...
    def build(
        self, path: Path, options: Any, scratch: Path, shapes: Shapes
    ) -> tuple[Mapping[str, Path], Sequence[str]]: ...


class Opened(Struct, frozen=True):
    """Built files, opened by what runs them. `call` computes outputs by name for arrays by input name; `providers` is what
    really runs. `asides` are the same files at other settings, by a word for each: measured and told, judged by nothing.
    `took` is the nanoseconds of the last call by the runtime's own clock, where that runs in another process.
    `refused` says why a stand-in can't run these files: that is told, and is no failure. `few_types` says that the
    runtime lacks some of ONNX's types: a result in another one than the model's is compared by its values.
    """

    call: Callable[[Arrays], Arrays]
    providers: list[str]
    notes: list[str] = []
    asides: Mapping[str, Callable[[Arrays], Arrays]] = {}
    took: Callable[[], int] | None = None
    refused: str = ""
    few_types: bool = False


class RuntimeModule(Protocol):
    """What runs built files: one module in `runtimes/`, with a line in its table.

    `BOUNDS` is "" where it is the runtime itself, else what stands in for it, and what a comparison with that says and what
    not. `missing(root)` is why it can't run here for the project in `root`, "" where it can; it imports nothing heavy.
    `DISTRIBUTIONS` and `FACETS` enter the keys of what is run with it. `open` takes the folder in which a target's files
    lie under the names that they are published by, the recipe's `runtime` and the outputs' names. It raises StageError.
    """

    DISTRIBUTIONS: tuple[str, ...]
    FACETS: tuple[str, ...]
    BOUNDS: str

    def missing(self, root: Path) -> str: ...
    def open(self, folder: Path, runtime: Json, outputs: list[str]) -> Opened: ...
