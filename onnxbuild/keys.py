"""A stage's key: the SHA-256 of a document that says all that is known before the stage runs.

Knows no files, no store and no stages. The document is kept beside what was built, so that the reason for a rebuild is
the difference of two documents and can't drift from what is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from onnxbuild.contracts import Json

FORMAT = 1  # raised when the meaning of a document or a trace changes

# Where an option of a stage comes from in the recipe, where the names differ.
_RECIPE_NAMES = {"options.source": "model", "options.export": "export", "options.symbolics": "symbolics"}


def document(
    kind: str,
    version: str,
    options: Mapping[str, Json],
    inputs: Mapping[str, str],
    tools: Mapping[str, str],
    platform: Mapping[str, str],
) -> dict[str, Json]:
    """All that decides a stage's outcome and is known before it runs.

    `inputs` maps a role to the SHA-256 of its content, `tools` a distribution to its version, `platform` a declared facet
    of the machine to its value. Never in it: paths, times, host, user, number of jobs, names or order of stages.
    """
    return {
        "format": FORMAT,
        "stage": kind,
        "version": version,
        "options": dict(options),
        "inputs": dict(inputs),
        "tools": dict(tools),
        "platform": dict(platform),
    }


def key_of(doc: Mapping[str, Json]) -> str:
    """The SHA-256, in hexadecimal, of the document's canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(msgspec.json.encode(doc, order="deterministic")).hexdigest()


def differences(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[str]:
    """What changed between two documents, or between two sets of discovered digests, one sentence each."""
    before, after = dict(_leaves("", old)), dict(_leaves("", new))
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return [_sentence(name, before.get(name), after.get(name)) for name in changed]


def _leaves(prefix: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, inner in enumerate(value):
            yield from _leaves(f"{prefix}[{index}]", inner)
    else:
        yield prefix, value


def _sentence(name: str, old: Json, new: Json) -> str:
    head, _, rest = name.partition(".")
    if head == "tools":
        return f"{rest} {_say(old)} -> {_say(new)}"
    if head == "inputs":
        return f"input {rest} changed"
    if head == "platform":
        return f"platform {rest}: {_say(old)} -> {_say(new)}"
    if head == "version":
        return "onnxbuild's code of this stage changed"
    for ours, theirs in _RECIPE_NAMES.items():
        if name == ours or name.startswith((ours + ".", ours + "[")):
            return f"{theirs}{name[len(ours) :]}: {_say(old)} -> {_say(new)}"
    return f"{rest or name}: {_say(old)} -> {_say(new)}"


def _say(value: Json) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
