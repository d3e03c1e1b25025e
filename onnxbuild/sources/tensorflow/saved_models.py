"""SavedModels: what their file says of signatures, and the one that is asked for, loaded.

The present loader comes first. What TensorFlow 1 wrote, and some models of an older Keras, only TensorFlow 1's loader
takes; see `sessions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from onnxbuild.contracts import Interface, Value
from onnxbuild.errors import StageError
from onnxbuild.sources.tensorflow import SAVED_MODEL, functions, layouts, sessions
from onnxbuild.text.wording import nearest

if TYPE_CHECKING:
    from onnxbuild.sources.tensorflow.model import Model


def load(folder: Path, tags: Sequence[str], signature: str) -> Model:
    """The model of one signature. Raises StageError where the file is no SavedModel, or lacks the tags or the signature."""
    meta = _meta_graph(folder, tags)
    own = _signature(meta, signature)
    inputs = {name: _tensor(name, info) for name, info in sorted(own.inputs.items())}
    outputs = {name: _tensor(name, info) for name, info in sorted(own.outputs.items())}
    interface = Interface([*inputs.values()], [*outputs.values()])
    why = "TensorFlow 1 wrote it"
    if meta.HasField("object_graph_def"):
        try:
            loaded = tf.saved_model.load(str(folder), tags=[*tags])
            return _Signature(loaded.signatures[signature], loaded, signature, interface)
        except Exception as error:  # noqa: BLE001  # whatever objects of another age raise
            why = f"the present loader fails: {_said(error)}"
    try:
        return sessions.Session(folder, tags, own, interface, why)
    except Exception as error:
        hint = "what lies in variables/ is missing or damaged: copy or save the SavedModel again"
        raise StageError(f"{folder.name} can't be loaded: {_said(error)}", hint) from error


def _said(error: Exception) -> str:
    """What an exception of TensorFlow says, without its heading and the operator that it came from."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(
        (line for line in lines if line and not line.endswith("error:") and line[:2] != "[["), type(error).__name__
    )


class _Signature(functions.Function):
    """A signature of a loaded SavedModel: called by keyword, and it says what it takes and gives."""

    def __init__(self, function: Any, loaded: Any, name: str, interface: Interface) -> None:
        super().__init__(function, function, loaded, name)
        self._interface = interface

    def interface(self) -> Interface:
        """What the file says."""
        return self._interface

    def accepts(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raises StageError unless all inputs are declared, and no output that there is not."""
        layouts.accepts(self._interface, inputs, outputs)


def _meta_graph(folder: Path, tags: Sequence[str]) -> Any:
    """What a SavedModel holds for some tags. Raises StageError."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / SAVED_MODEL).read_bytes())
    except DecodeError:
        saved.Clear()
    if not saved.meta_graphs:
        hint = f"name the folder that tf.saved_model.save wrote: {SAVED_MODEL} and variables/ lie in it"
        raise StageError(f"{folder.name} is no SavedModel, or was damaged: {SAVED_MODEL} can't be read", hint)
    found = [meta for meta in saved.meta_graphs if {*meta.meta_info_def.tags} == {*tags}]
    if not found:
        kinds = " or ".join(f"[{', '.join(sorted(meta.meta_info_def.tags))}]" for meta in saved.meta_graphs)
        raise StageError(f"{folder.name} has no graph with the tags [{', '.join(tags)}]", f"set tags to {kinds}")
    return found[0]


def _signature(meta: Any, name: str) -> Any:
    """The SignatureDef of a name. Raises StageError, naming those that there are."""
    found = meta.signature_def
    known = [one for one in sorted(found) if not one.startswith("__")]
    if name not in known:
        hint = nearest(name, known) or (f"set signature to {' or '.join(known)}" if known else "")
        has = f"it has {', '.join(known)}" if known else "it has none: save it with `signatures=`"
        raise StageError(f"the SavedModel has no signature '{name}': {has}", hint)
    return found[name]


def _tensor(name: str, info: Any) -> Value:
    """An input or an output as its TensorInfo says. Raises StageError for one of several parts."""
    if info.WhichOneof("encoding") != "name":
        hint = "save a signature that takes and gives plain tensors"
        raise StageError(f"'{name}' of the signature is a sparse or composite tensor", hint)
    dtype = tf.dtypes.as_dtype(info.dtype)
    shape = (
        None
        if info.tensor_shape.unknown_rank
        else [dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim]
    )
    return Value(name, "string" if dtype == tf.string else dtype.name, shape)
