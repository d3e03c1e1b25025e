"""All of two models: what surrounds their graphs, the main graphs, and the functions that both have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.graphs import interface, lines, mapped, stamps, tensors, weights
from onnxbuild.graphs.comparison import defaults, graphs
from onnxbuild.graphs.comparison.bodies import Body
from onnxbuild.report.changes import Fact, Number, OpCount, Structure
from onnxbuild.system import files
from onnxbuild.text import units

if TYPE_CHECKING:
    from onnx import ModelProto


class Compared(NamedTuple):
    """What is different between two models' files."""

    interface: list[Fact]
    model: list[Fact]
    ops: list[OpCount]
    structure: Structure
    sizes: list[Number]


def compare(before: Path, after: Path, traced: graphs.Sides = (None, None)) -> Compared:
    """Compare two .onnx files with their external data; `traced` says where the nodes of each come from. Raises UserError
    where one can't be read, and StageError where the data of a tensor is missing or doesn't fit it.
    """
    one, other = mapped.read(before), mapped.read(after)
    for model in (one, other):
        defaults.fill(model)
    told = graphs.Told(traced)
    folders = (before.parent, after.parent)
    main = (Body(one.graph), Body(other.graph))
    values = graphs.paired_interface(one, other)
    names = graphs.compare_bodies(main, folders, values, told)
    for key, pair in _functions(one, other).items():
        if pair[0] and pair[1]:
            both = (Body(pair[0], f"function {key}"), Body(pair[1], f"function {key}"))
            graphs.compare_bodies(both, folders, graphs.by_place(*both), told)
    return Compared(
        _interface(one, other, names),
        list(_model(one, other)),
        op_counts(_ops(one), _ops(other)),
        Structure(told.matched, told.removed, told.added, told.changed, told.tensors),
        _sizes((one, other), (before, after)),
    )


def op_counts(before: Mapping[str, int], after: Mapping[str, int]) -> list[OpCount]:
    """The operators of which there are not as many on both sides."""
    every = sorted({*before, *after})
    counts = (OpCount(op, before.get(op, 0), after.get(op, 0)) for op in every)
    return [one for one in counts if one.before != one.after]


def _ops(model: ModelProto) -> Counter[str]:
    return Counter(lines.op(node) for body in tensors.bodies(model) for node in body.node)


def _interface(one: ModelProto, other: ModelProto, names: graphs.Values) -> list[Fact]:
    """Inputs and outputs that are not the same; `names` says which is which."""
    signatures = [interface.signature(model) for model in (one, other)]
    found = []
    for side, known in (("input", names.inputs), ("output", names.outputs)):
        old, new = ({value["name"]: value for value in signature[f"{side}s"]} for signature in signatures)
        for name, value in old.items():
            now = new.get(known.get(name, ""))
            if now is None:
                found.append(Fact(f"{side} {_quoted(name)}", _kind(value), None))
                continue
            if now["name"] != name:
                found.append(Fact(f"name of {side} {_quoted(name)}", name, now["name"]))
            if _kind(value) != _kind(now):
                found.append(Fact(f"{side} {_quoted(now['name'])}", _kind(value), _kind(now)))
        found += [
            Fact(f"{side} {_quoted(name)}", None, _kind(value))
            for name, value in new.items()
            if name not in known.values()
        ]
        orders = [known[name] for name in old if name in known], [name for name in new if name in known.values()]
        if orders[0] != orders[1]:
            found.append(Fact(f"order of the {side}s", ", ".join(orders[0]), ", ".join(orders[1])))
    return found


def _kind(value: Mapping[str, Any]) -> str:
    return f"{value['dtype']}{'' if value['shape'] is None else units.shape(value['shape'])}"


def _quoted(name: str) -> str:
    return f"'{name}'"


def _model(one: ModelProto, other: ModelProto) -> Iterable[Fact]:
    """What is said of a model as a whole."""
    imports = [{_domain(entry.domain): str(entry.version) for entry in model.opset_import} for model in (one, other)]
    for domain in sorted({*imports[0], *imports[1]}):
        yield from _fact(f"opset{domain and f' of {domain}'}", imports[0].get(domain), imports[1].get(domain))
    fields = {
        "ir_version": "IR version", "producer_name": "producer", "producer_version": "producer's version",
        "domain": "domain", "model_version": "model version", "doc_string": "doc string",
    }  # fmt: skip
    for field, subject in fields.items():
        yield from _fact(subject, *(str(getattr(model, field)) or None for model in (one, other)))
    notes = [{entry.key: entry.value for entry in model.metadata_props} for model in (one, other)]
    for key in sorted({*notes[0], *notes[1]} - stamps.KEYS):  # a recipe is a cause, and compared as one
        yield from _fact(f"metadata {_quoted(key)}", notes[0].get(key), notes[1].get(key))
    for key, (a, b) in _functions(one, other).items():
        sizes = [None if function is None else units.plural(len(function.node), "node") for function in (a, b)]
        if a is None or b is None:
            yield Fact(f"function {key}", sizes[0], sizes[1])
    if [t.SerializeToString(deterministic=True) for t in one.training_info] != [
        t.SerializeToString(deterministic=True) for t in other.training_info
    ]:
        counts = [f"{units.plural(len(model.training_info), 'entry')}, of its own" for model in (one, other)]
        yield Fact("training_info", *counts)


def _fact(subject: str, before: str | None, after: str | None) -> Iterable[Fact]:
    if before != after:
        yield Fact(subject, before, after)


def _domain(domain: str) -> str:
    return "" if tensors.is_standard(domain) else domain


def _functions(one: ModelProto, other: ModelProto) -> dict[str, tuple[Any, Any]]:
    """The functions of both by what they are called."""
    sides = [
        {"::".join(filter(None, (f.domain, f.name, f.overload))): f for f in model.functions} for model in (one, other)
    ]
    return {key: (sides[0].get(key), sides[1].get(key)) for key in sorted({*sides[0], *sides[1]})}


def _sizes(models: tuple[ModelProto, ModelProto], paths: tuple[Path, Path]) -> list[Number]:
    """Parameters, and bytes of the model's files."""
    counts = [sum(weights.counted(model).values()) for model in models]
    data = [
        path.stat().st_size + sum(map(_size, _beside(model, path))) for model, path in zip(models, paths, strict=True)
    ]
    nodes = [sum(_ops(model).values()) for model in models]
    found = [
        Number("nodes", float(nodes[0]), float(nodes[1]), "nodes"),
        Number("parameters", float(counts[0]), float(counts[1]), "parameters"),
        Number("size", float(data[0]), float(data[1]), "bytes"),
    ]
    return [one for one in found if one.before != one.after]


def _size(path: Path) -> int:
    return path.stat().st_size if not files.kind_of(path.stat().st_mode) else 0


def _beside(model: ModelProto, path: Path) -> set[Path]:
    """The files of a model's external data, itself left out."""
    every = (*tensors.large_candidates(model), *tensors.other_tensors(model))
    named = {tensors.location(tensor) for tensor in every if tensors.is_external(tensor)} - {path.name}
    return {path.parent / name for name in named if (path.parent / name).exists()}
