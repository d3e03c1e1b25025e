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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

# What a terminal or a log wants and a report doesn't.
COLOUR = r"\x1b\[[0-9;]*m"
TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ "


@contextmanager
def printing(path: Path) -> Iterator[list[str]]:
    """Collect the lines that Python and native code print, in the list when the block ends; they are passed on as well.

    `path` is a file to keep them in meanwhile. Native code writes to the descriptors, so those are what is redirected.
    """
    lines: list[str] = []
    _flush()
    saved = [os.dup(1), os.dup(2)]
    with open(path, "w+b") as file:
        try:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            yield lines
        finally:
            _flush()
            for descriptor, before in zip((1, 2), saved, strict=True):
                os.dup2(before, descriptor)
                os.close(before)
            file.seek(0)
            text = file.read().decode(errors="replace")
            sys.stdout.write(text)
            plain = (" ".join(re.sub(TIME, "", re.sub(COLOUR, "", line)).split()) for line in text.splitlines())
            lines += dict.fromkeys(line for line in plain if line)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def output_to(log: Any, call: Callable[[], Any]) -> Any:
    """Call with what this process prints, native code included, going to a file."""
    sys.stdout.flush()
    saved = os.dup(1), os.dup(2)
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        with contextlib.redirect_stdout(io.StringIO()):  # onnxruntime's Python part prints too, and is buffered
            return call()
    finally:
        for number, handle in zip((1, 2), saved, strict=True):
            os.dup2(handle, number)
            os.close(handle)


# Texts, which `re` compiles on first use: the planner imports this module and hears nothing.
ABSOLUTE = r"(?<![\w.:/\\])/(?:[^\s/:'\"(),]+/)+"
COLOUR = r"\x1b\[[0-9;]*m"
ADDRESS = r"\b0x[0-9a-fA-F]{6,}\b"
# torch of a line of the project whose Python value its tracer can't follow. Constants that are made into tensors are told
# in other words, and are mostly meant to be constants.
UNFOLLOWED = r"(\S+:\d+): TracerWarning: ([^.]*?) might cause the trace to be incorrect\."
SHOWN = 4  # lines named before "and 3 more"
# What a library says of itself, whatever the model: nothing that a recipe's author could act on.
NOISE = (
    r"torchvision is not installed\. Skipping|"  # the exporter's table of operators
    r"The axis name: (\S+) will not be used, since it shares the same shape constraints with another axis: \1\.|"
    r"You are using the legacy TorchScript-based ONNX export"  # the recipe asks for it
)


@contextmanager
def listening(root: Path) -> Iterator[list[str]]:
    """Collect warnings and log records of level WARNING and above into a list, each once, in order of appearance.

    The list fills up while the block runs. Deprecations are left out: they speak to the libraries' authors.
    """
    import logging

    heard: list[str] = []

    def keep(text: str) -> None:
        text = scrub(" ".join(text.split()), root)
        if text and text not in heard and not re.search(NOISE, text):
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


def fixed(heard: Iterable[str]) -> list[str]:
    """A note on the lines of the project at which tracing took the example's value for every input's; [] if none."""
    found: dict[str, list[str]] = {}
    for text in heard:
        if match := re.match(UNFOLLOWED, text):
            found.setdefault(match[1], []).append(match[2][:1].lower() + match[2][1:])
    if not found:
        return []
    places = [f"{place} ({', '.join(dict.fromkeys(what))})" for place, what in found.items()]
    more = f" and {len(places) - SHOWN} more (see the export's warnings)" if len(places) > SHOWN else ""
    return [f"traced with the example's values, and the same for every input: {', '.join(places[:SHOWN])}{more}"]


def scrub(text: str, root: Path) -> str:
    """The text without colours, addresses and absolute paths: the project's become relative, others keep their end."""
    text = text.replace(f"{root}/", "").replace(f"{sys.prefix}/", "")
    return re.sub(ADDRESS, "0x…", re.sub(ABSOLUTE, "", re.sub(COLOUR, "", text)))


def _place(file: Path, line: int, root: Path) -> str:
    inside = file.is_relative_to(root) and "site-packages" not in file.parts
    return f"{file.relative_to(root).as_posix()}:{line}: " if inside else ""
