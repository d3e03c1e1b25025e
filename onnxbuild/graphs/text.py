"""A model as text that a person reads: its interface, its nodes in ONNX's own syntax, its weights by shape and size.

Prints no weight, so it reads no external data, and a model of any size shows at once. Knows no command line.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import usage
from onnxbuild.graphs import interface, modelfile, tensors

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, TensorProto

SHOWN_BELOW = 9  # elements; a shorter tensor (axes, a shape, a scale) is shown with its values


def show(path: Path | str) -> str:
    """The model file as text: a head, the main graph, the functions. Raises UserError where it can't be read."""
    model = _read(path)
    parts = [_head(model), _graph(model.graph)]
    parts += [_function(function) for function in model.functions]
    return "\n\n".join(parts) + "\n"


def _read(path: Path | str) -> ModelProto:
    from google.protobuf.message import DecodeError

    try:
        model = modelfile.structure(path)
    except OSError as error:
        raise usage(f"{path}: {error.strerror}") from None
    except DecodeError:
        raise usage(f"{path}: not an ONNX model", modelfile.GIVE) from None
    if not model.HasField("graph"):
        raise usage(f"{path}: not an ONNX model", modelfile.GIVE)
    return model


def _head(model: ModelProto) -> str:
    imports = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    ops: Counter[str] = Counter()
    for body in tensors.bodies(model):
        ops.update(_op(node) for node in body.node)
    weights = list(model.graph.initializer)
    size = sum(tensors.nbytes(tensor) for tensor in weights if not tensors.is_string(tensor))
    counted = ", ".join(f"{count} {op}" for op, count in sorted(ops.items(), key=_most_first))
    lines = [
        f"opset {imports}; IR version {model.ir_version}",
        f"from {' '.join(filter(None, (model.producer_name, model.producer_version)))}" if model.producer_name else "",
        f"{sum(ops.values())} nodes: {counted}",
        f"{len(weights)} initializers, {sum(map(tensors.elements, weights)):,} elements, {size:,} bytes",
    ]
    return "\n".join(f"# {line}" for line in lines if line)


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _graph(graph: GraphProto, indent: str = "") -> str:
    constants = {tensor.name for tensor in graph.initializer}
    lines = [f"{indent}graph {graph.name or '(no name)'}"]
    lines += [f"{indent}  input  {_value(value)}" for value in graph.input if value.name not in constants]
    lines += [f"{indent}  output {_value(value)}" for value in graph.output]
    lines += [f"{indent}  weight {_tensor(tensor)}" for tensor in graph.initializer]
    for sparse in graph.sparse_initializer:
        lines.append(f"{indent}  weight {_tensor(sparse.values)} (sparse, of {list(sparse.dims)})")
    lines += _nodes(graph, indent + "  ")
    return "\n".join(lines)


def _function(function: FunctionProto) -> str:
    head = f"function {function.domain}::{function.name}({', '.join(function.input)}) -> {', '.join(function.output)}"
    return "\n".join([head, *_nodes(function, "  ")])


def _nodes(body: GraphProto | FunctionProto, indent: str) -> list[str]:
    lines = []
    for node in body.node:
        plain = [_attribute(attribute) for attribute in node.attribute if not tensors.graphs_of(attribute)]
        attributes = f" <{', '.join(plain)}>" if plain else ""
        outputs = ", ".join(name or "_" for name in node.output)
        lines.append(f"{indent}{outputs} = {_op(node)}{attributes}({', '.join(name or '_' for name in node.input)})")
        for attribute in node.attribute:
            for graph in tensors.graphs_of(attribute):
                lines += [f"{indent}  {attribute.name}:", _graph(graph, indent + "    ")]
    return lines


def _op(node: Any) -> str:
    return node.op_type if tensors.is_standard(node.domain) else f"{node.domain}::{node.op_type}"


def _attribute(attribute: Any) -> str:
    from onnx import helper

    if attribute.ref_attr_name:
        return f"{attribute.name} = @{attribute.ref_attr_name}"
    if attribute.type == attribute.TENSOR:
        return f"{attribute.name} = {_tensor(attribute.t)}"
    if attribute.type in (attribute.TENSORS, attribute.SPARSE_TENSOR, attribute.SPARSE_TENSORS, attribute.TYPE_PROTO):
        return f"{attribute.name} = ({attribute.AttributeType.Name(attribute.type).lower()})"
    value = helper.get_attribute_value(attribute)
    if isinstance(value, (bytes, float, int)):
        return f"{attribute.name} = {_scalar(value)}"
    return f"{attribute.name} = [{', '.join(map(_scalar, value))}]"


def _scalar(value: bytes | float) -> str:
    if isinstance(value, bytes):
        return f'"{value.decode(errors="replace")}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(value: Any) -> str:
    described = interface.describe(value)
    shape = described["shape"]
    dims = "" if shape is None else f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
    return f"{value.name}: {described['dtype']}{dims}"


def _tensor(tensor: TensorProto) -> str:
    from onnx import numpy_helper

    name = f"{tensor.name}: " if tensor.name else ""
    kind = f"{name}{interface.dtype_name(tensor.data_type)}[{', '.join(map(str, tensor.dims))}]"
    if tensors.is_external(tensor):
        return f"{kind} at {tensors.location(tensor)}"
    if tensors.elements(tensor) < SHOWN_BELOW:
        try:
            return f"{kind} = {numpy_helper.to_array(tensor).tolist()}"
        except Exception:  # noqa: BLE001  # a broken model is looked at, too; numpy raises what it likes
            return f"{kind}, whose data does not fit it"
    return kind
