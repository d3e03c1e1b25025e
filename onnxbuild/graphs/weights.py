"""Which tensors of a graph are its weights: how many elements they have, and the digest of them and of all the rest.

So that a model that was trained on shows another digest of its weights, and one that is built otherwise another digest of
its graph. Knows no stages.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnxbuild.graphs import interface, tensors

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto, TensorProto


def counted(model: ModelProto) -> dict[str, int]:
    """The elements of the weights by dtype, in subgraphs and functions too; of a sparse one, those that are stored.

    A graph does not say what was learned. Taken for weights are initializers and Constant nodes (a pass makes one of the
    other) that are floats and no scalars, or 8 bits or fewer and of rank 2 or more, as quantised weights are. So shapes,
    indices, masks, numbers in the model's code and the scales of a Resize don't count; running statistics and tables that
    the code computes do, a learned scalar does not.
    """
    total: dict[str, int] = {}
    for _, tensor in _held(model):
        dtype = interface.dtype_name(tensor.data_type)
        total[dtype] = total.get(dtype, 0) + tensors.elements(tensor)
    return total


def digests(model: ModelProto) -> tuple[str, str]:
    """The SHA-256, in hexadecimal, of a graph without its weights' values, and of its weights: names, types and values.

    `model` is in the store's form: a large tensor names the SHA-256 of its bytes as its place, and is not read. Dtypes and
    shapes of the weights are part of both. What an estimator learned is in the attributes of ai.onnx.ml's nodes.
    """
    bare = type(model)()
    bare.CopyFrom(model)
    lines = []
    for name, tensor in _held(bare):
        lines.append(f"{name} {tensor.data_type} {list(tensor.dims)} {_digest(tensor)}\n")
        tensors.set_inline(tensor, b"")
    for name, attribute in _learned(bare):
        lines.append(f"{name} {attribute.type} {hashlib.sha256(attribute.SerializeToString()).hexdigest()}\n")
        for field in ("floats", "ints", "t"):
            attribute.ClearField(field)
    weights = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest(), weights


def _digest(tensor: TensorProto) -> str:
    if tensors.is_external(tensor):
        return tensors.location(tensor).replace("/", "")
    return hashlib.sha256(tensors.inline_bytes(tensor)).hexdigest()


def _learned(model: ModelProto) -> Iterator[tuple[str, AttributeProto]]:
    """The attributes of numbers that estimators have, each with a name: coefficients, thresholds, where a tree goes on."""
    for node in (node for body in tensors.bodies(model) for node in body.node if node.domain == "ai.onnx.ml"):
        numbers = [one for one in node.attribute if one.type in (one.FLOATS, one.INTS, one.TENSOR)]
        yield from ((f"{node.output[0]}.{one.name}", one) for one in numbers)


def _held(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """The weights, each with the name of its value."""
    for body in tensors.bodies(model):
        settings = {name for node in body.node if node.op_type in ("Resize", "Upsample") for name in node.input[1:]}
        held = [(tensor.name, tensor) for tensor in getattr(body, "initializer", ())]
        held += [(node.output[0], tensor) for node in body.node for tensor in _constants(node)]
        yield from ((name, tensor) for name, tensor in held if name not in settings and _is_weight(tensor))
        yield from ((sparse.values.name, sparse.values) for sparse in getattr(body, "sparse_initializer", ()))


def _constants(node: NodeProto) -> list[TensorProto]:
    """The tensor that a Constant node holds."""
    if node.op_type != "Constant" or not tensors.is_standard(node.domain):
        return []
    return [attribute.t for attribute in node.attribute if attribute.name == "value" and attribute.HasField("t")]


def _is_weight(tensor: TensorProto) -> bool:
    dtype = interface.dtype_name(tensor.data_type)
    if re.match(r"float|bfloat|complex", dtype):
        return len(tensor.dims) > 0
    return re.fullmatch(r"u?int[248]", dtype) is not None and len(tensor.dims) > 1
