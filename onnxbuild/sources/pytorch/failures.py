"""A library's exception, made into an error a user can act on: the cause, the line of their code, a hint.

What more there is to say (the frames in the project's files, a long message in full) goes to stderr, which is the stage's
log. Knows nothing of torch's own classes but their names.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnxbuild
from onnxbuild.errors import StageError
from onnxbuild.system import oserrors
from onnxbuild.system.capture import scrub

LINES = 4
LED_TO = "\nThe above exception was the direct cause of the following exception:\n\n"  # as Python has it
DEEPEST = 3  # frames of libraries in the log, where none is the project's
OWN = Path(onnxbuild.__file__).resolve().parent

# Sentences that torch puts into its messages, and lines that it puts around them.
ASIDE = re.compile(
    r"(?:(?![.!?]\s)[^\n])*\b[Pp]lease (?:create|open|file|feel free)\b(?:[^\n]*?https?://\S+|[^\n]*)|"
    r"[ \t]*\[Caused by the value '[\s\S]*?\(type '\w+'\) in the TorchScript graph\.[^]]*\]"
)
BOILERPLATE = re.compile(
    r"^(\s*$|Traceback|User Stack|The following call raised this error|Caused by:|"
    r"\s+File \"|For more information|To debug|For C\+\+ stack trace|The error above occurred|"
    r"<class |Failed to convert the exported program|Failed to export the model|Failed to decompose|"
    r"(## |- \[|\s*`?torch\.|.*report bugs).*$|.*TORCH_LOGS=|.*TORCHDYNAMO_)"
)

HINTS = (
    (
        r"data-dependent|GuardOnDataDependent|bool\(\) on .*tensor|Dynamic control flow",
        "the model branches on a tensor's value: use torch.cond under dynamo, torch.jit.script under torchscript",
    ),
    (
        r"No ONNX function found|UnsupportedOperator|ONNX (export of|opset version \d+ is not)|unknown operator",
        "describe the operator under `symbolics`, or try another opset or exporter",
    ),
    (
        r"Constraints violated|constraints? .*violated|not all values of|specializ",
        "the model fixes a dimension that the recipe declares dynamic: narrow `dims`, or take it out of `dynamic_axes`",
    ),
    (
        r"Only tensors, lists, tuples of tensors|torch\.jit\.|TracingCheckError|script(ed)? function",
        "try exporter: dynamo (torch.cond for branches), or keep scripted code free of Python objects",
    ),
)


def explain(error: BaseException, what: str, root: Path, inputs: Sequence[str] = ()) -> StageError:
    """A StageError that says what failed, the essential message, and where in the project's own code.

    `inputs` are the names of the adapter's arguments, which torch.export knows by number only.
    """
    causes = list(chain(error))
    ours = next((cause for cause in causes if isinstance(cause, StageError)), None)
    told = [ours] if ours else [one for one in reversed(causes) if user_line(one, root)] or causes[-1:]
    print(LED_TO.join(trace(one, root) for one in told), end="", file=sys.stderr)
    if ours is not None:
        return ours
    message = essence(causes[-1], root)
    for number, name in enumerate(inputs):
        message = message.replace(f"L['flat'][{number}]", name)
    place = next(filter(None, (user_line(cause, root) for cause in reversed(causes))), "")
    texts = "\n".join(f"{type(cause).__name__}: {oserrors.said(cause)}" for cause in causes)
    hint = next((hint for pattern, hint in HINTS if re.search(pattern, texts, re.IGNORECASE)), "")
    return StageError(f"{what}{f' at {place}' if place else ''}: {message}", hint)


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and its causes, the first cause last."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        # A context is what was being handled when something else went wrong: a cause only where none is named.
        current = current.__cause__


def trace(error: BaseException, root: Path) -> str:
    """The frames of an exception that lie in the project, else the deepest ones of libraries, and the message.

    "" where all frames are our own and the message is short: it is in the fact. A long one comes before the frames, since
    a log is looked at from its end.
    """
    frames = traceback.extract_tb(error.__traceback__)
    shown = [frame for frame in frames if _is_users(Path(frame.filename), root)]
    if not shown and not isinstance(error, StageError):
        shown = [frame for frame in frames if _is_librarys(Path(frame.filename))][-DEEPEST:]
    message = oserrors.said(error).strip()
    long = len(message.splitlines()) > LINES
    lines = [f"{message}\n"] if long else []
    if shown or isinstance(error, SyntaxError):
        last = traceback.format_exception_only(error)
        lines += ["Traceback (most recent call last):\n", *traceback.format_list(shown)]
        lines += [last[0].partition("\n")[0] + "\n"] if long else last
    return scrub("".join(lines), root)


def essence(error: BaseException, root: Path) -> str:
    """The exception's class and the lines of its message that say something, without the machine's paths."""
    told = re.sub(r' For more information, run with TORCH_LOGS="[^"]*"\.?', "\n", ASIDE.sub("", oserrors.said(error)))
    told = re.split(r"\n\s*(?:Caused by: \(|Inputs:\n|For more (?:debugging|info)|User Stack|The error above)", told)[0]
    lines = [line.strip() for line in told.splitlines() if not BOILERPLATE.match(line)]
    text = " ".join(lines[:LINES]) or oserrors.said(error).strip()
    return scrub(f"{type(error).__name__}: {text}" if text else type(error).__name__, root)


def user_line(error: BaseException, root: Path) -> str:
    """`models/net.py:12` for the deepest frame that lies in the project, "" if none does."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(Path(frame.filename), root)]
    return f"{Path(frames[-1].filename).relative_to(root).as_posix()}:{frames[-1].lineno}" if frames else ""


def _is_users(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or path.is_relative_to(OWN):
        return False
    return not {"site-packages", "dist-packages"} & set(path.parts) and not path.name.startswith("<")


def _is_librarys(path: Path) -> bool:
    return not path.is_relative_to(OWN) and not path.name.startswith("<") and "importlib" not in path.parts
