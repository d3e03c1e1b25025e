"""Traces and latest runs as files: what one run of a stage gave, and what a recipe's last run took from the store.

Both are sealed; whatever can't be read is as if it were not there. Knows nothing of what an outcome means.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from onnxbuild.contracts import Json, Outcome
from onnxbuild.store import checksummed, objects
from onnxbuild.system import machine, observed


class Trace(msgspec.Struct, frozen=True):
    """What one run of a stage gave: the document it had, what it was discovered to depend on, and its outcome."""

    document: dict[str, Json]
    discovered: dict[str, str]
    outcome: Outcome
    sizes: dict[str, int]  # bytes of every object that the outcome needs, by ref
    seconds: float
    peak_rss_bytes: int


class Basis(msgspec.Struct, frozen=True):
    """What a recipe's last run rests on, beside what its stages' traces tell.

    `sha256` is of the recipe's file, `bases` of those merged under it, by the names that a trace has for files, `version`
    onnxbuild's own. `reads` are the declared files, and what a model was found
    to use that was asked of its interface, with their digests, by the names that a trace has for such things; `tools` the
    distributions whose versions entered keys, `platform` the facets of the machine that did. `unknown` are the stages
    of which nothing is known: they failed, or the run did not come to them. `seconds` is what all stages took together
    when they were last run.
    """

    sha256: str
    version: str
    reads: dict[str, str]
    tools: dict[str, str]
    platform: dict[str, str]
    unknown: list[str]
    seconds: float
    bases: dict[str, str] = {}


class Latest(msgspec.Struct, frozen=True):
    """A recipe's last run: its stages' keys, the files of the traces that it took or left, and where it all lies.

    `project` is the absolute path of the project's root, or empty where the store lies in it: `file`, the recipe's, and
    `dest`, where it publishes, are then relative to the store, so that a checkout may move.
    """

    recipe: str
    project: str
    keys: dict[str, str]
    traces: dict[str, str]  # stage to "<key>/<digest>", of stages that have an outcome
    file: str = ""
    dest: str = ""
    host: str = ""  # of the machine whose folders these are, where that matters
    basis: Basis | None = None  # None: by a version that did not tell

    def is_wanted(self, folder: Path) -> bool:
        """Whether there is still a recipe, or something that it published. `folder` is the store's."""
        if self.host not in ("", machine.host()):
            return True  # nobody can tell from here
        if self.project and not Path(self.project).is_dir():
            return False
        # the path as it is written: the store may be reached by a link, and what is beside that is meant
        file, dest = (Path(os.path.normpath(folder.absolute() / place)) for place in (self.file, self.dest))
        return not self.file or file.exists() or (dest / "model.onnx").exists()


def read_trace(path: Path, key: str) -> Trace:
    """The trace in a file. Raises OSError, or DamagedError, also where it names what can't be an object's file.

    The seal is no signature: whoever can write into a shared store can write one, and could name any file of ours.
    """
    trace = checksummed.read(path, f"{key}/{path.stem}", Trace)
    named = {*trace.sizes, *trace.outcome.outputs.values(), *trace.outcome.objects}
    if named - trace.sizes.keys() or not all(map(objects.is_ref, named)):
        raise checksummed.DamagedError(str(path))
    return trace


def trace_files(folder: Path, key: str) -> list[tuple[Path, int]]:
    """The traces of a document and when each was used, in nanoseconds; the newest first."""
    try:
        own = _folder_of(folder, key)
        paths = [f"{own}{os.sep}{name}" for name in observed.listdir(own) if name.endswith(".json")]
        found = [(observed.stat(path).st_mtime_ns, path) for path in paths]
    except OSError:
        return []
    return [(Path(path), used_ns) for used_ns, path in sorted(found, reverse=True)]


def all_traces(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every trace's key and file, in order of key."""
    for path in sorted((folder / "traces").glob("*/*/[!.]*.json")):
        yield f"{path.parent.parent.name}{path.parent.name}", path


def discovered(folder: Path, place: str) -> dict[str, str] | None:
    """What the trace at "<key>/<digest>" was discovered to depend on; None where it can't be read any more."""
    try:
        return read_trace(trace_file(folder, place), place.partition("/")[0]).discovered
    except (checksummed.DamagedError, OSError):
        return None


def trace_file(folder: Path, place: str) -> Path:
    """The file of the trace at "<key>/<digest>"."""
    key, _, name = place.partition("/")
    return _folder_of(folder, key) / f"{name}.json"


def all_latest(folder: Path) -> Iterator[tuple[Path, Latest | None]]:
    """Every recipe's last run, None where its file is damaged."""
    for path in sorted((folder / "latest").glob("[!.]*.json")):
        try:
            yield path, checksummed.read(path, path.name, Latest)
        except (checksummed.DamagedError, OSError):
            yield path, None


def _folder_of(folder: Path, key: str) -> Path:
    return folder / "traces" / key[:2] / key[2:]
