"""What a torch.export.ExportedProgram says of itself: its inputs and outputs, their axes and the ranges of those.

A program holds for the sizes that it was captured for; a recipe may ask for some of them, and for no others. Imports torch
at module level; runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import gcd
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree  # torch.export's own registry; torch.utils.pytree can't be asked

from onnxbuild.contracts import Interface, Json, Value
from onnxbuild.errors import StageError
from onnxbuild.graphs import dimensions
from onnxbuild.sources.pytorch import proposal
from onnxbuild.sources.pytorch.adapter import Adapter, flatten
from onnxbuild.sources.pytorch.trials import dtype_name, shape_of

ANEW = "or export the program anew"
ASSUMED = 2  # torch's lowest size of a dynamic axis, where nobody gave one


class Line(NamedTuple):
    """An axis that is `factor` x a symbol, which goes from `low` to `high` (None: without end)."""

    symbol: Any
    factor: int
    low: int
    high: int | None


class Asked(NamedTuple):
    """What a recipe asks of an axis: sizes from `low` to `high` (None: without end) that are multiples of `step`."""

    dim: str
    low: int
    high: int | None
    step: int


def interface(program: Any) -> Interface:
    """A program's inputs and outputs, with names for its dynamic axes. Raises StageError where an input is no tensor."""
    tensors = {name: value for name, value in _inputs(program) if torch.is_tensor(value)}
    names = _dim_names(program, tensors)
    dims: dict[str, Json] = {}
    for line, name in names.items():
        dims[name] = {"min": max(1, line.low)} | ({} if line.high is None else {"max": line.high})
        dims[name] |= {"multiple_of": line.factor} if line.factor > 1 else {}
    inputs = [Value(name, dtype_name(value), _named(name, value, names, dims)) for name, value in tensors.items()]
    found = _outputs(program)
    told = proposal.names_of(list(found), tensors, whole=True)
    outputs = [Value(told[own], dtype_name(value), _shape(value, names)) for own, value in found.items()]
    return Interface(inputs, outputs, 0, dims, _sizes(program, tensors, names), _arguments(program))


def require(program: Any, adapter: Adapter, asked: Mapping[str, Mapping[int, Asked]]) -> None:
    """Raises StageError where a recipe asks for sizes that a program was not captured for; `asked` is by input and axis."""
    problems: list[tuple[str, str]] = []
    values = dict(_inputs(program))
    owners: dict[Any, tuple[str, str]] = {}
    for name, own in _placeholders(program, adapter).items():
        for axis, wanted in asked.get(name, {}).items():
            size = shape_of(values[own])[axis]
            line = _line(size, program)
            problems += _wrong(f"axis {axis} of {name}", size, line, wanted)
            if line is not None and wanted.dim:
                place, dim = owners.setdefault(line.symbol, (f"axis {axis} of {name}", wanted.dim))
                if dim != wanted.dim and line.factor == 1:
                    fact = f"axis {axis} of {name} is one dimension with {place} in the program"
                    problems.append((fact, f"call it '{dim}' in export.dynamic_axes"))
    if problems:
        raise StageError("\n".join(fact for fact, _ in problems), problems[0][1])


def asked_by_recipe(export: Mapping[str, Json]) -> dict[str, dict[int, Asked]]:
    """What a recipe's `export` asks of its inputs' axes; a related dimension asks for no range by itself."""
    found: dict[str, dict[int, Asked]] = {}
    dims = export.get("dims", {})
    for name, of in ((name, export.get("dynamic_axes", {}).get(name, {})) for name in export["inputs"]):
        for axis, dim in of.items():
            limits = dims.get(dim, {})
            if not isinstance(limits, str):
                step = limits.get("multiple_of", 1)
                found.setdefault(name, {})[int(axis)] = Asked(dim, limits.get("min", 1), limits.get("max"), step)
            else:
                found.setdefault(name, {})[int(axis)] = Asked("", 0, None, 0)
    return found


def asked_by_cases(cases: Sequence[Mapping[str, Json]]) -> dict[str, dict[int, Asked]]:
    """What cases ask of the inputs' axes that have several sizes in them."""
    found: dict[str, dict[int, Asked]] = {}
    for name, shape in cases[0]["shapes"].items():
        for axis in range(len(shape)):
            seen = [case["shapes"][name][axis] for case in cases]
            if len({*seen}) > 1:
                same = (dim for dim in cases[0]["dims"] if [case["dims"][dim] for case in cases] == seen)
                asked = Asked(next(same, ""), min(seen), max(seen), gcd(*seen))
                found.setdefault(name, {})[axis] = asked
    return found


def _wrong(place: str, size: Any, line: Line | None, asked: Asked) -> Iterator[tuple[str, str]]:
    named = f" ('{asked.dim}')" if asked.dim else ""
    where = f"export.dims.{asked.dim}" if asked.dim else "export.dims"
    if isinstance(size, int):
        fact = f"{place} is {size} in the program, whatever goes in, and dynamic in the recipe{named}"
        yield fact, f"take it out of export.dynamic_axes, {ANEW} with that axis dynamic"
    elif line is not None and asked.step:
        low, high = line.low if line.low > ASSUMED * line.factor else 0, line.high
        if asked.low < low or (high is not None and asked.high is not None and asked.high > high):
            goes = f"from {line.low}{'' if high is None else f' to {high}'}"
            to = f" to {asked.high}" if asked.high is not None else ""
            fact = f"{place} goes {goes} in the program, in the recipe{named} from {asked.low}{to}"
            yield fact, f"narrow {where}, {ANEW} for a wider range"
        if asked.step % line.factor:
            fact = f"{place} has multiples of {line.factor} in the program, in the recipe{named} others too"
            yield fact, f"say so in {where}: {{multiple_of: {line.factor}}}"


def _inputs(program: Any) -> Iterator[tuple[str, Any]]:
    """What the user hands in, in order, by the program's names: a tensor that knows its shape, or the constant."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        if spec.kind == torch.export.graph_signature.InputKind.USER_INPUT:
            constant = hasattr(spec.arg, "value")
            yield spec.arg.name, spec.arg.value if constant else nodes[spec.arg.name].meta["val"]


def _outputs(program: Any) -> dict[str, Any]:
    """The tensors that come out, by their dotted names."""
    nodes = {node.name: node.meta.get("val") for node in program.graph.nodes}
    leaves = [
        None if hasattr(spec.arg, "value") else nodes.get(spec.arg.name)
        for spec in program.graph_signature.output_specs
        if spec.kind == torch.export.graph_signature.OutputKind.USER_OUTPUT
    ]
    result = pytree.tree_unflatten(leaves, program.call_spec.out_spec)
    return {name: leaf for name, leaf in flatten(result) if torch.is_tensor(leaf)}


def _placeholders(program: Any, adapter: Adapter) -> dict[str, str]:
    """The program's own name of each of a recipe's inputs, by how the adapter calls it."""
    own = [name for name, _ in _inputs(program)]
    leaves = pytree.tree_leaves(adapter.arguments({name: _Mark(name) for name in adapter.names}))
    return {leaf.name: name for name, leaf in zip(own, leaves, strict=False) if isinstance(leaf, _Mark)}


class _Mark:
    """Stands for an input where it goes."""

    def __init__(self, name: str) -> None:
        self.name = name


def _line(size: Any, program: Any) -> Line | None:
    """A symbolic size as a multiple of one symbol; None for a number, and for any other expression."""
    if isinstance(size, int):
        return None
    expression = size.node.expr
    symbols = list(expression.free_symbols)
    if len(symbols) != 1:
        return None
    factor = expression.coeff(symbols[0])
    if expression != factor * symbols[0] or not factor.is_Integer or factor < 1:
        return None
    own = program.range_constraints.get(expression)  # of the axis itself, which says more than that of its symbol
    low, high = _range(own or program.range_constraints.get(symbols[0]))
    times = 1 if own is not None else int(factor)
    return Line(symbols[0], int(factor), times * low, None if high is None else times * high)


def _range(limits: Any) -> tuple[int, int | None]:
    """The ends of one of torch's ranges; None for no upper end."""
    if limits is None:
        return 0, None
    low, high = (
        int(one) if getattr(one, "is_Integer", isinstance(one, int)) else None for one in (limits.lower, limits.upper)
    )
    return low or 0, high


def _dim_names(program: Any, tensors: Mapping[str, Any]) -> dict[Line, str]:
    """A name for each dynamic axis that is a multiple of one symbol; each symbol by its smallest multiple."""
    lines: dict[Any, Line] = {}
    places: dict[Any, list[tuple[str, int]]] = {}
    for name, value in tensors.items():
        for axis, size in enumerate(shape_of(value)):
            if (line := _line(size, program)) is not None:
                if line.symbol not in lines or line.factor < lines[line.symbol].factor:
                    lines[line.symbol], places[line.symbol] = line, []
                if line.factor == lines[line.symbol].factor:
                    places[line.symbol].append((name, axis))
    described = {name: {"dtype": dtype_name(value), "shape": [*value.shape]} for name, value in tensors.items()}
    names = proposal.names(described, [places[symbol] for symbol in lines])
    return dict(zip(lines.values(), names, strict=True))


def _named(name: str, value: Any, names: Mapping[Line, str], dims: dict[str, Json]) -> list[int | str | None]:
    """An input's shape in which each dynamic axis has a name; what it is of others, if it can be said, goes to `dims`."""
    shape = _shape(value, names)
    for axis, text in enumerate(shape):
        if isinstance(text, str) and text not in dims:
            found = next((dim for dim, said in dims.items() if said == text), "")
            shape[axis] = found or proposal.unused(proposal.own((name, axis)), dims)
            dims[str(shape[axis])] = text
    return shape


def _shape(value: Any, names: Mapping[Line, str]) -> list[int | str | None]:
    """A shape with what each axis is of the named dimensions; None where that can't be said."""
    by_symbol = {
        line.symbol: line.symbol.func(dim, integer=True, positive=True) / line.factor for line, dim in names.items()
    }
    shape: list[int | str | None] = []
    for size in shape_of(value):
        text = size if isinstance(size, int) else str(size.node.expr.xreplace(by_symbol))
        parsed = None if isinstance(text, int) else dimensions.known(text)
        unsaid = isinstance(text, str) and (parsed is None or not set(dimensions.names(parsed)) <= set(names.values()))
        shape.append(None if unsaid else text)
    return shape


def _sizes(program: Any, tensors: Mapping[str, Any], names: Mapping[Line, str]) -> dict[str, int]:
    """The sizes that the program was captured at, where it keeps its example."""
    found: dict[str, int] = {}
    leaves = pytree.tree_leaves(program.example_inputs) if program.example_inputs else []
    examples = dict(zip((name for name, _ in _inputs(program)), leaves, strict=False))
    for name, value in tensors.items():
        for axis, size in enumerate(shape_of(value)):
            line = _line(size, program)
            if line is not None and line in names and torch.is_tensor(examples.get(name)):
                found.setdefault(names[line], examples[name].shape[axis])
    return found


def _arguments(program: Any) -> Json:
    """How the program is called, as a recipe says it; None where each input is a parameter of its own."""
    inputs = list(_inputs(program))
    leaves = [name if torch.is_tensor(value) else {"constant": value} for name, value in inputs]
    args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    if all(isinstance(one, str) for one in (*args, *kwargs.values())):
        return None
    return {"args": _listed(args), "kwargs": _listed(kwargs)}


def _listed(value: Any) -> Json:
    """Nested arguments in lists and mappings. Raises StageError where they nest in anything else."""
    if isinstance(value, tuple | list):
        return [_listed(item) for item in value]
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    fact = f"the program takes a {type(value).__name__}, which no recipe can say"
    raise StageError(fact, "export it from a module that takes tensors, lists and mappings")
