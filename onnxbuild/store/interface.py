"""What a store is to all that build with one: results found, kept and brought near, wherever they lie.

`store.LocalStore`, a folder on this machine, is the first implementation; one that has its objects elsewhere brings them
into its `workplace` when `fetch` asks for them, and sends what `keep` is given. Types only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from onnxbuild.store.traces import Basis, Trace
from onnxbuild.system import locks

Matches = Callable[[Path, str], bool]  # whether a file is there and has that SHA-256


class Workplace(Struct, frozen=True):
    """Where stages on this machine work: the folder of objects that they read and write, by ref, and one for scratch."""

    objects: Path
    scratch: Path


class Store(Protocol):
    """Objects by ref, traces by key, and what each recipe's last run took. See `objects` for refs, `keys` for keys.

    `folder` is where it works on this machine: for messages, and to ask whether the disk is full. What is in the folder is
    the implementation's own affair. Every method may raise OSError where the surroundings forbid what it does.
    """

    folder: Path

    def find(self, key: str, holds: Callable[[Trace], bool]) -> Trace | None:
        """The newest intact trace of a document for which `holds` is true, or None; what it needs stays from now on."""

    def any_trace(self, key: str) -> Trace | None:
        """The newest readable trace of a document, whether it still holds or not: for explanations."""

    def keep(self, key: str, trace: Trace) -> None:
        """Keep a trace, whose objects are in the workplace."""

    def fetch(self, refs: Iterable[str], matches: Matches) -> list[str]:
        """Bring objects to the workplace and read them there; gives the refs of those that are lost or damaged."""

    def path(self, ref: str) -> Path:
        """Where an object is on this machine once it was fetched."""

    def discard(self, ref: str) -> None:
        """Take away an object that was found damaged, so that it is built again, and warn of it."""

    def sizes(self, refs: list[str]) -> dict[str, int]:
        """The size in bytes of each object of the workplace."""

    def lock(self, key: str) -> locks.Lock | locks.Holder:
        """The right to build what has this key, or who has it; never waits."""

    def workplace(self) -> Workplace:
        """The folders that stages work in, there from now on."""

    def latest(self, recipe: str, root: Path | None = None) -> dict[str, str]:
        """The keys of a recipe's last run, by stage; empty where there was none. `root` is its project's."""

    def ended(self, recipe: str, root: Path | None = None) -> set[str]:
        """The stages that had an outcome after a recipe's last run."""

    def note_latest(
        self,
        recipe: str,
        keys: Mapping[str, str],
        root: Path | None = None,
        file: Path | None = None,
        dest: Path | None = None,
        basis: Basis | None = None,
    ) -> None:
        """Remember what a recipe's last run took or left, and the `basis` of both; `file` is the recipe's own, `dest` where
        it publishes.
        """

    def close(self) -> None:
        """The command needs nothing more of the store."""
