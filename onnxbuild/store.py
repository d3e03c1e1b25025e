"""The store: objects named by their content, and traces that say which of them a document gave.

    objects/      see `objects`
    traces/<key>/<digest>.json   one per set of discovered digests, written last, newest wins
    latest/<recipe>.json         the keys of a recipe's last run, for explanations only

A trace's file is the SHA-256 of the rest, a newline, and JSON. Anything missing, short or corrupt is a miss with a
warning, never an error and never a wrong result. Knows nothing of stages or how outcomes come about.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from onnxbuild import objects
from onnxbuild.contracts import Json, Outcome


class Trace(msgspec.Struct, frozen=True):
    """What one run of a stage gave: the document it had, what it was discovered to depend on, and its outcome."""

    document: dict[str, Json]
    discovered: dict[str, str]
    outcome: Outcome
    sizes: dict[str, int]  # bytes of every object that the outcome needs, by ref
    seconds: float
    peak_rss_bytes: int


class Store:
    """A store in a folder of its own; made on first writing."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.objects = folder / "objects"
        self.warn = warn

    def find(self, key: str, holds: Callable[[Trace], bool]) -> Trace | None:
        """The newest intact trace of a document for which `holds` is true, or None."""
        for path in self._trace_files(key):
            trace = self._read(path)
            if trace is not None and holds(trace) and self._intact(trace, path):
                return trace
        return None

    def any_trace(self, key: str) -> Trace | None:
        """The newest readable trace of a document, whether it still holds or not: for explanations."""
        return next((trace for path in self._trace_files(key) if (trace := self._read(path))), None)

    def keep(self, key: str, trace: Trace) -> None:
        """Write a trace; its objects must be there already."""
        name = hashlib.sha256(msgspec.json.encode(trace.discovered, order="deterministic")).hexdigest()
        body = msgspec.json.encode(trace)
        seal = hashlib.sha256(body).hexdigest().encode() + b"\n"
        objects.write_atomic(self._folder_of(key) / f"{name}.json", [seal, body])

    def sizes(self, refs: list[str]) -> dict[str, int]:
        """The size in bytes of each object."""
        return {ref: (self.objects / ref).stat().st_size for ref in refs}

    def latest(self, recipe: str) -> dict[str, str]:
        """The keys of a recipe's last run, by stage; empty where there was none."""
        try:
            return msgspec.json.decode((self.folder / "latest" / f"{recipe}.json").read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def note_latest(self, recipe: str, keys: Mapping[str, str]) -> None:
        """Remember the keys of a recipe's last run."""
        objects.write_atomic(self.folder / "latest" / f"{recipe}.json", [msgspec.json.encode(keys)])

    def _folder_of(self, key: str) -> Path:
        return self.folder / "traces" / key[:2] / key[2:]

    def _trace_files(self, key: str) -> list[Path]:
        try:
            with os.scandir(self._folder_of(key)) as entries:
                found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name.endswith(".json")]
        except OSError:
            return []
        return [Path(path) for _, path in sorted(found, reverse=True)]

    def _read(self, path: Path) -> Trace | None:
        try:
            seal, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() == seal:
                return msgspec.json.decode(body, type=Trace)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            pass
        self.warn(f"{path}: damaged trace, taken as not there")
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def _intact(self, trace: Trace, path: Path) -> bool:
        for ref, size in trace.sizes.items():
            try:
                found = (self.objects / ref).stat().st_size
            except OSError:
                found = -1
            if found != size:
                self.warn(f"{self.objects / ref}: {'missing' if found < 0 else 'damaged'}; building it again")
                with contextlib.suppress(OSError):
                    path.unlink()
                return False
        return True
