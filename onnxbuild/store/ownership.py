"""Whose a store's folder is: by a marker in it, the store is ours or is refused.

A folder that is empty, or isn't there, becomes a store by its marker, which is written before anything else. One that has
content and no marker is never taken, unless it is what versions before the marker left: nothing but our names, and a
file among them with our seal (`checksummed`). What comes with a checkout is not trusted: a seal is no signature, and
traces can say what they like. So the marker names an owner, by a keyed hash of the store's own random id; the key is a
random one in the user's state folder and nowhere else. It is asked of a store in the project's own folder; one outside it
was named by whoever runs the command, who is free to share it. Knows nothing of what a store holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from enum import Enum
from itertools import chain
from pathlib import Path

from msgspec import Struct

from onnxbuild.errors import usage
from onnxbuild.store import checksummed, layout, seal, traces
from onnxbuild.store.digests import Memory
from onnxbuild.system import files, observed

FORMAT = 1  # of the folder; raised when an older version could not make sense of it
_TRUST = "if you know where it comes from, pass --trust-store or set ONNXBUILD_TRUST_STORE=1; else delete it"
_TRACKED = re.compile(rb"traces/[0-9a-f]{2}/[0-9a-f]{62}/[0-9a-f]{64}\.json")


class Marker(Struct, frozen=True):
    """What a store's marker says. `owner` is "" where the one who made it had no place for a key."""

    format: int
    id: str
    owner: str


class Standing(Enum):
    """What a folder is to us, before anything is written to it."""

    NEW = "there is nothing in it"
    OURS = "it has a marker"
    OLD = "a version before the marker made it"
    TRUSTED = "it is another's, and is trusted for this once"


def standing(folder: Path, project: Path | None = None, *, trusted: bool = False) -> Standing:
    """What a folder is. Writes nothing.

    `project` is the root of the project whose recipes are built; a store inside it may have arrived with it. `trusted`
    takes the user's word for that. Raises UserError for a folder that is no store, one of a later format, and one that is
    another owner's; OSError where it can't be read.
    """
    try:
        marker = checksummed.read(folder / layout.MARKER, layout.MARKER, Marker)
    except FileNotFoundError:
        return _unmarked(folder, project, trusted=trusted)
    except NotADirectoryError:
        raise usage(
            f"{folder} is not a folder, and the store has to be one", "set ONNXBUILD_CACHE to a folder"
        ) from None
    except checksummed.DamagedError:
        return _unmarked(folder, project, trusted=trusted)
    if marker.format > FORMAT:
        fact = f"{folder} is a store of format {marker.format}, and this onnxbuild knows none after {FORMAT}"
        raise usage(fact, "update onnxbuild, or set ONNXBUILD_CACHE to another folder")
    if not _arrived(folder, project) or marker.owner == _signed(marker.id, _key()) != "":
        return Standing.OURS
    if not trusted:
        raise usage(f"{folder} is a store that somebody else made, who may have put anything into it", _TRUST)
    return Standing.TRUSTED


def claim(folder: Path, found: Standing, project: Path | None = None) -> None:
    """Write the marker, unless it is there and ours already. Raises OSError where a new store can't have one."""
    if found is Standing.OURS:
        return
    make = found is Standing.NEW or _arrived(folder, project)
    own = os.urandom(16).hex()
    try:
        checksummed.write(folder / layout.MARKER, layout.MARKER, Marker(FORMAT, own, _signed(own, _key(make=make))))
        if not (folder / layout.IGNORE).exists():
            files.write_atomic(folder / layout.IGNORE, [b"# A store is no part of a checkout: see README.md\n*\n"])
    except OSError:
        if found is Standing.NEW:  # else it answers all the same, read only as it may be
            raise


def _unmarked(folder: Path, project: Path | None, *, trusted: bool) -> Standing:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return Standing.NEW
    held = sorted(name for name in names if not layout.is_temporary(name))
    if not held:
        return Standing.NEW
    foreign = [name for name in held if name not in layout.PARTS]
    if foreign or not _has_sealed(folder):
        what = ", ".join(map(repr, (foreign or held)[:3])) + (", …" if len(foreign or held) > 3 else "")
        fact = f"{folder} holds {what} and is no store of onnxbuild, so nothing in it is touched"
        raise usage(fact, "set ONNXBUILD_CACHE to a new or an empty folder, or move away what is in this one")
    if not trusted and _arrived(folder, project) and _is_tracked(folder):
        raise usage(f"{folder} came with the checkout: git tracks it, and anything may be in it", _TRUST)
    return Standing.OLD


def _has_sealed(folder: Path) -> bool:
    """Whether a file with our seal is where its seal says it belongs: a trace, a last run, or the memory of digests."""
    sealed = chain(
        ((path, f"{key}/{path.stem}", traces.Trace) for key, path in traces.all_traces(folder)),
        ((path, path.name, traces.Latest) for path in sorted((folder / "latest").glob("[!.]*.json"))),
        [(folder / layout.DIGESTS, layout.DIGESTS, Memory)],
    )
    for path, place, kind in sealed:
        with contextlib.suppress(checksummed.DamagedError, OSError):
            checksummed.read(path, place, kind)
            return True
    return False


def _arrived(folder: Path, project: Path | None) -> bool:
    """Whether a store may have come with the project: it lies in its folder, by name or in truth."""
    if project is None:
        return False
    return folder.is_relative_to(project) or Path(observed.realpath(folder)).is_relative_to(observed.realpath(project))


def _is_tracked(folder: Path) -> bool:
    """Whether the index of the git repository around a store lists traces, which nothing but a store has."""
    above = next((place / ".git" for place in folder.absolute().parents if (place / ".git").exists()), None)
    if above is None:
        return False
    with contextlib.suppress(OSError):
        if above.is_file():  # a worktree or a submodule
            above = above.parent / files.read(above).decode(errors="replace").strip().removeprefix("gitdir: ")
        return _TRACKED.search(files.read(above / "index")) is not None
    return False


def _signed(own: str, key: bytes) -> str:
    return hashlib.blake2b(own.encode(), key=key, digest_size=32).hexdigest() if key else ""


def _key(*, make: bool = False) -> bytes:
    """The key of whoever runs the command, made where missing if `make`; empty where there is none."""
    path = Path(seal.key_file())
    if not path.is_absolute():
        return b""
    with contextlib.suppress(OSError):
        return files.read(path)[:64]
    if not make:
        return b""
    temporary = path.with_name(f"{files.TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}")
    with contextlib.suppress(OSError):  # no home, or none that can be written
        files.make_folder(path.parent)
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(os.urandom(32).hex().encode())
        with contextlib.suppress(FileExistsError):  # another command was faster
            os.link(temporary, path)
        temporary.unlink()
    with contextlib.suppress(OSError):
        return files.read(path)[:64]
    return b""
