"""The weights of two graphs: which have the same content, which is which, and how far apart those are that differ.

Bytes are compared first, in pieces; only weights that differ become arrays, and then a few thousand elements at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.graphs import interface, tensors
from onnxbuild.graphs.comparison import bodies
from onnxbuild.graphs.comparison.bodies import Body, Ids
from onnxbuild.report.changes import TensorChange
from onnxbuild.text import units

if TYPE_CHECKING:
    import numpy as np
    from onnx import TensorProto

ELEMENTS = 1 << 16  # at a time: what is computed of them fits into a processor's cache
SHOWN = 8  # elements; a tensor of no more is told with their values
SUB_BYTE = frozenset({21, 22, 23, 25, 26})  # UINT4, INT4, FLOAT4E2M1, UINT2, INT2


class Held(NamedTuple):
    """A weight and the folder that it is relative to."""

    tensor: Any
    folder: Path


def classes(one: Body, other: Body, folders: tuple[Path, Path], ids: Ids) -> tuple[dict[str, int], dict[str, int]]:
    """A number for each weight of both sides, the same number where type, shape and content are.

    Those of one name are compared with each other; only what has no equal there is hashed, and only where the other side
    has such a type and shape.
    """
    found: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for name, tensor in one.weights.items():
        twin = other.weights.get(name)
        if twin is not None and is_same(Held(tensor, folders[0]), Held(twin, folders[1])):
            found[0][name] = found[1][name] = ids(_key(tensor, name))
    kinds = [
        {bodies.weight(tensor, exact=False) for name, tensor in body.weights.items() if name not in known}
        for body, known in zip((one, other), found, strict=True)
    ]
    for body, known, folder in zip((one, other), found, folders, strict=True):
        for name, tensor in body.weights.items():
            if name not in known:
                hashed = bodies.weight(tensor, exact=False) in kinds[0] & kinds[1]
                known[name] = ids(_key(tensor, _digest(Held(tensor, folder)) if hashed else (name, id(body))))
    return found


def _key(tensor: Any, otherwise: Any) -> Any:
    """What tells a weight's content; of small ones the content itself, whatever they are called."""
    if not hasattr(tensor, "data_type") or (not tensors.is_external(tensor) and _size(tensor) <= bodies.SMALL):
        return bodies.weight(tensor, exact=True)
    return (bodies.weight(tensor, exact=False), otherwise)


def _size(tensor: TensorProto) -> int:
    return 0 if tensors.is_string(tensor) else tensors.nbytes(tensor)


def is_same(one: Held, other: Held) -> bool:
    """Whether two weights have one type, shape and content."""
    a, b = one.tensor, other.tensor
    if bodies.weight(a, exact=False) != bodies.weight(b, exact=False):
        return False
    if not hasattr(a, "data_type"):
        return all(
            is_same(Held(x, one.folder), Held(y, other.folder))
            for x, y in ((a.values, b.values), (a.indices, b.indices))
        )
    if tensors.is_string(a):
        return list(a.string_data) == list(b.string_data)
    pieces = [tensors.chunks(held.tensor, held.folder) for held in (one, other)]
    if tensors.is_external(a) == tensors.is_external(b):
        return all(x == y for x, y in zip_longest(*pieces))
    return b"".join(pieces[0]) == b"".join(pieces[1])


def _digest(held: Held) -> bytes:
    digest = hashlib.sha256()
    parts = [held.tensor] if hasattr(held.tensor, "data_type") else [held.tensor.values, held.tensor.indices]
    for part in parts:
        for chunk in (
            [repr(list(part.string_data)).encode()] if tensors.is_string(part) else tensors.chunks(part, held.folder)
        ):
            digest.update(chunk)
    return digest.digest()


def which(
    one: Body,
    other: Body,
    classes: tuple[Mapping[str, int], Mapping[str, int]],
    used: Iterable[tuple[str, str]],
) -> dict[str, str]:
    """The name that each weight has on the other side. `used` are those that matched nodes take in one place."""
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    used = list(used)
    named = [(name, name) for name in one.weights if name in other.weights]

    def is_equal(a: str, b: str) -> bool:
        return classes[0][a] == classes[1][b]

    def is_alike(a: str, b: str) -> bool:
        kinds = [bodies.weight(body.weights[name], exact=False) for body, name in ((one, a), (other, b))]
        return kinds[0] == kinds[1]

    def go(candidates: list[tuple[str, str]], wanted: Callable[[str, str], bool]) -> None:
        for a, b in candidates:
            if a not in pairs and b not in taken and wanted(a, b):
                pairs[a] = b
                taken.add(b)

    for candidates, wanted in (
        ([pair for pair in used if pair[0] == pair[1]], is_equal),
        (used, is_equal),
        (named, is_equal),
        ([pair for pair in used if pair[0] == pair[1]], is_alike),
        (used, is_alike),
        (named, is_alike),
        (used, lambda a, b: True),  # noqa: ARG005  # whatever their types and shapes
        (named, lambda a, b: True),  # noqa: ARG005  # ditto
    ):
        go(candidates, wanted)
    return pairs


def changed(name: str, one: Held, other: Held, was: str = "") -> TensorChange:
    """What is different between two weights that are one, by type, shape and size of the change; their content differs."""
    for held in (one, other):
        _require_known(held.tensor)
    before, after = (shown(held) for held in (one, other))
    elements = tensors.elements(other.tensor)
    dense = all(hasattr(held.tensor, "data_type") for held in (one, other))
    if not dense or list(one.tensor.dims) != list(other.tensor.dims):
        return TensorChange(name, before, after, was, elements)
    if tensors.is_string(one.tensor) or tensors.is_string(other.tensor):
        words = zip(one.tensor.string_data, other.tensor.string_data, strict=False)
        return TensorChange(name, before, after, was, elements, sum(x != y for x, y in words))
    return TensorChange(
        name, before, after, was, elements, *_figures(one, other, same_kind=kind(one.tensor) == kind(other.tensor))
    )


def _require_known(tensor: Any) -> None:
    """Raise StageError where a tensor's type is one that this onnx does not know."""
    if hasattr(tensor, "data_type") and not tensors.is_string(tensor):
        tensors.nbytes(tensor)


def shown(held: Held) -> str:
    """A weight's type and shape, with its elements where they are few."""
    from onnx import numpy_helper

    tensor = held.tensor
    if not hasattr(tensor, "data_type") or tensors.elements(tensor) > SHOWN:
        return kind(tensor)
    if tensors.is_external(tensor):
        alone = type(tensor)(data_type=tensor.data_type, dims=tensor.dims)
        tensors.set_inline(alone, b"".join(tensors.chunks(tensor, held.folder)))
        tensor = alone
    values = numpy_helper.to_array(tensor)
    return f"{kind(tensor)} {_text(values)}"


def _text(values: np.ndarray) -> str:
    """Few elements as text, each as short as tells it apart: "[1.5, 2]"."""
    if values.dtype.kind == "O":
        return units.clip(str(values.tolist()), 60)
    return units.clip(f"[{', '.join(map(str, values.reshape(-1)))}]" if values.shape else str(values[()]), 60)


def kind(tensor: Any) -> str:
    """A weight's type and shape: "float32[64, 3, 7, 7]"."""
    if not hasattr(tensor, "data_type"):
        return f"sparse {interface.dtype_name(tensor.values.data_type)}[{', '.join(map(str, tensor.dims))}]"
    return f"{interface.dtype_name(tensor.data_type)}[{', '.join(map(str, tensor.dims))}]"


def _figures(one: Held, other: Held, *, same_kind: bool) -> tuple[int, float | None, float | None, int]:
    """How many elements differ, by how much at most, relative to the norm before, and how many by no finite number."""
    import numpy as np

    count = not_finite = 0
    most = apart = norm = 0.0
    for old, new in zip(_blocks(one), _blocks(other), strict=True):
        with np.errstate(all="ignore"):
            values, difference = _apart(old, new)
            differs = _bits(old, new) if same_kind else difference != 0
            count += int(np.count_nonzero(differs))
            if not np.isfinite(_squares(difference)):
                finite = np.isfinite(difference)
                not_finite += int(np.count_nonzero(differs & ~finite))
                values, difference = values[np.isfinite(values)], difference[finite]
            most = max(most, float(difference.max(initial=0.0)), -float(difference.min(initial=0.0)))
            apart += _squares(difference)
            norm += _squares(values)
    if not_finite == count and count:
        return count, None, None, not_finite
    relative = (apart / norm) ** 0.5 if norm and np.isfinite(norm) and np.isfinite(apart) else None
    return count, most, relative, not_finite


def _squares(values: np.ndarray) -> float:
    """The sum of squares, on this thread alone: BLAS would share out what is too little to be shared."""
    import numpy as np

    return float(np.einsum("i,i->", values, values))


def _apart(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values before and the differences as float64; of complex ones the absolute values."""
    import numpy as np

    if "c" in (old.dtype.kind, new.dtype.kind):
        return np.abs(old).astype(np.float64), np.abs(new - old).astype(np.float64)
    values = old.astype(np.float64)
    return values, new.astype(np.float64) - values


def _bits(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Which elements of two arrays of one type differ in any bit."""
    import numpy as np

    parts = max(old.dtype.itemsize // 8, 1)  # a complex128 is two
    views = (np.ascontiguousarray(array).view(f"u{old.dtype.itemsize // parts}") for array in (old, new))
    differs: np.ndarray = np.not_equal(*views).reshape(-1, parts).any(axis=1)
    return differs


def _blocks(held: Held) -> Iterator[np.ndarray]:
    """A tensor's elements in flat arrays, without copying what lies in a file."""
    import numpy as np
    from onnx import numpy_helper
    from onnx.helper import tensor_dtype_to_np_dtype

    tensor = held.tensor
    flat: np.ndarray
    if tensor.data_type in SUB_BYTE:
        alone = type(tensor)(data_type=tensor.data_type, dims=tensor.dims)
        tensors.set_inline(alone, b"".join(tensors.chunks(tensor, held.folder)))
        flat = numpy_helper.to_array(alone).reshape(-1)
    elif tensors.is_external(tensor) and tensors.nbytes(tensor):
        region = tensors.region(tensor, held.folder)
        raw = np.memmap(region.path, np.uint8, "r", region.offset, (region.length,))
        flat = np.asarray(raw).view(tensor_dtype_to_np_dtype(tensor.data_type))
    else:
        flat = np.frombuffer(b"".join(tensors.chunks(tensor, held.folder)), tensor_dtype_to_np_dtype(tensor.data_type))
    yield from (flat[at : at + ELEMENTS] for at in range(0, len(flat), ELEMENTS))
