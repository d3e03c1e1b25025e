"""Decides, for one stage, whether the store already has its outcome; if not, says why.

Gathers the facts that a document is made of (digests of inputs, versions, facets) and compares discovered digests with
today's. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from onnxbuild import discover, keys, toolchain
from onnxbuild.contracts import Json
from onnxbuild.digests import Digests
from onnxbuild.objects import digest_of
from onnxbuild.plan import Stage
from onnxbuild.store import Store, Trace


class Found(Struct, frozen=True):
    """What is known of a stage before it runs: its document and key, and a trace that holds or the reasons to run."""

    document: dict[str, Json]
    key: str
    trace: Trace | None
    why: list[str]


class Lookup:
    """Look-ups of one recipe's stages in one command; each file is looked at once until `forget` is called."""

    def __init__(self, store: Store, digests: Digests, root: Path, latest: Mapping[str, str]) -> None:
        self._store = store
        self._digests = digests
        self._root = root
        self._latest = latest
        self._memory: dict[str, str] = {}

    def forget(self) -> None:
        """Look at every file anew from now on: time has passed."""
        self._memory.clear()

    def find(self, stage: Stage, upstream: Mapping[str, str], files: Mapping[str, Path]) -> Found:
        """`upstream` maps a role to the ref it takes, `files` a role to a declared file. Raises OSError for a lost file."""
        inputs = {role: digest_of(ref) for role, ref in upstream.items()}
        inputs |= {role: self._digests.of(path) for role, path in files.items()}
        document = keys.document(
            stage.kind,
            stage.version,
            stage.options,
            inputs,
            toolchain.versions(stage.tools),
            toolchain.facets(stage.facets),
        )
        key = keys.key_of(document)
        trace = self._store.find(key, self._holds)
        return Found(document, key, trace, [] if trace else self._reasons(stage.name, document, key))

    def today(self, names: list[str]) -> dict[str, str]:
        """Today's digest of each discovered name."""
        return {name: self._digest(name) for name in names}

    def _digest(self, name: str) -> str:
        if name not in self._memory:
            self._memory[name] = discover.digest(name, self._root, self._digests.of)
        return self._memory[name]

    def _holds(self, trace: Trace) -> bool:
        return all(self._digest(name) == digest for name, digest in trace.discovered.items())

    def _reasons(self, name: str, document: dict[str, Json], key: str) -> list[str]:
        trace = self._store.any_trace(key)
        if trace is not None:
            return [
                discover.say(name, digest, self._digest(name))
                for name, digest in sorted(trace.discovered.items())
                if self._digest(name) != digest
            ]
        before = self._latest.get(name)
        if before is None:
            return ["first build"]
        if before == key:
            return ["its last result is not in the store (it failed, was interrupted, or was removed)"]
        old = self._store.any_trace(before)
        return keys.differences(old.document, document) if old else ["never built with these inputs and options"]
