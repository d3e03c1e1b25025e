"""A stage's key: the SHA-256 of a document that says all that is known before the stage runs.

Knows no files, no store and no stages. The document is kept beside what was built, so that the reason for a rebuild is
the difference of two documents and can't drift from what is hashed; `reasons` puts such differences into words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Json

FORMAT = 1  # raised when the meaning of a document or a trace changes

Path: TypeAlias = "tuple[str | int, ...]"


class Change(NamedTuple):
    """One part of two documents that is not the same in both; UNSET where one of them lacks it."""

    path: Path
    old: Json
    new: Json


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
        "options": options,
        "inputs": inputs,
        "tools": tools,
        "platform": platform,
    }


def canonical(doc: Json) -> bytes:
    """Canonical JSON of a document or a part of one: sorted keys, no spaces."""
    return msgspec.json.encode(doc, order="deterministic")


def key_of(doc: Mapping[str, Json]) -> str:
    """The SHA-256, in hexadecimal, of the document's canonical JSON."""
    return hashlib.sha256(canonical(doc)).hexdigest()


def differences(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Change]:
    """Every part in which two documents differ, sorted by path; none where their keys are the same."""
    return list(_compared((), old, new))


def _compared(path: Path, old: Json, new: Json) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            yield from _compared((*path, name), old.get(name, UNSET), new.get(name, UNSET))
    elif _holds_parts(old) and _holds_parts(new):
        for index, (before, after) in enumerate(zip_longest(old, new, fillvalue=UNSET)):
            yield from _compared((*path, index), before, after)
    elif not _same(old, new):
        yield Change(path, old, new)


def _same(old: Json, new: Json) -> bool:
    """Whether two values are the same JSON, which is less than `==` says: 1 == True == 1.0."""
    if old is UNSET or new is UNSET:
        return old is new
    return canonical(old) == canonical(new)


def _holds_parts(value: Json) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value)
