"""What people wrote into a model beside what it computes: metadata and doc strings, and how a pass treats them.

An existing file's are its author's and are kept; what exporters and passes add is normalised away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.graphs import tensors
from onnxbuild.text import units

if TYPE_CHECKING:
    from onnx import ModelProto

SHOWN = 4  # keys named of what was lost


class Notes(NamedTuple):
    """Texts that somebody wrote, wherever in the model they stand: doc strings, and metadata as (key, value)."""

    docs: frozenset[str] = frozenset()
    metadata: frozenset[tuple[str, str]] = frozenset()

    def holds_of(self, message: Any) -> bool:
        """Whether a message has a doc string or metadata among these."""
        return message.doc_string in self.docs or any(
            (entry.key, entry.value) in self.metadata for entry in message.metadata_props
        )


NONE = Notes()


def of(model: ModelProto) -> Notes:
    """All that is written in a model."""
    holders = list(_holders(model))
    docs = {holder.doc_string for holder in holders} - {""}
    entries = [entry for holder in holders for entry in getattr(holder, "metadata_props", ())]
    return Notes(frozenset(docs), frozenset((entry.key, entry.value) for entry in entries))


def changes(before: ModelProto, after: ModelProto) -> list[str]:
    """What of the author's a pass dropped or changed, in sentences: metadata, doc strings, domains, IR version."""
    old, new = of(before), of(after)
    said = []
    if gone := sorted(old.metadata - new.metadata):
        keys = list(dict.fromkeys(key for key, _ in gone))
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        said.append(f"dropped metadata: {', '.join(keys[:SHOWN])}{more}")
    if docs := sorted(old.docs - new.docs):
        said.append(f"dropped {units.plural(len(docs), 'doc string')}: {units.clip(docs[0], 60)!r}")
    domains = [{entry.domain for entry in model.opset_import} for model in (before, after)]
    if lost := sorted(name or "ai.onnx" for name in domains[0] - domains[1]):
        said.append(f"dropped the operator sets {', '.join(lost)}, which no node needs now")
    for field, name in (("ir_version", "IR version"), ("domain", "model's domain"), ("model_version", "model version")):
        was, now = getattr(before, field), getattr(after, field)
        if was != now:
            said.append(f"changed the {name} from {was or 'none'} to {now or 'none'}")
    return said


def _holders(model: ModelProto) -> Iterator[Any]:
    """Every message of a model that may have a doc string or metadata."""
    yield model
    for body in tensors.bodies(model):
        yield body
        for name in ("input", "output", "value_info"):
            yield from (value for value in getattr(body, name) if not isinstance(value, str))  # a function's are names
        yield from getattr(body, "attribute_proto", ())
        for node in body.node:
            yield node
            yield from node.attribute
    yield from tensors.large_candidates(model)
    yield from tensors.other_tensors(model)
