"""What an existing ONNX file takes and gives, held against what a recipe declares of it.

Works on the interface as plain data (`graphs.interface.signature`) and on the messages of outputs; runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface
from onnxbuild.parity.arrays import DTYPES

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_ZIPMAP = 'convert the model with options={"zipmap": False} (skl2onnx), or zipmap=False (onnxmltools)'


def require(model: ModelProto, file: str, inputs: Mapping[str, Mapping[str, Any]], outputs: Sequence[str]) -> list[str]:
    """Notes on the outputs of the file that are left out: those that the recipe does not declare.

    Raises StageError where a declared name is not the file's, where an input is not declared, where element types, ranks or
    fixed sizes differ, and where a declared value is no tensor, or one of a type that no recipe can say.
    """
    found = interface.signature(model)
    given = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    for role, names in (("input", list(inputs)), ("output", list(outputs))):
        for name in (value["name"] for value in found[f"{role}s"]):
            if name in names and (what := _unbuildable(given[name])):
                raise StageError(f"{file}: {_refusal(role, name, what)}", _remedy(what))
    overridable = {value.name for value in model.graph.input} - {value["name"] for value in found["inputs"]}
    _names("input", list(inputs), [value["name"] for value in found["inputs"]], file, overridable)
    left = [value["name"] for value in found["outputs"] if value["name"] not in outputs]
    _names("output", [*outputs, *left], [value["name"] for value in found["outputs"]], file, set())
    _shapes(found["inputs"], inputs, file)
    return [f"output '{name}' is {_what_left(given[name])}: it is left out" for name in left]


def _what_left(value: ValueInfoProto) -> str:
    return "no tensor that can be built, and not declared" if _unbuildable(value) else "not declared"


def left_out(model: ModelProto) -> list[str]:
    """The outputs that are no tensors which can be built. Raises StageError where none is, or an input is none."""
    for value in model.graph.input:
        if what := _unbuildable(value):
            raise StageError(_refusal("input", value.name, what), _remedy(what))
    found = {value.name: what for value in model.graph.output if (what := _unbuildable(value))}
    if len(found) == len(model.graph.output):
        name, what = next(iter(found.items()))
        raise StageError(_refusal("output", name, what), _remedy(what))
    return list(found)


def _refusal(role: str, name: str, what: str) -> str:
    if what.startswith("a tensor of "):
        return f"{role} '{name}' is {what}, a type that no recipe can say"
    return f"{role} '{name}' is {what}; only tensors can be {'fed' if role == 'input' else 'built'}"


def _remedy(what: str) -> str:
    if "map" in what:
        return f"{_ZIPMAP}, or leave it out of export.outputs"
    if what.startswith("a tensor of "):
        return f"cast it in the model; a recipe can say {', '.join(DTYPES)}"
    return "convert the model so that it has tensors there, or leave it out of export.outputs"


def _unbuildable(value: ValueInfoProto) -> str:
    """What a value is in words, where it is no tensor of a type that a recipe can say; else ""."""
    kind = value.type.WhichOneof("value")
    if kind is None:
        return ""  # an output without a type: the nodes tell it
    if kind != "tensor_type":
        return f"a {_words(value.type)}"
    dtype = interface.dtype_name(value.type.tensor_type.elem_type)
    return "" if dtype in (*DTYPES, "unknown") else f"a tensor of {dtype}"


def _words(type_: Any) -> str:
    """A type as one says it: "sequence of maps from int64 to float32"."""
    kind = type_.WhichOneof("value")
    if kind == "sequence_type":
        return f"sequence of {_plural(type_.sequence_type.elem_type)}"
    if kind == "optional_type":
        return f"optional {_words(type_.optional_type.elem_type)}"
    if kind == "map_type":
        key = interface.dtype_name(type_.map_type.key_type)
        return f"map from {key} to {_words(type_.map_type.value_type)}"
    if kind == "tensor_type":
        return f"{interface.dtype_name(type_.tensor_type.elem_type)} tensor"
    return {"sparse_tensor_type": "sparse tensor"}.get(kind or "", "value without a type")


def _plural(type_: Any) -> str:
    words = _words(type_)
    return words.replace("map from", "maps from", 1) if words.startswith("map ") else f"{words}s"


def _names(role: str, declared: Sequence[str], found: Sequence[str], file: str, overridable: set[str]) -> None:
    wrong = [name for name in declared if name not in found]
    left = [name for name in found if name not in declared]
    if not wrong and not left:
        return
    import difflib

    near = [close[0] for name in wrong if (close := difflib.get_close_matches(name, left or found, 1))]
    facts = [f"has no {role} {', '.join(map(repr, wrong))}"] if wrong else []
    if left and not near:
        facts.append(f"has {role}s that the recipe does not declare: {', '.join(map(repr, left))}")
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"its {role}s are {', '.join(found) or 'none'}"
    if weights := [name for name in wrong if name in overridable]:
        hint = f"{', '.join(weights)} has a value in the file, an initializer: take it out of export.inputs"
    raise StageError(f"{file} {'; it '.join(facts) or f'has other {role}s'}", hint)


def _shapes(found: list[dict[str, Any]], declared: Mapping[str, Mapping[str, Any]], file: str) -> None:
    for value in found:
        spec = declared[value["name"]]
        if value["dtype"] != spec["dtype"]:
            raise StageError(f"{file}: input '{value['name']}' is {value['dtype']}, the recipe says {spec['dtype']}")
        shape, own = spec["shape"], value["shape"]
        fits = own is None or (
            len(own) == len(shape) and all(not isinstance(a, int) or a == b for a, b in zip(own, shape, strict=True))
        )
        if not fits:
            raise StageError(f"{file}: input '{value['name']}' has the shape {own}, which {shape} does not fit")
