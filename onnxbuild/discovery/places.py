"""Where a file is, written down relative to what led there, so that another checkout or another user is another world.

models/net.py       below the project root
../common/a.json    from the root upwards
~/weights/a.pt      below the home folder, where that was asked for
<prefix>/share/a    below Python's own prefix
/data/labels.json   anywhere else
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from onnxbuild.system import observed

HOME = "~/"
PREFIX = "<prefix>/"
ELSEWHERE = (HOME, PREFIX)


def where(place: str, root: Path) -> Path:
    """The file that a place means here and now."""
    if place.startswith(HOME):
        observed.variable("HOME")
        return Path(os.path.expanduser(place))  # noqa: PTH111  # `~` as a shell means it
    if place.startswith(PREFIX):
        return Path(sys.prefix, place.removeprefix(PREFIX))
    return root / place


def below_root(inner: str) -> str:
    """The place of a path relative to the root, with slashes; a folder of the project may be called "~"."""
    return f"./{inner}" if inner.startswith(ELSEWHERE) else inner


def outside(path: str, root: str, *, relative: bool, absolute: bool, home: bool) -> list[str]:
    """The places of an absolute path outside of the root. Each of them has to hold.

    `relative`: it was asked for as it lies from the root. `absolute`: as an absolute path; whether that was written down
    somewhere or made from where the project lies can't be told where both have a folder in common, and then both count.
    `home`: somebody asked where the home folder is, and so that is what led below it.
    """
    if path.startswith(sys.prefix + os.sep):
        return [PREFIX + path[len(sys.prefix) + 1 :].replace(os.sep, "/")]
    own = os.path.expanduser("~")  # noqa: PTH111  # as above
    if absolute and home and path.startswith(own + os.sep):
        return [HOME + path[len(own) + 1 :].replace(os.sep, "/")]
    found = [path] if absolute else []
    try:
        near = os.path.commonpath((path, root)) != os.path.dirname(os.path.abspath(os.sep))  # noqa: PTH100, PTH120  # strings
    except ValueError:  # on another drive
        near = False
    if relative or (absolute and near):
        found.append(os.path.relpath(path, root).replace(os.sep, "/"))
    return found
