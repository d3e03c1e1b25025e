"""ONNX operators by name on TorchScript's graph under construction, spelled as onnxscript spells them.

`GraphOps(g, opset).LeakyRelu(x, alpha=0.1)` does on a torch.onnx graph what `Opset("", opset).LeakyRelu(x, alpha=0.1)`
does for the dynamo exporter, so one function serves both. Imports torch and onnx at module level.
"""

# ruff: noqa: SLF001  # values and types of TorchScript's graph have no public names

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch

from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import numbers

_SUFFIX = {"FLOAT": "f", "FLOATS": "f", "INT": "i", "INTS": "i", "STRING": "s", "STRINGS": "s", "TENSOR": "t"}
HINT = 16  # stands for any dynamic size where torch wants an example
_CONSTANTS = {  # attributes of ONNX's Constant besides `value`, with the types that its specification gives them
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}
_TYPES = {"float": torch.float32, "double": torch.float64, "int64": torch.int64, "bool": torch.bool}


class GraphOps:
    """Operators of the default domain at one opset, as methods."""

    def __init__(self, graph: Any, opset: int) -> None:
        self._graph = graph
        self._opset = opset

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        try:
            schema = onnx.defs.get_schema(op_type, self._opset, "")
        except onnx.defs.SchemaError as error:
            raise AttributeError(f"ONNX opset {self._opset} has no operator {op_type}") from error
        return lambda *inputs, **named: self._node(schema, inputs, named)

    def custom(self, node: Mapping[str, Any], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """A node of a custom domain."""
        kinds = {name: spec["type"].upper() for name, spec in node.get("attributes", {}).items()}
        named = {f"{name}_{_SUFFIX[kinds[name]]}": value for name, value in attributes.items()}
        name = f"{node['domain']}::{node['op_type']}"
        values = [self._absent(self.optional(value)) for value in inputs]
        return self._graph.op(name, *values, outputs=len(node["outputs"]), **named)

    @staticmethod
    def optional(value: Any) -> Any:
        """None where a value is TorchScript's constant None."""
        return None if isinstance(value, torch._C.Value) and value.node().mustBeNone() else value

    def _node(self, schema: Any, inputs: Sequence[Any], named: Mapping[str, Any]) -> Any:
        attributes = {name: value for name, value in named.items() if name in schema.attributes and value is not None}
        formal = [parameter.name for parameter in schema.inputs]
        values = list(inputs)
        for name in [name for name in formal if name in named and name not in schema.attributes]:
            values += [None] * (formal.index(name) + 1 - len(values))
            values[formal.index(name)] = named[name]
        unknown = [name for name in named if name not in schema.attributes and name not in formal]
        if unknown:
            raise StageError(f"ONNX's {schema.name} has neither an input nor an attribute '{unknown[0]}'")
        if schema.name == "Constant":
            return self._graph.op("Constant", value_t=_constant(attributes))
        while values and values[-1] is None:
            values.pop()
        typed = [self._value(schema, position, values) for position in range(len(values))]
        suffixed = {
            f"{name}_{_SUFFIX[schema.attributes[name].type.name]}": _plain(value) for name, value in attributes.items()
        }
        return self._graph.op(schema.name, *typed, outputs=_outputs(schema, attributes), **suffixed)

    def _value(self, schema: Any, position: int, values: Sequence[Any]) -> Any:
        """An input as a value of the graph; a Python number takes the type of tensors that share its type variable."""
        value = self.optional(values[position])
        if value is None or isinstance(value, torch._C.Value):
            return self._absent(value)
        dtype = None
        variable = _formal(schema, position).type_str
        for other_position, other in enumerate(values):
            if isinstance(other, torch._C.Value) and _formal(schema, other_position).type_str == variable:
                dtype = dtype or _dtype_of(other)
        if dtype is None and variable.startswith("tensor("):
            dtype = _TYPES.get(variable[len("tensor(") : -1])
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value)
        return self._graph.op("Constant", value_t=tensor.to(dtype) if dtype else tensor)

    def _absent(self, value: Any) -> Any:
        if value is not None:
            return value
        from torch.onnx import symbolic_helper

        return symbolic_helper._optional_input_placeholder_tensor(self._graph)


def _constant(attributes: Mapping[str, Any]) -> torch.Tensor:
    """The tensor that an ONNX Constant stands for, in whichever attribute it is given: TorchScript has `value` alone."""
    ((name, value),) = attributes.items() if len(attributes) == 1 else (("", None),)
    if name == "value":
        if isinstance(value, onnx.TensorProto):
            return numbers.to_torch(onnx.numpy_helper.to_array(value))
        return (
            value if isinstance(value, torch.Tensor) else numbers.to_torch(np.asarray(value))
        )  # onnx_ir's, or numpy's
    if name in _CONSTANTS:
        return torch.tensor(value, dtype=_CONSTANTS[name])
    raise StageError(
        f"op.Constant with {', '.join(attributes) or 'no attribute'} can't be made under the torchscript exporter",
        f"give one of value, {', '.join(_CONSTANTS)}",
    )


def constant(value: Any, argument: Any) -> Any:
    """The Python value of an argument of a torch operator. Raises StageError where the model computes it."""
    from torch.onnx import symbolic_helper

    if not isinstance(value, torch._C.Value):
        return value
    node = value.node()
    if node.mustBeNone():
        return None
    if node.kind() == "prim::ListConstruct":
        return [constant(item, argument) for item in node.inputs()]
    if node.kind() not in ("onnx::Constant", "prim::Constant"):
        raise StageError(
            f"argument '{argument.name}' of a custom operator is computed by the model, and can't become an attribute",
            "pass a Python constant, or make it a tensor argument",
        )
    found = symbolic_helper._node_get(node, "value")
    return found.tolist() if isinstance(found, torch.Tensor) else found


def typed_like(results: Any, node: Any, overload: Any, arguments: Sequence[Any]) -> None:
    """Give a custom node's results the element type, rank and static sizes that torch knows of the operator's own.

    Without them, all that follows in the graph would come out with open axes.
    """
    values = results if isinstance(results, (tuple, list)) else [results]
    sizes = _static_sizes(overload, arguments)
    for position, (value, traced) in enumerate(zip(values, node.outputs(), strict=False)):
        known = traced.type()
        if isinstance(known, torch._C.TensorType) and known.dim() is not None:
            # The traced sizes are the example's, dynamic ones included: never taken as they are.
            value.setType(known.with_sizes(sizes[position] if position < len(sizes) else [None] * known.dim()))


def _static_sizes(overload: Any, arguments: Sequence[Any]) -> list[list[int | None]]:
    """Sizes of an operator's results, None where dynamic, by its fake implementation; [] for one that has none."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    mode = FakeTensorMode(shape_env=ShapeEnv())

    def fake(value: Any) -> Any:
        if not isinstance(value, torch._C.Value):
            return value
        sizes = value.type().varyingSizes()
        dynamic = [DimDynamic.DYNAMIC if size is None else DimDynamic.STATIC for size in sizes]
        some = torch.empty([HINT if size is None else size for size in sizes], dtype=_dtype_of(value), device="meta")
        return mode.from_tensor(some, symbolic_context=StatelessSymbolicContext(dynamic))

    try:
        results = overload(*map(fake, arguments))
        tensors = results if isinstance(results, (tuple, list)) else [results]
        return [[size if isinstance(size, int) else size.node.maybe_as_int() for size in t.shape] for t in tensors]
    except Exception:  # noqa: BLE001  # no fake implementation, or one that wants sizes: then none are known
        return []


def _formal(schema: Any, position: int) -> Any:
    """The formal parameter of an input; the last one repeats where it is variadic."""
    if position >= len(schema.inputs) and not (
        schema.inputs and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    ):
        raise StageError(f"ONNX's {schema.name} takes {len(schema.inputs)} inputs at most")
    return schema.inputs[min(position, len(schema.inputs) - 1)]


def _outputs(schema: Any, attributes: Mapping[str, Any]) -> int:
    """How many outputs a node has, by onnxscript's rule."""
    if schema.name == "Split":
        if "num_outputs" not in attributes:
            raise StageError("op.Split needs num_outputs, to know how many values it gives")
        return int(attributes["num_outputs"])
    if schema.name == "BatchNormalization" and not attributes.get("training_mode"):
        return 1
    return len(schema.outputs)


def _dtype_of(value: Any) -> torch.dtype | None:
    kind = value.type()
    return kind.dtype() if isinstance(kind, torch._C.TensorType) else None


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value
