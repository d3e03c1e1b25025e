"""The names of a store's files: all that is ever written into its folder, and so all that may be removed from it.

    store.json                  whose it is, see `ownership`; with a .gitignore beside it
    objects/, traces/, latest/  see `objects` and `traces`
    leases/, locks/             see `leases`; a lock is named by its stage's key
    tmp/run-…                   scratch folders of running commands
    digests.json                see `digests`
    remembered/<question>       see `queries.remembered`
    .tmp-<pid>-<random>         any file that is not whole yet

A folder may hold what is not ours all the same: whoever removes asks here. Knows no content.
"""

from __future__ import annotations

import re
from pathlib import Path

from onnxbuild.system import files

MARKER = "store.json"
IGNORE = ".gitignore"
DIGESTS = "digests.json"
REMEMBERED = "remembered"
LOCK = ".lock"
PARTS = ("objects", "traces", "latest", "leases", "locks", "tmp", REMEMBERED, DIGESTS, MARKER, IGNORE)
TEMPORARY = rf"{re.escape(files.TEMPORARY)}[0-9]+-[0-9a-f]{{12}}"

_OURS = (
    rf"(?:objects/(?:[0-9a-f]{{2}}/)?|traces/(?:[0-9a-f]{{2}}/(?:[0-9a-f]{{62}}/)?)?|latest/|remembered/)?{TEMPORARY}",
    r"objects/(?:[0-9a-f]{2}/[0-9a-f]{62}|[0-9a-f]{64}\.onnx)",
    r"traces/[0-9a-f]{2}/[0-9a-f]{62}/[0-9a-f]{64}\.json",
    r"latest/[A-Za-z0-9][A-Za-z0-9._-]*(?:@[0-9a-f]{16})?\.json",
    r"leases/[0-9]+-[0-9a-f]{8}",
    r"locks/[0-9a-f]{64}",
    r"tmp/run-[a-z0-9_]{8}",  # tempfile's own letters
    r"remembered/[0-9a-f]{32}",
    re.escape(DIGESTS),
)
_compiled: list[
    re.Pattern[str]
] = []  # on first use, which takes a millisecond: a run with nothing to do removes nothing


def parts(objects: Path) -> list[Path]:
    """All that is ever in a store's folder, by its folder of objects."""
    return [objects.parent / part for part in PARTS]


def is_begun(folder: Path) -> bool:
    """Whether anything was ever written to a store."""
    return (folder / "objects").is_dir()


def is_ours(folder: Path, path: Path) -> bool:
    """Whether a path below the store's folder has a name that only we give, and leads through no link to elsewhere."""
    if not _compiled:
        _compiled.append(re.compile("|".join(f"(?:{pattern})" for pattern in _OURS)))
    inner = path.relative_to(folder)
    between = [folder.joinpath(*inner.parts[:count]) for count in range(1, len(inner.parts))]
    return _compiled[0].fullmatch(inner.as_posix()) is not None and not any(above.is_symlink() for above in between)


def remove(folder: Path, path: Path) -> None:
    """Take a file of the store's away, if it is there; whatever has another name stays. Raises OSError."""
    if is_ours(folder, path):
        files.remove(path)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that we give until the file is whole."""
    return re.fullmatch(TEMPORARY, name) is not None
