"""A copy of a project with the same world around it: what lies beside it, above it and in the home folder.

Knows no recipes and no traces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from onnxbuild.discovery import inputs

_NOT_COPIED = frozenset({*inputs.PASSED_OVER, "node_modules", "site-packages"})
_BUILD = "build"  # at the root: what recipes publish


def copy(root: Path, target: Path, leave_out: Iterable[Path], moved: Callable[[str], str]) -> None:
    """Copy a project's files and links; `leave_out` are folders that are not copied, `moved` gives where a path of the
    project is in the copy.
    """
    left = {str(path.absolute()) for path in leave_out} | {str(root / _BUILD)}
    for folder, folders, files in os.walk(root):
        inner = target / os.path.relpath(folder, root)
        inner.mkdir(parents=True, exist_ok=True)
        links = [name for name in (*folders, *files) if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118  # many
        for name in links:
            aim = os.readlink(os.path.join(folder, name))  # noqa: PTH115, PTH118  # as it is written
            (inner / name).symlink_to(moved(aim) if os.path.isabs(aim) else aim)  # noqa: PTH117  # a string
        for name in files:
            source = Path(folder, name)
            if name not in links and source.is_file():  # no pipe, socket or device
                with contextlib.suppress(PermissionError):  # nobody can have read it
                    shutil.copyfile(source, inner / name)
        folders[:] = [
            name
            for name in folders
            if name not in links and name not in _NOT_COPIED and os.path.join(folder, name) not in left  # noqa: PTH118  # many
        ]


def surround(copy: Path, root: Path, leave_out: Path) -> None:
    """Around the copy's folder and each one above it, links to what lies around the project's; less `leave_out`.

    The copy lies as deep as the project, so that ../common is there as it is from the project.
    """
    copy.mkdir(parents=True)
    place, real, own = copy.parent, root.parent, root.name
    aim = copy
    while True:
        if own != aim.name:
            (place / own).symlink_to(aim)
        link_all(real, place, leave_out)
        if real == real.parent:
            return
        place, real, own, aim = place.parent, real.parent, real.name, place


def link_all(folder: Path, place: Path, leave_out: Path | None = None) -> None:
    """In `place`, a link to each entry of a folder that it has nothing of that name for."""
    try:
        names = os.listdir(folder)
    except OSError:  # there is none, or nobody may see what is in it
        return
    for name in names:
        if folder / name != leave_out and not os.path.lexists(place / name):
            (place / name).symlink_to(folder / name)


def stand_in(source: Path, target: Path, *, listed: bool) -> None:
    """A folder that the model's code asked for; of one whose names it listed the names, though nothing is in them."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in sorted(os.listdir(source)) if listed else ():
        entry = target / name
        if name not in inputs.PASSED_OVER and not os.path.lexists(entry):
            entry.mkdir() if (source / name).is_dir() else entry.touch()
