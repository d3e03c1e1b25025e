"""What a recipe leaves out of `export`, filled in from what its model says of itself. Pure: data in, data out.

Works on the data as it was written, before it becomes a recipe, so that everything after this sees a whole one. Knows no
files and runs nothing; whoever asks the model hands over its `Interface`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import GenericAlias
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from onnxbuild.contracts import Interface, Json, Value
from onnxbuild.graphs import dimensions
from onnxbuild.recipe.findings import Finding, Path
from onnxbuild.recipe.types import Dim, Export, Input
from onnxbuild.text.wording import did_you_mean

OPSET = 18  # where neither the recipe nor the model says one, and the exporter gives it
_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)  # of dimensions: all different, so that a mix-up of axes can't hide
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Exporters: TypeAlias = Mapping[str, tuple[int, int]]  # each with its lowest and highest opset


class Filled(Struct, frozen=True):
    """A part of a recipe that is left out: its path, and the value that the model told, or else the `default`."""

    path: Path
    value: Json
    default: bool = False


def _written(name: str, type_: type[Struct], **other: Any) -> Any:
    """The type of a section in which anything may be left out, but for that the same; fields of `other` types aside."""
    fields = [
        (field.name, other.get(field.name, field.type) | UnsetType, UNSET) for field in msgspec.structs.fields(type_)
    ]
    return msgspec.defstruct(name, fields, frozen=True, forbid_unknown_fields=True)


_Export = _written("Export", Export, inputs=GenericAlias(dict, (str, _written("Input", Input))))


def missing(data: Any, *, opset: bool) -> list[Path]:
    """What of `export` is left out that a recipe needs; `opset` says whether the model has one of its own.

    Nothing where the section is not of the right shape: that is told of by itself.
    """
    try:
        export = msgspec.convert(data.get("export", {}) if isinstance(data, dict) else None, _Export)
    except msgspec.ValidationError:
        return []
    needed = ("inputs", "outputs", "opset") if opset else ("inputs", "outputs")
    found: list[Path] = [("export", key) for key in needed if getattr(export, key) is UNSET]
    for name, spec in export.inputs.items() if export.inputs is not UNSET else ():
        found += [("export", "inputs", name, key) for key in ("dtype", "shape") if getattr(spec, key) is UNSET]
    return found


def told(left_out: Iterable[Path], data: Any) -> list[Finding]:
    """What to say of the parts that are left out, where there is no model to ask."""
    needed = [path for path in left_out if path != ("export", "opset")]  # that has a default
    if needed and "export" not in data:
        return [Finding((), "the key 'export' is missing", "add 'export': what the model takes and gives")]
    return [
        Finding(path[:-1], f"the key '{path[-1]}' is missing", f"add '{path[-1]}'{_about(path)}") for path in needed
    ]


def _about(path: Path) -> str:
    info: Any = msgspec.inspect.type_info(Export if len(path) == 2 else Input)
    (field,) = (field for field in info.fields if field.name == path[-1])
    about = getattr(field.type, "extra_json_schema", None) or {}
    return f": {about['description']}" if "description" in about else ""


def complete(data: dict[str, Any], interface: Interface, exporters: Exporters) -> dict[str, Any]:
    """The data of a recipe with `export` filled in. The section is of the right shape as far as it goes, see `missing`."""
    export = dict(data.get("export", {}))
    dims = _Dims(interface, export)
    inputs, outputs = ({value.name: value for value in of} for of in (interface.inputs, interface.outputs))
    wanted = export.get("outputs", [*outputs])
    export["dynamic_axes"] = axes = dict(export.get("dynamic_axes", {}))
    for name in [name for name in inputs if name not in axes]:
        axes[name] = dims.of_input(inputs[name])
    for name in [name for name in wanted if name in outputs and name not in axes]:
        axes[name] = dims.of_output(outputs[name])
    export["dynamic_axes"] = axes = {name: found for name, found in axes.items() if found}
    export["dims"] = dims.known()
    given = export.get("inputs", {})
    sizes = dims.sizes(axes, given, interface)
    order = [*given] if set(given) >= set(inputs) else [*inputs, *(name for name in given if name not in inputs)]
    told_of = {name: _spec(value, axes.get(name, {}), sizes) for name, value in inputs.items()}
    export["inputs"] = {name: {**told_of.get(name, {}), **given.get(name, {})} for name in order}
    export["outputs"] = wanted
    if interface.opset:
        export.setdefault("opset", interface.opset)
    if interface.arguments is not None:
        export.setdefault("arguments", interface.arguments)
    return with_exporter({**data, "export": export}, exporters)


def untold(whole: dict[str, Any], interface: Interface) -> list[Finding]:
    """What is still missing of inputs once the model was asked: it has no such input, or does not tell that of it."""
    names = [value.name for value in interface.inputs]
    found: dict[Path, Finding] = {}
    for path in missing(whole, opset=False):
        name = str(path[2])
        if name in names:
            fact = f"the key '{path[-1]}' is missing, and the model does not tell it"
            found[path] = Finding(path[:-1], fact, f"add '{path[-1]}'{_about(path)}")
        else:
            found[path[:3]] = Finding(path[:3], f"the model has no input '{name}'", did_you_mean(name, names), key=True)
    return list(found.values())


def with_exporter(data: dict[str, Any], exporters: Exporters) -> dict[str, Any]:
    """The data with the source's own exporter, where the recipe names none, and an opset that this one gives."""
    export = data.get("export")
    if not exporters or not isinstance(export, dict):
        return data
    export = {"exporter": next(iter(exporters)), **export}
    name = export["exporter"]
    high = exporters[name][1] if isinstance(name, str) and name in exporters else OPSET
    return {**data, "export": {"opset": min(OPSET, high), **export}}


def differences(before: Any, after: Any, exporters: Exporters) -> list[Filled]:
    """What is in a filled recipe's `export` and not in the one that was written. A model that is exported tells neither an
    exporter nor an opset: these are the defaults.
    """
    ours = [("export", "exporter"), ("export", "opset")] if exporters else []
    found = _differences(("export",), before.get("export", {}), after.get("export", {}))
    return [msgspec.structs.replace(one, default=one.path in ours) for one in found]


def _differences(path: Path, old: Any, new: Any) -> Iterator[Filled]:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            yield from _differences((*path, key), old[key], value)
        elif key not in old and value != {}:
            yield Filled((*path, key), value)


class _Dims:
    """The dimensions of a model: their names, as a recipe may have them, what is known of each, and sizes."""

    def __init__(self, interface: Interface, export: Mapping[str, Any]) -> None:
        self._told: dict[str, Json] = dict(interface.dims)
        self._given: dict[str, Json] = export.get("dims", {})
        named = (dim for axes in export.get("dynamic_axes", {}).values() for dim in axes.values())
        self._used: set[str] = {*named, *self._given}

    def known(self) -> dict[str, Json]:
        """The section `dims`: as the recipe has it, and what the model tells of the others."""
        hidden = {
            other
            for name in self._used
            if isinstance(dim := self._told.get(name), str) and (expression := dimensions.known(dim)) is not None
            for other in dimensions.names(expression)
        }
        told_of = {name: dim for name, dim in self._told.items() if name in self._used | hidden}
        return {**told_of, **self._given}

    def of_input(self, value: Value) -> dict[str, str]:
        """The dynamic axes of an input, each with a name."""
        found = {}
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                own = size if size is not None and _NAME.fullmatch(size) else ""
                found[str(axis)] = own or ("batch" if axis == 0 and size is None else _plain(f"{value.name}_{axis}"))
        self._used.update(found.values())
        return found

    def of_output(self, value: Value) -> dict[str, str]:
        """The dynamic axes of an output of which something is known: a dimension of the inputs, or an expression of them."""
        named = {str(axis): self._of_others(axis, size) for axis, size in enumerate(value.shape or ())}
        return {axis: name for axis, name in named.items() if name}

    def _of_others(self, axis: int, size: int | str | None) -> str:
        if isinstance(size, int):
            return ""
        if size is None:
            return "batch" if axis == 0 and "batch" in self._used else ""
        expression = dimensions.known(size)
        if size in self._used or expression is None:
            return size if size in self._used else ""
        names = dimensions.names(expression)
        if not names or not self._used.issuperset(names):
            return ""
        same = (name for name, dim in {**self._told, **self._given}.items() if dim == size)
        name = next(same, "") or _plain(size)
        self._told.setdefault(name, size)
        self._used.add(name)
        return name

    def sizes(
        self, axes: Mapping[str, Mapping[str, str]], given: Mapping[str, Any], interface: Interface
    ) -> dict[str, int]:
        """The example's size of every dimension: as a shape that is given has it, as the model says, else a small one."""
        dims = self.known()
        sizes: dict[str, int] = {}
        for name, spec in given.items():
            shape = spec.get("shape", ())
            sizes |= {dim: shape[int(axis)] for axis, dim in axes.get(name, {}).items() if int(axis) < len(shape)}
        relations = {
            name: found
            for name, dim in dims.items()
            if isinstance(dim, str) and (found := dimensions.known(dim)) is not None
        }
        shown = (dim for value in interface.inputs for dim in axes.get(value.name, {}).values())
        hidden = (dim for relation in relations.values() for dim in dimensions.names(relation))
        fresh = iter(_SIZES)
        for dim in dict.fromkeys([*shown, *hidden]):
            if dim not in relations:
                own = interface.sizes.get(dim) or _fitting(dims.get(dim, {}), next(fresh, _SIZES[-1]))
                sizes.setdefault(dim, own)
        solved = dimensions.resolve(relations, sizes)
        return {name: size for name, size in solved.items() if size is not None} | sizes


def _plain(text: str) -> str:
    """A name that a dimension may have."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "axis"
    return name if not name[0].isdigit() else f"n{name}"


def _fitting(dim: Json, wanted: int) -> int:
    """The size in a dimension's range that is nearest above the wanted one; its largest where there is none."""
    limits = msgspec.convert(dim, Dim)
    step = limits.multiple_of
    size = -(-max(limits.min, wanted) // step) * step
    return size if isinstance(limits.max, UnsetType) or size <= limits.max else limits.max // step * step


def _spec(value: Value, axes: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, Any]:
    """An input as a recipe has it. One of whose shape nothing is known gets none."""
    if value.shape is None:
        return {"dtype": value.dtype}
    shape = [size if isinstance(size, int) else sizes[axes[str(axis)]] for axis, size in enumerate(value.shape)]
    return {"dtype": value.dtype, "shape": shape}
