"""What must hold between an export's inputs, outputs, axes, dimensions and arguments, and sizes asked for elsewhere.

Pure: takes the recipe's types, gives findings. Knows no YAML and no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from msgspec import UNSET

from onnxbuild.recipe import relations
from onnxbuild.recipe.findings import Finding, Path
from onnxbuild.recipe.relations import Use, uses
from onnxbuild.recipe.running import Benchmark
from onnxbuild.recipe.types import Arguments, Dim, Export, Parity
from onnxbuild.text.wording import did_you_mean, nearest


def check(export: Export) -> Iterator[Finding]:
    """What holds within the `export` section, whatever the source."""
    yield from _names(export)
    yield from _dynamic_axes(export)
    yield from _dims(export)
    yield from _examples(export)
    yield from relations.check(export)
    if export.arguments is not UNSET:
        yield from _arguments(export, export.arguments)


def opset(export: Export, exporters: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    """An exporter that the source has, and an opset that it really gives; `exporters` are the source's, each with its
    lowest and highest.
    """
    if export.exporter not in exporters:
        fact = f"there is no exporter '{export.exporter}' for this source"
        yield Finding(("export", "exporter"), fact, f"use {' or '.join(exporters)}, or leave it out")
        return
    low, high = exporters[export.exporter]
    others = [name for name, (least, most) in exporters.items() if least <= export.opset <= most]
    if not low <= export.opset <= high:
        hint = f"raise it to {low}" if export.opset < low else f"lower it to {high}"
        hint += "".join(f", or use exporter: {name}" for name in others)
        if export.opset > high and not others:
            hint += f", and let the pass convert_opset make {export.opset} of it"
        fact = f"the {export.exporter} exporter gives opsets {low} to {high}, not {export.opset}"
        yield Finding(("export", "opset"), fact, hint)


def for_exporters(export: Export, *, strings: bool) -> Iterator[Finding]:
    """What an .onnx file may have, and no exporter gives; `strings` is whether the source's inputs may be text."""
    for index, name in enumerate(export.outputs):
        if name in export.inputs:
            fact = f"'{name}' is the name of an input, too"
            hint = "an exporter gives an input and an output names of their own"
            yield Finding(("export", "outputs", index), fact, hint)
    for name, spec in export.inputs.items():
        if spec.dtype == "string" and not strings:
            fact = f"'{name}' is a string, and a tensor of torch holds numbers"
            yield Finding(("export", "inputs", name, "dtype"), fact, "strings are for .onnx files")
    if not export.inputs:
        yield Finding(("export", "inputs"), "must not be empty", "an exporter traces a model from its inputs")


def sizes_asked(export: Export, parity: Parity | None, benchmark: Benchmark | None) -> Iterator[Finding]:
    """The sizes of named parity cases and of the benchmark: of dimensions there are, within their range."""
    if parity is not None:
        for name, case in parity.cases.items():
            yield from sizes(export, ("parity", "cases", name, "dims"), case.dims)
            for input_ in case.data:
                if input_ not in export.inputs:
                    path = ("parity", "cases", name, "data", input_)
                    yield Finding(path, f"unknown input '{input_}'", did_you_mean(input_, export.inputs), key=True)
    if benchmark is not None:
        yield from sizes(export, ("benchmark", "dims"), benchmark.dims)


def sizes(export: Export, path: Path, asked: Mapping[str, int]) -> Iterator[Finding]:
    """Sizes that are asked for: of dimensions there are, within their range, and not of those that follow from others."""
    known = relations.free(export)
    for name, size in asked.items():
        if name in export.related:
            fact = f"the size of '{name}' follows from {export.related[name]}"
            yield Finding((*path, name), fact, "give sizes of those", key=True)
        elif name not in known:
            hint = did_you_mean(name, known) or "no input axis is dynamic; see export.dynamic_axes"
            yield Finding((*path, name), f"unknown dimension '{name}'", hint, key=True)
        else:
            wrong = _outside(export.limits(name), size)
            if wrong:
                yield Finding((*path, name), f"the size {size} of '{name}' {wrong}", f"see export.dims.{name}")
    chosen = {name: size for name, size in asked.items() if name in known}
    if chosen and (why := relations.all_sizes(export, {**known, **chosen})[1]):
        yield Finding(path, why, "give other sizes")


def _names(export: Export) -> Iterator[Finding]:
    for index, name in enumerate(export.outputs):
        path = ("export", "outputs", index)
        if name in export.outputs[:index]:
            yield Finding(path, f"output '{name}' is named twice", "give every output a name of its own")


def _dynamic_axes(export: Export) -> Iterator[Finding]:
    for name, axes in export.dynamic_axes.items():
        path = ("export", "dynamic_axes", name)
        if name in export.inputs:
            shape = export.inputs[name].shape
            for axis in axes:
                if int(axis) >= len(shape):
                    fact = f"axis {axis} of input '{name}' is out of range: its shape {shape} has {_axes(len(shape))}"
                    yield Finding((*path, axis), fact, "axes are counted from 0", key=True)
        elif name not in export.outputs:
            hint = did_you_mean(name, (*export.inputs, *export.outputs))
            kind = "output" if nearest(name, export.outputs) == hint else "input or output"
            kind = "input" if nearest(name, export.inputs) == hint else kind
            yield Finding(path, f"unknown {kind} '{name}'", hint, key=True)


def _axes(count: int) -> str:
    return "no axes" if count == 0 else "axis 0 only" if count == 1 else f"axes 0 to {count - 1}"


def _dims(export: Export) -> Iterator[Finding]:
    named = {dim for axes in export.dynamic_axes.values() for dim in axes.values()}
    used = dict.fromkeys(use.dim for use in uses(export))
    astray = {dim for name, axes in export.dynamic_axes.items() if name not in export.outputs for dim in axes.values()}
    for name, dim in export.dims.items():
        path = ("export", "dims", name)
        if relations.is_used(export, name):
            used.setdefault(name)
        if name not in named and name not in used:
            hint = did_you_mean(name, dict.fromkeys(chain(used, sorted(named))))
            fact = f"no axis in dynamic_axes uses the dimension '{name}'"
            yield Finding(path, fact, hint or "name it in dynamic_axes, or remove it", key=True)
        elif name not in used and name not in astray and not isinstance(dim, str):
            fact = f"the dimension '{name}' is on no input axis, so its sizes follow from the others"
            yield Finding(path, fact, "remove it from dims, or say how they follow, as in total: past + 1", key=True)
        if isinstance(dim, str):
            continue  # what an expression says, `relations` looks at
        if dim.max is not UNSET and dim.min > dim.max:
            yield Finding((*path, "min"), f"min {dim.min} is more than max {dim.max}")
        elif dim.max is not UNSET and dim.max // dim.multiple_of * dim.multiple_of < dim.min:
            fact = f"no multiple of {dim.multiple_of} lies between min {dim.min} and max {dim.max}"
            yield Finding((*path, "multiple_of"), fact)


def _examples(export: Export) -> Iterator[Finding]:
    first: dict[str, Use] = {}
    for use in uses(export):
        path = ("export", "inputs", use.input, "shape", use.axis)
        wrong = "" if use.dim in export.related else _outside(export.limits(use.dim), use.size)
        if wrong:
            fact = f"the example's size {use.size} on axis {use.axis} ('{use.dim}') {wrong}"
            yield Finding(path, fact, f"change it, or export.dims.{use.dim}")
        other = first.setdefault(use.dim, use)
        if other.size != use.size:
            fact = (
                f"the dimension '{use.dim}' has the size {use.size} here, "
                f"and {other.size} on axis {other.axis} of input '{other.input}'"
            )
            yield Finding(path, fact, "one dimension has one size; give one of the axes another name")


def _outside(dim: Dim, size: int) -> str:
    """What keeps a size out of a dimension's range, "" where nothing does."""
    if dim.max is not UNSET and dim.min > dim.max:
        return ""  # the range itself is wrong
    if size < dim.min:
        return f"is less than its min {dim.min}"
    if dim.max is not UNSET and size > dim.max:
        return f"is more than its max {dim.max}"
    return "" if size % dim.multiple_of == 0 else f"is not a multiple of {dim.multiple_of}"


def _arguments(export: Export, arguments: Arguments) -> Iterator[Finding]:
    path = ("export", "arguments")
    used = set()
    kwargs = (((*path, "kwargs", key), item) for key, item in arguments.kwargs.items())
    for leaf, value in chain(_leaves((*path, "args"), arguments.args), *(_leaves(*item) for item in kwargs)):
        if isinstance(value, dict):
            fact = f"a constant stands alone, and here are {', '.join(map(repr, value))}"
            yield Finding(leaf, fact, "write {constant: ...}; a mapping that has that key itself is one, too")
        elif value in export.inputs:
            used.add(value)
        else:
            hint = nearest(value, export.inputs)
            ours = "a string here is the name of an input; write {constant: ...} for a string"
            yield Finding(leaf, f"unknown input '{value}'", hint or ours)
    for name in export.inputs:
        if name not in used:
            yield Finding(path, f"input '{name}' is never used", "name it in args or kwargs, or remove it from inputs")


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """Every string of a nested value, with its path, but for constants; mappings that are a constant and more."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict) and "constant" in value:
        if len(value) > 1:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves((*path, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves((*path, index), item)
