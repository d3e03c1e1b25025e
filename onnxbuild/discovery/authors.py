"""For whom something is done: the project's own code, or a library for itself. Told by the files of the calling frames."""

from __future__ import annotations

import enum
import os
import sys
from types import FrameType

from onnxbuild.discovery.names import OWN
from onnxbuild.system import distributions

_HERE = os.path.dirname(__file__) + os.sep  # noqa: PTH120  # hot path
_COMPILER = f"{os.sep}torch{os.sep}_inductor{os.sep}"
# Where temporary files lie, and which folders hold what is installed, is for nobody's sake.
_NOBODYS = (f"{os.sep}tempfile.py", f"importlib{os.sep}metadata{os.sep}__init__.py")


class Author(enum.Enum):
    """For whom the code of a file does what it does."""

    CODE = "the project's own"
    LIBRARY = "an installed package's"
    OURS = "our own: it says itself what it takes"
    CALLER = "whoever calls it"
    NOBODY = "nobody: it searches"


class Authors:
    """Who is calling, for the project below `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, Author] = {}  # by file

    def by_code(self, *, files: bool = True) -> bool:
        """Whether the project's own code calls: the nearest frame that is neither the standard library's nor ours.

        `files`: it is about a file or a variable, and there are searches for those that are nobody's.
        """
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # a stack has no public face this cheap
        while frame is not None:
            file = frame.f_code.co_filename
            if file not in self._known:
                self._known[file] = self._author(file)
            author = self._known[file]
            if author is Author.NOBODY and files:
                return False
            if author in (Author.CODE, Author.LIBRARY, Author.OURS):
                return author is Author.CODE
            frame = frame.f_back
        return True

    def reads_nothing_of_it(self) -> bool:
        """Whether what calls starts processes that read nothing of the project: our own code, and torch's compiler."""
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # as above
        while frame is not None and self._author(frame.f_code.co_filename) in (Author.CALLER, Author.NOBODY):
            frame = frame.f_back
        file = "" if frame is None else frame.f_code.co_filename
        return file.startswith(OWN) or _COMPILER in file

    def _author(self, file: str) -> Author:
        if file.startswith(("<", _HERE)):
            return Author.CALLER
        if distributions.is_standard_library(file):
            return Author.NOBODY if file.endswith(_NOBODYS) else Author.CALLER
        if file.startswith(OWN):
            return Author.OURS
        if distributions.site_of(file, self._root):
            return Author.LIBRARY
        return Author.CODE
