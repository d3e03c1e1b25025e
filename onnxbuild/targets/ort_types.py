"""The table of operators' types in an ORT format model, in an order of its own.

onnxruntime writes that table in the order of a hash map, which depends on addresses in its process: equal graphs would give
other bytes on another machine, or a moment later. Imports onnxruntime; knows nothing of how a model is converted.
Source: onnxruntime's flatbuffers schema, onnxruntime/core/flatbuffers/schema/ort.fbs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import flatbuffers
from flatbuffers.table import Table
from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import (
    ArgTypeAndIndex,
    InferenceSession,
    KernelTypeStrArgsEntry,
    KernelTypeStrResolver,
    OpIdKernelTypeStrArgsEntry,
)

if TYPE_CHECKING:
    from flatbuffers import Builder

_MODEL = (
    6  # where the field `model` of InferenceSession stands in a vtable: the second one, of two bytes each, after four
)
_ALIGNED = 16  # the model proper keeps its place from the end, so what was aligned in it stays so


def ordered(model: bytes) -> bytes:
    """An ORT format model with its table of operators' types in the order of their names, and otherwise as it is.

    A FlatBuffer is written from its end. The model proper came first and is kept, byte by byte; the table came after it, so
    it lies before it, and is written anew.
    """
    session = InferenceSession.InferenceSession.GetRootAs(model, 0)
    root = Table(model, flatbuffers.encode.Get(flatbuffers.packer.uoffset, model, 0))
    table = root.Indirect(root.Pos + root.Offset(_MODEL))
    types_of_table = table - int.from_bytes(model[table : table + 4], "little", signed=True)
    kept = model[min(table, types_of_table) :]

    builder = flatbuffers.Builder(len(kept) + 1024)
    builder.Bytes[len(builder.Bytes) - len(kept) :] = kept
    builder.head = len(builder.Bytes) - len(kept)
    builder.minalign = _ALIGNED

    version = builder.CreateString(session.OrtVersion())
    types = _types(builder, session.KernelTypeStrResolver())
    InferenceSession.Start(builder)
    InferenceSession.AddOrtVersion(builder, version)
    InferenceSession.AddModel(builder, len(model) - table)
    InferenceSession.AddKernelTypeStrResolver(builder, types)
    builder.Finish(InferenceSession.End(builder), file_identifier=model[4:8])
    return bytes(builder.Output())


def _types(builder: Builder, resolver: Any) -> int:
    """Write the table: for each operator, each name of a type in its schema with the inputs and outputs that have it."""

    def entry(module: Any, name: str, names: str, value: int, values: str) -> int:
        key = builder.CreateString(name)
        module.Start(builder)
        getattr(module, names)(builder, key)
        getattr(module, values)(builder, value)
        end: int = module.End(builder)
        return end

    operators = []
    for operator in _by(resolver.OpKernelTypeStrArgs, resolver.OpKernelTypeStrArgsLength(), "OpId"):
        types = []
        for type_ in _by(operator.KernelTypeStrArgs, operator.KernelTypeStrArgsLength(), "KernelTypeStr"):
            places = []
            for place in (type_.Args(at) for at in range(type_.ArgsLength())):
                ArgTypeAndIndex.Start(builder)
                ArgTypeAndIndex.AddArgType(builder, place.ArgType())
                ArgTypeAndIndex.AddIndex(builder, place.Index())
                places.append(ArgTypeAndIndex.End(builder))
            name = type_.KernelTypeStr().decode()
            vector = _vector(builder, places)
            types.append(entry(KernelTypeStrArgsEntry, name, "AddKernelTypeStr", vector, "AddArgs"))
        name = operator.OpId().decode()
        vector = _vector(builder, types)
        operators.append(entry(OpIdKernelTypeStrArgsEntry, name, "AddOpId", vector, "AddKernelTypeStrArgs"))
    vector = _vector(builder, operators)
    KernelTypeStrResolver.Start(builder)
    KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, vector)
    table: int = KernelTypeStrResolver.End(builder)
    return table


def _by(get: Callable[[int], Any], count: int, key: str) -> list[Any]:
    return sorted((get(at) for at in range(count)), key=lambda one: getattr(one, key)())


def _vector(builder: Builder, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    vector: int = builder.EndVector()
    return vector
