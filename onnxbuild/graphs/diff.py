"""Where two ONNX models differ, field by field and tensor by tensor, in sentences a person can act on.

    graph.node[12].attribute['axis'].i: 1 -> 2  (in Softmax 'y')
    tensor 'fc.weight': 3 of 4,096 elements differ, first at [0, 7]: 0.5 -> 0.25; by 0.25 at most
    graph.initializer: the same 53, in another order, first at [4]: 'a' -> 'b'

Takes models in the store's form, whose external tensors are named by their content, or with all data in the message.
Compares what is written, not what it means: names, order and notes count. Knows nothing of stages and recipes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.graphs import interface, modelfile, tensors
from onnxbuild.text import units

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

ABSENT = "absent"
SHOWN = 100  # characters of one value

# What tells the entries of a repeated field apart; nodes have a place only, since their names say nothing.
_KEYS: dict[str, Callable[[Any], str]] = {
    "AttributeProto": lambda m: m.name,
    "FunctionProto": lambda m: "::".join(filter(None, (m.domain, m.name, m.overload))),
    "OperatorSetIdProto": lambda m: m.domain,
    "SparseTensorProto": lambda m: m.values.name,
    "StringStringEntryProto": lambda m: m.key,
    "TensorAnnotation": lambda m: m.tensor_name,
    "TensorProto": lambda m: m.name,
    "ValueInfoProto": lambda m: m.name,
}


class Folders(NamedTuple):
    """What the external tensors of the one model and of the other are relative to."""

    before: Path | None = None
    after: Path | None = None


def files(before: Path, after: Path) -> Iterator[str]:
    """Where two models of the store, or two published ones, differ. One sentence each; none where they are equal.

    Raises StageError where the data of a tensor is missing or doesn't fit it.
    """
    one, other = modelfile.structure(before), modelfile.structure(after)
    for model, path in ((one, before), (other, after)):
        if not _content_addressed(model):
            modelfile.read_in(model, path.parent)
    return models(one, other, Folders(before.parent, after.parent))


def models(before: ModelProto, after: ModelProto, folders: Folders = Folders()) -> Iterator[str]:  # noqa: B008  # frozen
    """Where two models differ, in the order of ONNX's fields."""
    return _message("", before, after, folders)


def _content_addressed(model: ModelProto) -> bool:
    from onnxbuild.store import objects

    every = (*tensors.large_candidates(model), *tensors.other_tensors(model))
    return all(objects.is_blob_ref(tensors.location(tensor)) for tensor in every if tensors.is_external(tensor))


def _message(path: str, before: Any, after: Any, folders: Folders) -> Iterator[str]:
    if _bytes(before) == _bytes(after):
        return
    kind = before.DESCRIPTOR.name
    if kind == "TensorProto":
        yield from _tensor(path, before, after, folders)
        return
    if kind == "ValueInfoProto" and (said := _describe(before)) != (now := _describe(after)):
        yield f"{path}: {said} -> {now}"
        return
    yield from _fields(path, before, after, folders)


def _fields(path: str, before: Any, after: Any, folders: Folders, skip: Sequence[str] = ()) -> Iterator[str]:
    for field in before.DESCRIPTOR.fields:
        if field.name in skip:
            continue
        old, new = getattr(before, field.name), getattr(after, field.name)
        place = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            yield from (_list if field.message_type is None else _entries)(place, list(old), list(new), folders)
            continue
        had, has = before.HasField(field.name), after.HasField(field.name)
        if field.message_type is not None and had and has:
            yield from _message(place, old, new, folders)
        elif had != has or (field.message_type is None and old != new):
            yield f"{place}: {_say(field, old) if had else ABSENT} -> {_say(field, new) if has else ABSENT}"


def _list(path: str, before: list[Any], after: list[Any], _: Folders) -> Iterator[str]:
    """Plain values: names of inputs, integers of an attribute."""
    if len(before) != len(after):
        yield f"{path}: {_plain(before)} -> {_plain(after)}"
        return
    wrong = [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    if wrong:
        more = f" (and {len(wrong) - 1:,} more of {len(before):,})" if wrong[1:] else ""
        yield f"{path}[{wrong[0]}]: {_plain(before[wrong[0]])} -> {_plain(after[wrong[0]])}{more}"


def _entries(path: str, before: list[Any], after: list[Any], folders: Folders) -> Iterator[str]:
    """Messages, by their keys where those tell them apart, nodes by what they compute, others by place."""
    kind = (before or after or [None])[0]
    if kind is None:
        return
    if Counter(map(_bytes, before)) == Counter(map(_bytes, after)):
        yield from _order(path, before, after)
    elif kind.DESCRIPTOR.name == "NodeProto":
        yield from _nodes(path, before, after, folders)
    elif (key := _KEYS.get(kind.DESCRIPTOR.name)) and all(len(set(map(key, m))) == len(m) for m in (before, after)):
        yield from _keyed(path, {key(m): m for m in before}, {key(m): m for m in after}, folders)
    else:
        for index in range(max(len(before), len(after))):
            yield from _pair(f"{path}[{index}]", before[index:][:1], after[index:][:1], folders)


def _order(path: str, before: list[Any], after: list[Any]) -> Iterator[str]:
    """Entries that are the same but for their order."""
    pairs = enumerate(zip(before, after, strict=True))
    moved = next((found for found in pairs if _bytes(found[1][0]) != _bytes(found[1][1])), None)
    if moved is not None:
        index, (old, new) = moved
        yield f"{path}: the same {len(before):,}, in another order, first at [{index}]: {_name(old)} -> {_name(new)}"


def _keyed(path: str, before: dict[str, Any], after: dict[str, Any], folders: Folders) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        old, new = ([side[key]] if key in side else [] for side in (before, after))
        yield from _pair(f"{path}[{key!r}]", old, new, folders)
    common = [[key for key in side if key in before and key in after] for side in (before, after)]
    if common[0] != common[1]:
        index = next(i for i, (old, new) in enumerate(zip(*common, strict=True)) if old != new)
        yield f"{path}: in another order, first {common[0][index]!r} -> {common[1][index]!r}"


def _pair(path: str, before: list[Any], after: list[Any], folders: Folders) -> Iterator[str]:
    """One entry, or none, on each side."""
    if before and after:
        yield from _message(path, before[0], after[0], folders)
    else:
        yield f"{path}: {_whole(before[0]) if before else ABSENT} -> {_whole(after[0]) if after else ABSENT}"


def _nodes(path: str, before: list[Any], after: list[Any], folders: Folders) -> Iterator[str]:
    """Nodes side by side: those of one operator that give the same values, and in between by place."""
    keys = [[(node.domain, node.op_type, tuple(node.output)) for node in side] for side in (before, after)]
    for _, start, end, other, stop in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        for step in range(max(end - start, stop - other)):
            old, new = before[start:end][step:][:1], after[other:stop][step:][:1]
            index = start + step if old else other + step
            note = f"  (in {_whole((old or new)[0])})" if old and new else ""
            yield from (f"{text}{note}" for text in _pair(f"{path}[{index}]", old, new, folders))


def _tensor(path: str, before: TensorProto, after: TensorProto, folders: Folders) -> Iterator[str]:
    name = f"tensor {before.name!r}" if path.startswith("graph.initializer[") and "]." not in path else path
    if (old := _whole(before)) != (new := _whole(after)):
        yield f"{name}: {old} -> {new}"
        return
    data = ("raw_data", "data_location", "external_data", "string_data", *tensors.TYPED_FIELDS)
    yield from _fields(name, before, after, folders, skip=data)
    if tensors.is_string(before):
        yield from _list(name, list(before.string_data), list(after.string_data), folders)
    elif (values := [_values(t, f) for t, f in zip((before, after), folders, strict=True)]) and (
        text := _elements(*values)
    ):
        yield f"{name}: {text}"
    elif any(getattr(before, field) != getattr(after, field) for field in data):
        yield f"{name}: the same values, held in another way"


def _values(tensor: TensorProto, folder: Path | None) -> Any:
    """A tensor's elements as a flat array of one item each, packed ones too."""
    from onnx import numpy_helper

    alone = type(tensor)(data_type=tensor.data_type, dims=tensor.dims)
    tensors.set_inline(alone, b"".join(tensors.chunks(tensor, folder)))
    return numpy_helper.to_array(alone)


def _elements(before: Any, after: Any) -> str:
    """How many elements of two arrays of one type and shape differ in any bit, the first of them, and by how much."""
    import numpy as np

    old, new = (np.ascontiguousarray(array).reshape(-1) for array in (before, after))
    size = old.dtype.itemsize
    wrong = np.flatnonzero((old.view(np.uint8) != new.view(np.uint8)).reshape(-1, size).any(axis=1))
    if not wrong.size:
        return ""
    first = int(wrong[0])
    place = [int(index) for index in np.unravel_index(first, before.shape)]
    verb = "differs" if wrong.size == 1 else "differ"
    text = f"{wrong.size:,} of {units.plural(old.size, 'element')} {verb}, first at {place}: "
    text += f"{old[first]!s} -> {new[first]!s}"  # numpy's shortest text that tells two values of the type apart
    if old.dtype.kind in "bc":
        return text
    with np.errstate(all="ignore"):
        apart = np.abs(old[wrong].astype(np.float64) - new[wrong].astype(np.float64))
    return f"{text}; by {apart.max():.3g} at most" if np.isfinite(apart).all() else text


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)  # == says that a NaN is not the same NaN
    return data


def _name(message: Any) -> str:
    key = _KEYS.get(message.DESCRIPTOR.name)
    return repr(key(message)) if key else _whole(message)


def _whole(message: Any) -> str:
    """A message in a few words."""
    kind = message.DESCRIPTOR.name
    if kind == "NodeProto":
        return f"{message.op_type} {_plain(message.output[0]) if message.output else '(no output)'}"
    if kind == "TensorProto":
        return f"{interface.dtype_name(message.data_type)}[{', '.join(map(str, message.dims))}]"
    if kind == "ValueInfoProto":
        return _describe(message)
    if kind == "AttributeProto":
        value, message = message, type(message)()
        message.CopyFrom(value)
        message.ClearField("name")
        message.ClearField("type")
    return units.clip(" ".join(str(message).split()), SHOWN) or "empty"


def _describe(value: Any) -> str:
    described = interface.describe(value)
    return f"{described['dtype']}{'' if described['shape'] is None else units.shape(described['shape'])}"


def _say(field: Any, value: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    return _whole(value) if field.message_type is not None else _plain(value)


def _plain(value: Any) -> str:
    """A value or a list of them, as text on one line without control characters."""
    if isinstance(value, list):
        return units.clip(f"[{', '.join(map(_plain, value))}]", SHOWN)
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, float):
        return f"{value:.9g}"  # enough to tell any two 32-bit floats apart
    return units.clip(repr(value), SHOWN) if isinstance(value, str) else str(value)
