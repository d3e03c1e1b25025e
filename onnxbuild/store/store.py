"""The store: objects named by their content, and traces that say which of them a document gave.

    objects/      see `objects`
    traces/<key>/<digest>.json   one per set of discovered digests, written last, newest use wins
    latest/<recipe>.json         what a recipe's last run took from the store: for explanations, and kept by the collector
    leases/       see `leases`

Traces and latest runs are sealed, objects named by what is in them: anything missing, short or corrupt is a miss with a
warning, never an error and never a wrong result. Knows nothing of stages or how outcomes come about.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from onnxbuild.store import checksummed, layout, objects, ownership
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Matches, Workplace
from onnxbuild.store.leases import Lease
from onnxbuild.store.traces import Basis, Latest, Trace, read_trace, trace_file, trace_files
from onnxbuild.system import files, locks, machine, observed

USED_AGAIN_NS = 86_400_000_000_000  # a day: how old the time of a trace's last use may get


def opened(
    folder: Path, warn: Callable[[str], None], *, look: bool, project: Path | None, trusted: bool, paranoid: bool
) -> tuple[LocalStore, Digests]:
    """The store in a folder, and the memory of digests that goes with it. Raises UserError where it is refused."""
    store = LocalStore(folder, warn, look=look, project=project, trusted=trusted)
    return store, Digests(folder / layout.DIGESTS, paranoid=paranoid, warn=warn)


class LocalStore:
    """A store in a folder of its own; made on first writing. One that may only `look` writes nothing at all."""

    def __init__(
        self,
        folder: Path,
        warn: Callable[[str], None],
        *,
        look: bool = False,
        project: Path | None = None,
        trusted: bool = False,
    ) -> None:
        """`project` is the root of the project that it may have arrived with. Raises UserError where it is refused."""
        self._project_root = project
        self._standing = ownership.standing(folder, project, trusted=trusted)
        self.folder = folder
        self._objects = folder / "objects"
        self._warn = warn
        self._look = look
        self._lease: Lease | None = None
        self._warned: set[str] = set()
        self._used: dict[str, str] = {}  # key to the name of the trace that was found or kept
        if self._standing is ownership.Standing.OLD:
            self.warn(folder, "has no marker; taken as what a version before the marker made here")

    def claim(self) -> None:
        """Make the folder a store, before anything else is written to it. Raises OSError where a new one can't be made."""
        ownership.claim(self.folder, self._standing, self._project_root)
        self._standing = ownership.Standing.OURS

    def warn(self, path: Path, text: str) -> None:
        """Warn of a file, once: what is wrong with it may come up again until it is repaired."""
        if str(path) not in self._warned:
            self._warned.add(str(path))
            self._warn(f"{path}: {text}")

    def find(self, key: str, holds: Callable[[Trace], bool]) -> Trace | None:
        """The newest intact trace of a document for which `holds` is true, or None."""
        with self._leased(key):
            for path, used_ns in trace_files(self.folder, key):
                trace = self._read(path, key)
                if trace is not None and holds(trace) and self._intact(trace, path):
                    self._use(path, key, used_ns)
                    return trace
        return None

    def any_trace(self, key: str) -> Trace | None:
        """The newest readable trace of a document, whether it still holds or not: for explanations."""
        return next((trace for path, _ in trace_files(self.folder, key) if (trace := self._read(path, key))), None)

    def keep(self, key: str, trace: Trace) -> None:
        """Write a trace; its objects must be there already."""
        self.claim()
        name = hashlib.sha256(msgspec.json.encode(trace.discovered, order="deterministic")).hexdigest()
        checksummed.write(trace_file(self.folder, f"{key}/{name}"), f"{key}/{name}", trace)
        self._used[key] = name

    def discard(self, ref: str) -> None:
        """Take away an object that was found damaged, so that it is built again."""
        path = self._objects / ref
        self.warn(path, "damaged; building it again" if path.exists() else "missing; building it again")
        if not self._look:
            files.remove(path)

    def fetch(self, refs: Iterable[str], matches: Matches) -> list[str]:
        """The refs of objects that are lost or damaged; the others are on this machine already."""
        return [ref for ref in refs if not matches(self.path(ref), objects.digest_of(ref))]

    def path(self, ref: str) -> Path:
        """Where an object is."""
        return self._objects / ref

    def lock(self, key: str) -> locks.Lock | locks.Holder:
        """The right to build what has this key, or who has it; never waits."""
        return locks.take(self.folder / "locks" / key)

    def workplace(self) -> Workplace:
        """The folders that stages work in, there from now on. Raises OSError where they can't be made."""
        self.claim()
        files.make_folder(self._objects)
        return Workplace(self._objects, self.folder / "tmp")

    def sizes(self, refs: list[str]) -> dict[str, int]:
        """The size in bytes of each object."""
        return {ref: (self._objects / ref).stat().st_size for ref in refs}

    def latest(self, recipe: str, root: Path | None = None) -> dict[str, str]:
        """The keys of a recipe's last run, by stage; empty where there was none. `root` is its project's."""
        latest = self._latest(recipe, root)
        return latest.keys if latest else {}

    def ended(self, recipe: str, root: Path | None = None) -> set[str]:
        """The stages that had an outcome after a recipe's last run: they neither failed nor were interrupted."""
        latest = self._latest(recipe, root)
        return set(latest.traces) if latest else set()

    def note_latest(
        self,
        recipe: str,
        keys: Mapping[str, str],
        root: Path | None = None,
        file: Path | None = None,
        dest: Path | None = None,
        basis: Basis | None = None,
    ) -> None:
        """Remember what a recipe's last run took or left, of the stages that it came to; `file` is the recipe's own."""
        before = self._latest(recipe, root)
        traces = {name: f"{key}/{self._used[key]}" for name, key in keys.items() if key in self._used}
        for name, place in before.traces.items() if before else ():
            if (
                name not in traces
                and place.partition("/")[0] == keys.get(name)
                and trace_file(self.folder, place).exists()
            ):
                traces[name] = place  # the run did not come to it
        project = self._project(root)
        own, published = ("" if path is None else self._place(path, project) for path in (file, dest))
        host = machine.host() if project else ""
        latest = Latest(recipe, project, dict(keys), traces, own, published, host, basis)
        if latest != before:
            self.claim()
            path = self._latest_file(recipe, root)
            checksummed.write(path, path.name, latest)

    def close(self) -> None:
        """The command needs nothing more of the store."""
        if self._lease is not None:
            self._lease.close()
        self._lease = None

    def _leased(self, key: str) -> contextlib.AbstractContextManager[None]:
        if self._look:
            return contextlib.nullcontext()
        if self._lease is None:
            self.claim()
            self._lease = Lease(self.folder / "leases", self._objects, self._warn)
        return self._lease.using(key)

    def _use(self, path: Path, key: str, used_ns: int) -> None:
        self._used[key] = path.stem
        now = time.time_ns()
        observed.until(used_ns + USED_AGAIN_NS)
        if not self._look and now - used_ns > USED_AGAIN_NS:  # not each time: with nothing to do nothing is written
            with contextlib.suppress(OSError):
                os.utime(path, ns=(now, now))

    def _project(self, root: Path | None) -> str:
        return "" if root is None or self.folder.is_relative_to(root) else str(root)

    def _place(self, path: Path, project: str) -> str:
        return str(path.absolute()) if project else os.path.relpath(path.absolute(), self.folder.absolute())

    def _latest_file(self, recipe: str, root: Path | None) -> Path:
        project = self._project(root)
        other = f"@{hashlib.sha256(project.encode()).hexdigest()[:16]}" if project else ""
        return self.folder / "latest" / f"{recipe}{other}.json"

    def _latest(self, recipe: str, root: Path | None) -> Latest | None:
        path = self._latest_file(recipe, root)
        try:
            return checksummed.read(path, path.name, Latest)
        except FileNotFoundError:
            return None
        except (checksummed.DamagedError, OSError):
            self.warn(path, "damaged, taken as not there")
            return None

    def _read(self, path: Path, key: str) -> Trace | None:
        try:
            return read_trace(path, key)
        except FileNotFoundError:  # collected just now
            pass
        except checksummed.DamagedError:
            self.warn(path, "damaged trace, taken as not there")
            self._drop(path)
        except OSError as error:
            self.warn(path, f"can't be read ({error.strerror}), taken as not there")
        return None

    def _intact(self, trace: Trace, path: Path) -> bool:
        for ref, size in trace.sizes.items():
            try:
                found = observed.stat(self._objects / ref).st_size
            except OSError:
                found = -1
            if found != size:
                self.warn(self._objects / ref, f"{'missing' if found < 0 else 'damaged'}; building it again")
                self._drop(path)
                return False
        return True

    def _drop(self, path: Path) -> None:
        if not self._look:
            with contextlib.suppress(OSError):
                files.remove(path)
