"""Holds a graph against the recipe: ONNX's own checker, the promised interface, and what the runtime can read.

Everything that is wrong comes in one error. Sees the graph only: whether it computes the right values is for parity.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.graphs import checker, dimensions, interface, lost_axes, tensors, weights
from onnxbuild.graphs.axes import Wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto, NodeProto

    from onnxbuild.contracts import Json

VERSION = 5
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("numpy", "onnx", "onnxruntime")
TRAITS = frozenset({Trait.DESCRIBES})
FIELDS: dict[str, tuple[str, ...]] = {
    "related": ("export", "dims"),
    **{name: ("export", name) for name in ("inputs", "outputs", "dynamic_axes", "opset")},
}

FIXED = (
    "a dynamic dimension was fixed: look for int(x.shape[i]), len(x) or .item() in the model's code, "
    "give the example 2 or more there, or take the axis out of export.dynamic_axes"
)
UNDECLARED = (
    "declare the axis in export.dynamic_axes; where it has one size only, "
    "give its dimension that one in export.dims, as in {min: 48, max: 48}"
)

# Written by onnxruntime's offline optimiser above "basic": layouts and kernels of the machine that it ran on.
HARDWARE_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")


def run(task: Task) -> Outcome:
    """Facts: the fields of `report.types.Graph`, less the stage, and `notes`."""
    from onnxbuild.graphs import modelfile

    path = task.inputs["graph"]
    model = modelfile.structure(path)
    signature = interface.signature(model)
    inferred = inferred_shapes(model)
    found, notes = interface_problems(signature, inferred, task.options)
    refused, remarks = checker.problems(path)
    notes += remarks
    problems = [
        *refused,
        *found,
        *version_problems(model, task.options),
        *runtime_problems(model),
    ]
    if problems:
        problems += _lost(model, found, task.options)
        raise StageError("\n".join(one.fact for one in problems), next((one.hint for one in problems if one.hint), ""))
    ops, dtypes = operators(model), weights.counted(model)
    bound = sorted(name for name in ops if name.rpartition("::")[0] in HARDWARE_DOMAINS)
    if bound:
        notes.append(f"bound to hardware like this machine's: {', '.join(bound)}")
    facts = {
        "opset_imports": {entry.domain: entry.version for entry in model.opset_import},
        "ir_version": model.ir_version,
        **signature,
        "nodes": sum(ops.values()),
        "ops": ops,
        "parameters": sum(dtypes.values()),
        "dtypes": dtypes,
        "bytes": size(path, model),
        **dict(zip(("graph_sha256", "weights_sha256"), weights.digests(model), strict=True)),
        "notes": notes,
    }
    return Outcome(facts=facts)


def inferred_shapes(model: ModelProto) -> dict[str, list[int | str | None] | None]:
    """The outputs' shapes as ONNX infers them from the nodes alone, whatever the graph says of its outputs."""
    import onnx

    bare = type(model)()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        bare = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # noqa: BLE001  # inference is only a second opinion here; the checker reports what is wrong
        return {}
    return {value["name"]: value["shape"] for value in interface.signature(bare)["outputs"]}


def interface_problems(
    signature: Mapping[str, Json], inferred: Mapping[str, Json], options: Json
) -> tuple[list[Wrong], list[str]]:
    """Where inputs and outputs are not what the recipe promises, and what is only worth a note."""
    dynamic: Mapping[str, Mapping[str, str]] = options["dynamic_axes"]
    problems: list[Wrong] = []
    notes: list[str] = []
    for role, wanted in (("input", list(options["inputs"])), ("output", options["outputs"])):
        problems += _name_problems(role, wanted, [value["name"] for value in signature[f"{role}s"]])
    for value in signature["inputs"]:
        spec = options["inputs"].get(value["name"])
        if spec is not None:
            found, renamed = _input_problems(value, spec, dynamic.get(value["name"], {}))
            problems += found
            notes += renamed
    declared = {dim for axes in dynamic.values() for dim in axes.values()}
    for value in signature["outputs"]:
        if value["name"] in options["outputs"]:
            axes = dynamic.get(value["name"], {})
            found, unknown = _output_problems(value, inferred.get(value["name"]), axes, declared)
            problems += found + _contradictions(value, axes, declared, options.get("related", {}))
            notes += unknown
    return problems, notes


def _name_problems(role: str, wanted: list[str], found: list[str]) -> list[Wrong]:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    dropped = "an input that the model does not use is dropped by exporters; take it out of export.inputs"
    hint = dropped if role == "input" else ""
    problems = [Wrong(f"{role} '{name}' is not in the graph", hint) for name in missing]
    problems += [Wrong(f"the graph has an {role} '{name}' that export.{role}s does not name") for name in extra]
    if not problems and wanted != found:
        problems.append(Wrong(f"{role}s are in the order {', '.join(found)}; the recipe says {', '.join(wanted)}"))
    return problems


def _input_problems(value: Json, spec: Json, axes: Mapping[str, str]) -> tuple[list[Wrong], list[str]]:
    name, shape = f"input '{value['name']}'", value["shape"]
    problems: list[Wrong] = []
    notes: list[str] = []
    if value["dtype"] != spec["dtype"]:
        problems.append(Wrong(f"{name} is {value['dtype']}; the recipe says {spec['dtype']}"))
    if shape is None:
        return problems, [f"{name} has no shape in the graph; every case feeds the recipe's"]
    if len(shape) != len(spec["shape"]):
        fact = f"{name} has rank {len(shape)}; the recipe's shape {spec['shape']} has rank {len(spec['shape'])}"
        return [*problems, Wrong(fact)], []
    for axis, (size, example) in enumerate(zip(shape, spec["shape"], strict=True)):
        dim = axes.get(str(axis))
        if dim is None and not isinstance(size, int):
            fact = f"{name}, axis {axis} is dynamic ({_shown(size)}); the recipe says static {example}"
            problems.append(Wrong(fact, UNDECLARED))
        elif dim is None and size != example:
            problems.append(Wrong(f"{name}, axis {axis} is static {size}; the recipe says {example}"))
        elif dim is not None and isinstance(size, int):
            problems.append(Wrong(f"{name}, axis {axis} ({dim}) is static {size}", FIXED))
        elif dim is not None and size != dim:
            notes.append(f"{name}, axis {axis} ({dim}) is called {_shown(size)} in the graph")
    return problems, notes


def _output_problems(
    value: Json, inferred: Json, axes: Mapping[str, str], declared: set[str]
) -> tuple[list[Wrong], list[str]]:
    name, shape = f"output '{value['name']}'", value["shape"] if value["shape"] is not None else inferred
    if shape is None:
        return [], [f"{name} has no shape in the graph; parity checks its sizes in every case"]
    if inferred is None or len(inferred) != len(shape):
        inferred = [None] * len(shape)
    notes = []
    problems = [
        Wrong(f"{name} has rank {len(shape)}, so there is no axis {axis} ({dim})")
        for axis, dim in axes.items()
        if int(axis) >= len(shape)
    ]
    for axis, (size, computed) in enumerate(zip(shape, inferred, strict=True)):
        dim = axes.get(str(axis))
        fixed = next((s for s in (size, computed) if isinstance(s, int)), None)
        if dim is not None and fixed is not None:
            problems.append(Wrong(f"{name}, axis {axis} ({dim}) is static {fixed}", FIXED))
        elif dim is None and fixed is None and (named := _of_dims(size, declared) if value["shape"] else ""):
            problems.append(Wrong(f"{name}, axis {axis} is dynamic ({named}), which export.dynamic_axes does not say"))
        elif dim is None and fixed is None:
            notes.append(f"{name}, axis {axis} has no fixed size in the graph; parity checks it in every case")
    return problems, notes


def _lost(model: ModelProto, found: list[Wrong], options: Json) -> Iterator[Wrong]:
    """The nodes at which dynamic axes of outputs become static ones, by name: where they come from, others can tell."""
    for output in options["outputs"]:
        for axis, dim in options["dynamic_axes"].get(output, {}).items():
            fixed = any(one.fact.startswith(f"output '{output}', axis {axis} ({dim}) is static") for one in found)
            if fixed and (name := lost_axes.ends_at(model, output, dim)):
                yield Wrong(f"    {dim} ends at node '{name}'")


def _contradictions(
    value: Json, axes: Mapping[str, str], declared: set[str], related: Mapping[str, str]
) -> list[Wrong]:
    """Axes that the graph says to be another dimension, or another expression, than the recipe does."""
    shape = value["shape"] or []
    return [
        Wrong(f"output '{value['name']}', axis {axis} is '{shape[int(axis)]}' in the graph; the recipe says '{dim}'")
        for axis, dim in axes.items()
        if int(axis) < len(shape)
        and isinstance(shape[int(axis)], str)
        and dimensions.contradicts(shape[int(axis)], dim, related, declared)
    ]


def _of_dims(name: str | None, declared: set[str]) -> str:
    """A name that is made of a declared dimension, "batch" or "2*batch"; "" for any other."""
    return name if name and set(re.findall(r"\w+", name)) & declared else ""


def _shown(size: str | None) -> str:
    return "without a name" if size is None else f"'{size}'"


def version_problems(model: ModelProto, options: Json) -> list[Wrong]:
    """Whether the default operator set is the one that was asked for, after the export and after every pass."""
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    found = versions.get("ai.onnx")
    if found in (options["opset"], None):  # a graph of another domain's operators alone has none
        return []
    return [Wrong(f"the graph is of opset {found}; the recipe says {options['opset']}")]


def runtime_problems(model: ModelProto) -> list[Wrong]:
    """Whether this onnxruntime reads models of that opset and that IR version: it is asked, with a tiny one."""
    import onnxruntime as ort

    from onnxbuild.runtimes import onnxruntime

    opset = interface.opset(model) or 17
    models = {
        f"opset {opset}": onnxruntime.tiny_model(opset=opset),
        f"IR version {model.ir_version}": onnxruntime.tiny_model(ir_version=model.ir_version),
    }
    refusals = {what: onnxruntime.refusal(tiny) for what, tiny in models.items()}
    hint = "lower the model's opset, or install a newer onnxruntime"
    return [
        Wrong(f"onnxruntime {ort.__version__} can't read {what}: {why}", hint) for what, why in refusals.items() if why
    ]


def operators(model: ModelProto) -> dict[str, int]:
    """How many nodes of each operator there are, in subgraphs and in the model's functions too, most frequent first."""
    counts: dict[str, int] = {}
    for node in _nodes(model):
        name = node.op_type if tensors.is_standard(node.domain) else f"{node.domain}::{node.op_type}"
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for body in tensors.bodies(model):
        yield from body.node


def size(path: str, model: ModelProto) -> int:
    """The bytes of the graph's file and of its tensors, one that several initializers share counted once."""
    from pathlib import Path

    shared: dict[Any, int] = {}
    for tensor in (*tensors.large_candidates(model), *tensors.other_tensors(model)):
        if tensors.is_external(tensor):
            where = {entry.key: entry.value for entry in tensor.external_data}
            shared[where["location"], where.get("offset", "0")] = tensors.nbytes(tensor)
    return Path(path).stat().st_size + sum(shared.values())
