"""Decides, for one stage, whether the store already has its outcome; if not, says why.

Gathers the facts that a document is made of (digests of inputs, versions, facets) and compares discovered digests with
today's. Changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from onnxbuild.contracts import Json, Outcome
from onnxbuild.discovery import inputs as discover
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import reasons
from onnxbuild.queries.reasons import Reason
from onnxbuild.store import keys
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Store
from onnxbuild.store.objects import digest_of
from onnxbuild.store.traces import Trace
from onnxbuild.system import distributions, machine, observed
from onnxbuild.targets import file_names


class Found(Struct, frozen=True):
    """What is known of a stage before it runs: its document and key, and a trace that holds or the reasons to run."""

    document: dict[str, Json]
    key: str
    trace: Trace | None
    why: list[str]
    reasons: list[Reason] = []


class Lookup:
    """Look-ups of one recipe's stages in one command.

    Each discovered file and package is looked at once until `forget` is called; `seen` is what was seen of them, which the
    recipes of one project share.
    """

    def __init__(
        self,
        store: Store,
        digests: Digests,
        root: Path,
        latest: Mapping[str, str],
        recipe: str = "",
        seen: dict[str, str] | None = None,
    ) -> None:
        self._recipe = recipe
        self._store = store
        self._digests = digests
        self._root = root
        self._latest = latest
        self._seen = {} if seen is None else seen

    def forget(self) -> None:
        """Look at every file anew from now on: time has passed."""
        self._seen.clear()

    def find(
        self,
        stage: Stage,
        upstream: Mapping[str, str],
        files: Mapping[str, Path],
        refused: Mapping[str, str] | None = None,
    ) -> Found:
        """`upstream` maps a role to the ref it takes, `files` a role to a declared file, `refused` one to why it is not
        read. Raises OSError for a lost file.
        """
        inputs = {role: digest_of(ref) for role, ref in upstream.items()} | dict(refused or {})
        for role, path in files.items():
            inputs[role] = self._digests.of(path)
        document = keys.document(
            stage.kind,
            stage.version,
            stage.options,
            inputs,
            _versions(stage.tools),
            _facets(stage.facets, str(self._root)),
        )
        key = keys.key_of(document)
        trace = self._store.find(key, self._holds)
        if trace is not None:
            return Found(document, key, trace, [])
        why = self._reasons(stage, document, key)
        return Found(document, key, None, [reason.text for reason in why], why)

    def today(self, names: list[str]) -> dict[str, str]:
        """Today's digest of each discovered name."""
        return {name: self._digest(name) for name in names}

    def last(self, stage: str) -> Trace | None:
        """What the stage of that name gave when this recipe was last built, whether it still holds or not."""
        key = self._latest.get(stage)
        return None if key is None else self._store.any_trace(key)

    def unbuilt(self, stage: str) -> Reason:
        """Why the stage of that name has no result: it never had one, or lost it."""
        if stage not in self._latest:
            return reasons.of_store("first build")
        if stage not in self._store.ended(self._recipe, self._root):
            return reasons.of_store(
                "the last run kept no result of it: it failed, was interrupted, or wrote what it read"
            )
        return reasons.of_store("its last result was removed from the store, or was damaged")

    def is_published(self, outcome: Outcome, dest: Path) -> bool:
        """Whether the files that a package gave lie in the output folder as they were written, and none of other targets."""
        made: list[dict[str, str]] = outcome.facts["artifacts"]
        others = file_names() - {one["path"] for one in made}
        return all(self._digests.matches(dest / one["path"], one["sha256"]) for one in made) and not any(
            observed.kind(dest / name) == "file" for name in sorted(others)
        )

    def unpublished(self, outcome: Outcome, dest: Path) -> str:
        """Why a package is to be published that the store has: some of its files are not, or none is."""
        made: list[dict[str, str]] = outcome.facts["artifacts"]
        if all(self._digests.matches(dest / one["path"], one["sha256"]) for one in made):
            return "the output folder holds files of a target that the recipe no longer has"
        if any(os.path.lexists(dest / one["path"]) for one in made):
            return "what was published in the output folder is missing or was changed"
        return f"nothing is published in {dest.name}/ yet, or it was removed"

    def _digest(self, name: str) -> str:
        if name not in self._seen:
            self._seen[name] = discover.digest(name, self._root, self._digests.of)
        return self._seen[name]

    def _holds(self, trace: Trace) -> bool:
        return all(self._digest(name) == digest for name, digest in trace.discovered.items())

    def _reasons(self, stage: Stage, document: dict[str, Json], key: str) -> list[Reason]:
        """What differs from the recipe's last build of the stage; where that is not known, from this document's own."""
        before = self._latest.get(stage.name)
        old = self.last(stage.name) or self._store.any_trace(key)
        if old is not None:
            found = reasons.of_documents(stage, old.document, document) + self._moved(old)
            if found:
                return reasons.ordered(found)
        return [self.unbuilt(stage.name) if before in (None, key) else reasons.of_store("never built like this before")]

    def _moved(self, trace: Trace) -> list[Reason]:
        """What a trace's stage depends on and is no longer the same."""
        return reasons.of_discovered(trace.discovered, self.today(list(trace.discovered)))


# The same for every recipe of one command: nothing is installed meanwhile.
@observed.cached
def _versions(tools: tuple[str, ...]) -> dict[str, str]:
    return distributions.versions(tools)


@observed.cached
def _facets(names: tuple[str, ...], root: str) -> dict[str, str]:
    return machine.facets(names, root)
