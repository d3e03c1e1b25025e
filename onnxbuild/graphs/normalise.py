"""Brings a model into the one form that equal models share: what tools note, and order that says nothing, goes.

Changes nothing that a runtime computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import notes, stamps, tensors
from onnxbuild.graphs.notes import Notes

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


# What an exporter or optimizer notes about its own work: Python stack traces, class names, rules that fired. It changes
# with a comment in the model's file or an option that changed nothing, and no runtime reads it. (onnxsim.range* is the
# user's.)
TOOL_NOTES = r"pkg\.|namespace$|onnxsim\.(?!range)"
# Three steps deep, or below a folder where people's files are: "/m/0k4j", say, is a class of Open Images.
ABSOLUTE_PATH = (
    r"""(?:^|[\s"'=(,\[])(?:(?:/[\w.~+@-]+){3}|/(?:home|root|Users|private|tmp|var|opt|usr|mnt)/\w)"""
    r"""|\b[A-Za-z]:[\\/]\w|file://"""
)


def normalise(model: ModelProto, own: Notes = notes.NONE) -> None:
    """Bring a model, in place, into the one form that equal models share.

    Dropped, but for what is among `own` (what the model's author wrote): doc strings, inferred `value_info`, tools' notes,
    and metadata that holds absolute paths; the stamp of an earlier build is nobody's own, and always dropped. Sorted:
    initializers, functions, operator set imports, attributes and metadata.
    Tensors whose data is in the message are held as raw bytes. What a runtime computes stays as it was; doing it again
    changes nothing.
    """
    _clean(model, own)
    _sort(model.functions, key=lambda f: (f.domain, f.name, f.overload))
    for holder in (model, *model.functions):
        for entry in holder.opset_import:
            entry.domain = entry.domain  # always present, as protobuf would keep two forms of ""
        _sort(holder.opset_import, key=lambda entry: entry.domain)
    for body in tensors.bodies(model):
        _normalise_body(body, own)
    for training in model.training_info:
        for bindings in (training.initialization_binding, training.update_binding):
            _sort(bindings, key=lambda entry: entry.key)
    for tensor in (*tensors.large_candidates(model), *tensors.other_tensors(model)):
        _clean(tensor, own)
        if not tensors.is_external(tensor) and not tensors.is_string(tensor):
            _hold_raw(tensor)


def _normalise_body(body: Any, own: Notes) -> None:
    _clean(body, own)
    written = [value for value in body.value_info if own.holds_of(value)]
    body.ClearField("value_info")
    body.value_info.extend(written)
    for value in (*body.input, *body.output, *body.value_info):
        if not isinstance(value, str):  # a function's are names
            _clean(value, own)
    _sort(getattr(body, "initializer", None), key=lambda tensor: tensor.name)
    _sort(getattr(body, "sparse_initializer", None), key=lambda sparse: sparse.values.name)
    for attribute in getattr(body, "attribute_proto", ()):
        _clean_doc(attribute, own)
    for node in body.node:
        for field in ("name", "domain", "overload"):
            if not getattr(node, field):  # present but empty means the same as absent
                node.ClearField(field)
        _clean(node, own)
        _sort(node.attribute, key=lambda attribute: attribute.name)
        for attribute in node.attribute:
            _clean_doc(attribute, own)


def _clean_doc(message: Any, own: Notes) -> None:
    if message.doc_string not in own.docs:
        message.ClearField("doc_string")


def _clean(message: Any, own: Notes) -> None:
    _clean_doc(message, own)
    kept = sorted(
        (entry.key, entry.value)
        for entry in message.metadata_props
        if entry.key not in stamps.KEYS
        and (
            (entry.key, entry.value) in own.metadata
            or (not re.match(TOOL_NOTES, entry.key) and not re.search(ABSOLUTE_PATH, entry.value))
        )
    )
    if [(entry.key, entry.value) for entry in message.metadata_props] != kept:
        message.ClearField("metadata_props")
        for key, value in kept:
            message.metadata_props.add(key=key, value=value)


def _sort(field: Any, key: Callable[[Any], Any]) -> None:
    # in place: sorting a copy would hold every tensor of an unsorted model twice
    if field is not None and len(field) > 1:
        field.sort(key=key)


def _hold_raw(tensor: TensorProto) -> None:
    data = tensors.inline_bytes(tensor)
    typed = any(len(getattr(tensor, field)) for field in tensors.TYPED_FIELDS)
    if typed or not tensor.HasField("raw_data") or tensor.HasField("data_location") or len(tensor.external_data):
        tensors.set_inline(tensor, data)
