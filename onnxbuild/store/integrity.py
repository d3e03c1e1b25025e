"""Whether a store holds what was put into it: every trace, object, last run and the memory of digests, read in full.

`check` only reads. `repair` removes what is damaged and whatever needs it, so that the next run builds it again. Knows
nothing of stages.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec import Struct

from onnxbuild.store import checksummed, keys, layout, objects
from onnxbuild.store.digests import Memory
from onnxbuild.store.traces import Trace, all_latest, all_traces, read_trace, trace_file
from onnxbuild.system import files


class Finding(Struct, frozen=True, order=True):
    """A file of the store and what is wrong with it."""

    path: Path
    fact: str


class Checked(Struct, frozen=True):
    """What was read, and what was found."""

    traces: int
    objects: int
    bytes: int
    findings: list[Finding]


def check(folder: Path) -> Checked:
    """Read all that a store holds."""
    needed: dict[str, int] = {}
    findings = []
    traces = 0
    for key, path in all_traces(folder):
        traces += 1
        trace = _trace(path, key)
        if isinstance(trace, Finding):
            findings.append(trace)
        elif trace:
            needed |= trace.sizes
    refs = sorted({*needed, *_refs(folder / "objects")})
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python's lock
        facts = list(pool.map(lambda ref: _object(folder / "objects" / ref, ref), refs))
    findings += [Finding(folder / "objects" / ref, fact) for ref, (fact, _) in zip(refs, facts, strict=True) if fact]
    findings += _latest(folder)
    findings += _memory(folder / "digests.json")
    return Checked(traces, len(refs), sum(size for _, size in facts), sorted(findings))


def repair(folder: Path, findings: Iterable[Finding]) -> None:
    """Remove what is damaged, and the traces that need it. To be called with the store alone, and checked again then."""
    for finding in findings:
        layout.remove(folder, finding.path)
    for key, path in list(all_traces(folder)):
        trace = _trace(path, key)
        missing = isinstance(trace, Trace) and any(not (folder / "objects" / ref).exists() for ref in trace.sizes)
        if isinstance(trace, Finding) or missing:
            layout.remove(folder, path)
    for path, latest in all_latest(folder):
        if latest is not None:
            there = {name: place for name, place in latest.traces.items() if trace_file(folder, place).exists()}
            if there != latest.traces:
                checksummed.write(path, path.name, msgspec.structs.replace(latest, traces=there))


def _trace(path: Path, key: str) -> Trace | Finding | None:
    try:
        trace = read_trace(path, key)
    except FileNotFoundError:  # collected just now
        return None
    except checksummed.DamagedError:
        return Finding(path, "damaged trace")
    return trace if keys.key_of(trace.document) == key else Finding(path, "trace of another document")


def _object(path: Path, ref: str) -> tuple[str, int]:
    """What is wrong with an object ("" where nothing is), and its size."""
    try:
        size = path.stat().st_size
        return "" if files.sha256_file(path) == objects.digest_of(ref) else "damaged object", size
    except FileNotFoundError:
        return "missing object, which a trace needs", 0
    except (IsADirectoryError, files.IrregularError):
        return "damaged object", 0


def _refs(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*") if folder.is_dir() else ():
        ref = path.relative_to(folder).as_posix()
        if objects.is_ref(ref) and path.is_file():  # whatever has another name is not ours
            yield ref


def _latest(folder: Path) -> Iterator[Finding]:
    for path, latest in all_latest(folder):
        if latest is None:
            yield Finding(path, "damaged record of a last run")
        else:
            for stage, place in sorted(latest.traces.items()):
                if not trace_file(folder, place).exists():
                    yield Finding(trace_file(folder, place), f"missing trace of {latest.recipe}'s {stage}")


def _memory(path: Path) -> Iterator[Finding]:
    try:
        with contextlib.suppress(FileNotFoundError):
            checksummed.read(path, path.name, Memory)
    except checksummed.DamagedError:
        yield Finding(path, "damaged memory of digests")
