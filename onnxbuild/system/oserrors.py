"""What the surroundings do to a build: a full disk, a limit, a read-only or vanished folder, as place, fact and remedy.

Turns an OSError into words. Knows nothing of stages; both sides (the command and its children) use it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType

resource: ModuleType | None
try:
    import resource  # here, since nothing can be imported once no file can be opened
except ImportError:  # Windows
    resource = None

_ROOM = "free some space there, or put the store (ONNXBUILD_CACHE) or the results (--out) on a disk with more room"
_WRITE = "set ONNXBUILD_CACHE and --out to folders that can be written"
_GONE = "something removed it while it was in use: run again"
_REMEDIES = {
    "ENOSPC": _ROOM,
    "EDQUOT": _ROOM,
    "EFBIG": "the file system or `ulimit -f` allows no file of that size",
    "EROFS": _WRITE,
    "EACCES": _WRITE,
    "EPERM": _WRITE,
    "ENFILE": "the whole machine has too many files open: close programs or raise fs.file-max",
    "ENOENT": _GONE,
    "ENOTDIR": _GONE,
    "ESTALE": _GONE,
    "EISDIR": "a folder is where a file has to go: move it away",
    "ENAMETOOLONG": "give a shorter path",
    "EIO": "the disk, or the way to it, has a fault: see the system's log",
    "ENOMEM": "run fewer stages at a time (-j 1), or with less --memory",
    "EAGAIN": "too many processes: see `ulimit -u`, or run fewer stages at a time (-j 1)",
}
_LITTLE = 64 << 10  # free bytes below which a disk counts as full

# Not of the model's or the recipe's making, whatever code they hit: worth a remedy instead of a traceback.
OUTSIDE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "EIO", "ESTALE", "ENOMEM", "EAGAIN")
    if hasattr(errno, name)
}


def explain(error: OSError, place: Path | str = "") -> tuple[str, str]:
    """The fact, with its place (`place` where the error itself names none), and the remedy."""
    name = errno.errorcode.get(error.errno or 0, "")
    named = (
        error.filename2 if name == "EISDIR" and error.filename2 else error.filename
    )  # of a rename: what is in its way
    where = os.fsdecode(named) if isinstance(named, str | bytes) else str(place)
    remedy = _files() if name == "EMFILE" else _REMEDIES.get(name, "check the path and its permissions")
    text = error.strerror or str(error) or type(error).__name__
    return f"{where}: {text}" if where else text, remedy


def behind(error: BaseException, folder: Path | None = None) -> OSError | None:
    """The fault of the surroundings that an exception comes from, also where a library gave it another type.

    `folder` is where the code at hand writes: native code that fails while there is no room left says so in no known way.
    """
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        if isinstance(at, OSError) and at.errno in OUTSIDE:
            return at
        at = at.__cause__ or at.__context__
    text = " ".join(map(said, seen))
    for code in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EROFS):  # most libraries pass on what the system said
        if os.strerror(code) in text:
            return OSError(code, os.strerror(code))
    return full(folder) if folder is not None else None


def said(error: BaseException) -> str:
    """What an exception says; "" where its own class fails at that, which may be anybody's."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # anybody's class may raise what it likes
        return ""


def full(folder: Path) -> OSError | None:
    """The error that writing to this folder's file system would give, where it has no room left."""
    try:
        facts = os.statvfs(folder)
    except (AttributeError, OSError):
        return None
    if facts.f_blocks and facts.f_bavail * facts.f_frsize < _LITTLE:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return None


def _files() -> str:
    if resource is None:
        return "too many files are open at once"
    return f"raise the limit on open files, now {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}: ulimit -n 1024"
