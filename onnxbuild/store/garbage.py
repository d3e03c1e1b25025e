"""What a store holds, what of it may go, and removing that: the collector.

Kept always: what a recipe's last run took or left (while there is the recipe, or what it published), what a running
command looked for, and whatever is younger than the oldest running command. Of the rest the least recently used traces go
first, then the objects that no trace needs. `choose` is pure; `look` and `remove` do the reading and the removing.
Knows nothing of stages.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from onnxbuild.store import checksummed, layout, leases, objects
from onnxbuild.store.leases import Holder
from onnxbuild.store.traces import Latest, all_latest, all_traces, read_trace
from onnxbuild.system import files, locks


class Item(Struct, frozen=True):
    """A file or folder of the store: its size in bytes, and when it was written or last used, in nanoseconds."""

    path: Path
    bytes: int
    time_ns: int


class Held(Struct, frozen=True):
    """A trace, by its place "<key>/<digest>", and the objects that it needs."""

    item: Item
    place: str
    refs: tuple[str, ...]


class Content(Struct, frozen=True):
    """All that a store holds. `damaged` are traces that can't be read, `left` what dead commands left behind."""

    traces: list[Held]
    objects: dict[str, Item]
    latest: list[Latest]
    running: list[Holder]
    damaged: list[Item]
    left: list[Item]

    @property
    def bytes(self) -> int:
        """The bytes of all of it on the disk."""
        return sum(held.item.bytes for held in self.traces) + sum(item.bytes for item in self.objects.values())


class Policy(Struct, frozen=True):
    """What to remove beside what nothing needs; None sets no limit."""

    max_bytes: int | None = None
    unused_since_ns: int | None = None


class Chosen(Struct, frozen=True):
    """What is to go; `bytes_left` is what traces and objects take up afterwards."""

    traces: list[Held]
    objects: list[Item]
    others: list[Item]
    bytes_left: int

    @property
    def bytes(self) -> int:
        """The bytes of all of it on the disk."""
        return sum(item.bytes for item in (*(held.item for held in self.traces), *self.objects, *self.others))


def choose(content: Content, policy: Policy) -> Chosen:
    """What may go and is to go."""
    since = min((holder.since_ns for holder in content.running), default=None)
    young = None if since is None else since - leases.GRACE_NS
    gone = [held for held in _unprotected(content, young) if _is_unused(held, policy)]
    needs = Counter(ref for held in content.traces for ref in held.refs)
    needs.subtract(ref for held in gone for ref in held.refs)
    free = {
        ref: item
        for ref, item in content.objects.items()
        if needs[ref] <= 0 and (young is None or item.time_ns < young)
    }
    going = {held.place for held in gone}
    left = content.bytes - sum(held.item.bytes for held in gone) - sum(item.bytes for item in free.values())
    for held in _unprotected(content, young):
        if policy.max_bytes is None or left <= policy.max_bytes:
            break
        if held.place in going:
            continue
        gone.append(held)
        left -= held.item.bytes
        needs.subtract(held.refs)
        for ref in held.refs:
            item = content.objects.get(ref)
            if needs[ref] <= 0 and ref not in free and item and (young is None or item.time_ns < young):
                free[ref] = item
                left -= item.bytes
    others = [item for item in (*content.damaged, *content.left) if young is None or item.time_ns < young]
    return Chosen(gone, list(free.values()), others, left)


def _unprotected(content: Content, young: int | None) -> list[Held]:
    """The traces that may go, the least recently used first."""
    roots = {place for latest in content.latest for place in latest.traces.values()}
    in_use = {key for holder in content.running for key in holder.keys}
    may_go = (
        held
        for held in content.traces
        if held.place not in roots
        and held.place.partition("/")[0] not in in_use
        and (young is None or held.item.time_ns < young)
    )
    return sorted(may_go, key=lambda held: (held.item.time_ns, held.place))


def _is_unused(held: Held, policy: Policy) -> bool:
    return policy.unused_since_ns is not None and held.item.time_ns < policy.unused_since_ns


def look(folder: Path, running: list[Holder]) -> Content:
    """Read what a store holds; `running` are the commands that use it."""
    traces, damaged = [], []
    for key, path in all_traces(folder):
        with contextlib.suppress(FileNotFoundError):
            item = _item(path)
            try:
                trace = read_trace(path, key)
                traces.append(Held(item, f"{key}/{path.stem}", tuple(trace.sizes)))
            except checksummed.DamagedError:
                damaged.append(item)
    latest = [latest for path, latest in all_latest(folder) if latest and latest.is_wanted(folder)]
    found = {item.path.relative_to(folder / "objects").as_posix(): item for item in _files(folder / "objects")}
    stored = {ref: item for ref, item in found.items() if objects.is_ref(ref)}
    return Content(traces, stored, latest, running, damaged, [*_left(folder), *_orphaned(folder)])


def remove(folder: Path, chosen: Chosen) -> None:
    """Remove it, with the store alone: traces before the objects they need, so that no trace is ever without."""
    for held in chosen.traces:
        layout.remove(folder, held.item.path)
        with contextlib.suppress(OSError):
            held.item.path.parent.rmdir()  # the key's folder, where this was the last trace of it
    for item in chosen.objects:
        layout.remove(folder, item.path)
    for item in chosen.others:
        if item.path.is_dir():
            locks.remove_folder(item.path)  # unless its command is alive after all
        else:
            layout.remove(folder, item.path)
    for path in (folder / "locks").glob("*"):
        lock = locks.take(path) if layout.is_ours(folder, path) else None
        if isinstance(lock, locks.Lock):  # a dead command's, and gone once released
            lock.release()


def _left(folder: Path) -> Iterator[Item]:
    """Files that never got their name, and scratch folders; whoever runs is younger than what it makes."""
    for below in ("objects", "traces", "latest", "."):
        pattern = f"{files.TEMPORARY}*" if below == "." else f"**/{files.TEMPORARY}*"
        for path in (folder / below).glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if layout.is_ours(folder, path):
                    yield _item(path)
    # what is remembered saves looking, once each
    for path in (*(folder / "tmp").glob("*"), *(folder / layout.REMEMBERED).glob("*")):
        with contextlib.suppress(FileNotFoundError):
            if layout.is_ours(folder, path):
                yield _item(path)


def _orphaned(folder: Path) -> Iterator[Item]:
    """The last runs of projects and recipes that are no more."""
    for path, latest in all_latest(folder):
        if latest and not latest.is_wanted(folder) and layout.is_ours(folder, path):
            yield _item(path)


def _files(folder: Path) -> Iterator[Item]:
    for path in folder.rglob("*") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield _item(path)


def _item(path: Path) -> Item:
    found = path.stat()
    inside = _sum(_files(path)) if path.is_dir() else found.st_size
    return Item(path, inside, found.st_mtime_ns)


def _sum(items: Iterable[Item]) -> int:
    return sum(item.bytes for item in items)
