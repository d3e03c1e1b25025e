"""What libraries print, warn and log, caught for a report: Python's streams and the descriptors that native code uses.

Does not know who prints, nor what its words mean.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import logging

T = TypeVar("T")

# What a terminal or a log wants and a report doesn't.
COLOUR = r"\x1b\[[0-9;]*m"
# Texts, which `re` compiles on first use: who imports this module may hear nothing.
ABSOLUTE = r"(?<![\w.:/\\])/(?:[^\s/:'\"(),]+/)+"
ADDRESS = r"\b0x[0-9a-fA-F]{6,}\b"
TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ "


@contextmanager
def printing(path: Path) -> Iterator[list[str]]:
    """Collect the lines that Python and native code print, in the list when the block ends; they are passed on as well.

    `path` is a file to keep them in meanwhile. Native code writes to the descriptors, so those are what is redirected.
    """
    lines: list[str] = []
    with open(path, "w+b") as file:
        try:
            with _descriptors_to(file):
                yield lines
        finally:
            file.seek(0)
            text = file.read().decode(errors="replace")
            sys.stdout.write(text)
            plain = (" ".join(re.sub(TIME, "", re.sub(COLOUR, "", line)).split()) for line in text.splitlines())
            lines += dict.fromkeys(line for line in plain if line)


def output_to(log: IO[bytes], call: Callable[[], T]) -> T:
    """Call with what this process prints, native code included, going to a file."""
    with _descriptors_to(log), contextlib.redirect_stdout(io.StringIO()):  # onnxruntime's Python part is buffered
        return call()


@contextmanager
def _descriptors_to(file: IO[bytes]) -> Iterator[None]:
    """Let the descriptors of stdout and stderr lead to a file for a while; what Python still holds goes before it."""
    _flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        yield
    finally:
        _flush()
        for descriptor, before in zip((1, 2), saved, strict=True):
            os.dup2(before, descriptor)
            os.close(before)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


@contextmanager
def listening(root: Path, noise: str = "") -> Iterator[list[str]]:
    """Collect warnings and log records of level WARNING and above into a list, each once, in order of appearance.

    The list fills up while the block runs. Deprecations are left out: they speak to the libraries' authors; so is what
    matches `noise`, a regular expression.
    """
    import logging

    heard: list[str] = []

    def keep(text: str) -> None:
        text = scrub(" ".join(text.split()), root)
        if text and text not in heard and not (noise and re.search(noise, text)):
            heard.append(text)

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        if issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
            return
        keep(f"{_place(Path(filename), lineno, root)}{category.__name__}: {message}")

    def call(_logger: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            keep(record.getMessage())

    # Libraries give their loggers handlers of their own, some as late as they are first used; all are stood in for.
    handlers = logging.Logger.callHandlers
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show  # type: ignore[assignment]  # typeshed names its parameters
        logging.Logger.callHandlers = call  # type: ignore[method-assign, assignment]  # see above
        try:
            yield heard
        finally:
            logging.Logger.callHandlers = handlers  # type: ignore[method-assign]


def scrub(text: str, root: Path) -> str:
    """The text without colours, addresses and absolute paths: the project's become relative, others keep their end."""
    for folder in (
        root,
        sys.prefix,
        sys.base_prefix,
    ):  # the last one's library is told from the project's files by that
        text = text.replace(f"{folder}/", "")
    return re.sub(ADDRESS, "0x…", re.sub(ABSOLUTE, "", re.sub(COLOUR, "", text)))


def _place(file: Path, line: int, root: Path) -> str:
    inside = file.is_relative_to(root) and "site-packages" not in file.parts
    return f"{file.relative_to(root).as_posix()}:{line}: " if inside else ""
