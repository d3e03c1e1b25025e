"""What a process did with each path: one record for each, and the first thing done says what it depends on.

Pure bookkeeping: looks at no file but through the `facts` that it is given.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from onnxbuild.system.observed import Facts


class How(enum.Enum):
    """How a path is touched."""

    READ = "opened to read"
    WRITE = "written, renamed, removed or made"
    UPDATE = "opened to read and write"
    CREATE = "opened, and made where it was not there"
    LIST = "its names listed"
    LOOK = "looked at: what kind of thing it is"
    LINK = "looked at: whether it is a link, and where that leads"


_FIRST = {How.UPDATE: How.READ, How.CREATE: How.LOOK, How.LINK: How.LOOK}  # what else it is
_SAYS = {How.LOOK: 0, How.READ: 1, How.LIST: 2, How.WRITE: 3}  # a folder is opened to be listed by its handle


@dataclass(slots=True)
class Access:
    """What was done with one path until now."""

    first: How  # READ, WRITE, LIST or LOOK: opening says more than looking
    there: Facts | None  # what stat said of it when it was first touched; None: not there
    written: bool = False
    updated: bool = False  # opened to read and write
    linked: bool = False  # where it leads was asked
    walked: bool = True  # it was only passed through, on the way to something else
    relative: bool = False  # by a path that begins in the project's folder
    absolute: bool = False
    by_code: bool = False  # by the project's own code, and not by a library for itself
    forked: bool = False  # in another process than this one


class Accesses(dict[str, Access]):
    """Every touched path's record."""

    def note(self, path: str, how: How, facts: Callable[[str], Facts | None]) -> Access:
        """Take down that a path is touched; `facts` says what it is, and is asked only of one that is new."""
        access = self.get(path)
        if access is None:
            access = self[path] = Access(_FIRST.get(how, how), facts(path))
            fresh = True
        else:
            fresh = False
        if how is How.WRITE or (how is How.CREATE and access.there is None):
            access.written = True
            if fresh:
                access.first = How.WRITE
        elif how is How.UPDATE:
            access.updated = True
        elif how is How.LINK:
            access.linked = True
        if how is not How.LINK:
            access.walked = False
        first = _FIRST.get(how, how)
        if first is not How.WRITE and _SAYS[first] > _SAYS[access.first]:
            access.first = first
        return access

    def changed(self, facts: Callable[[str], Facts | None]) -> set[str]:
        """What this process, or one that it forked, wrote or made."""
        return {
            path for path, access in self.items() if access.written or (access.updated and access.there != facts(path))
        }
