"""A library's exception, made into an error a user can act on: the cause, the line of their code, a hint.

The whole traceback goes to stderr, which is the stage's log. Knows nothing of torch's own classes but their names.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnxbuild
from onnxbuild.errors import StageError
from onnxbuild.listening import scrub

LINES = 4
OWN = Path(onnxbuild.__file__).resolve().parent

# Lines that torch puts around every message.
BOILERPLATE = re.compile(
    r"^(\s*$|Traceback|User Stack|The following call raised this error|Caused by:|"
    r"\s+File \"|For more information|To debug|For C\+\+ stack trace|The error above occurred|"
    r"<class |Failed to convert the exported program|Failed to export the model|Failed to decompose|"
    r"(## |- \[|\s*`?torch\.|.*report bugs|.*[Pp]lease (create|open|file|feel free)).*$|.*TORCH_LOGS=|.*TORCHDYNAMO_)"
)

HINTS = (
    (
        r"data-dependent|GuardOnDataDependent|bool\(\) on .*tensor|Dynamic control flow",
        "the model branches on a tensor's value: use torch.cond under dynamo, torch.jit.script under torchscript",
    ),
    (
        r"No ONNX function found|UnsupportedOperator|to ONNX opset version \d+ is not supported|unknown operator",
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
    traceback.print_exception(error)
    causes = list(chain(error))
    ours = next((cause for cause in causes if isinstance(cause, StageError)), None)
    if ours is not None:
        return ours
    message = essence(causes[-1], root)
    for number, name in enumerate(inputs):
        message = message.replace(f"L['flat'][{number}]", name)
    place = next(filter(None, (user_line(cause, root) for cause in reversed(causes))), "")
    texts = "\n".join(f"{type(cause).__name__}: {cause}" for cause in causes)
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


def essence(error: BaseException, root: Path) -> str:
    """The exception's class and the lines of its message that say something, without the machine's paths."""
    told = re.sub(r' For more information, run with TORCH_LOGS="[^"]*"\.?', "\n", str(error))
    told = re.split(r"\n\s*(?:Caused by: \(|For more (?:debugging|info)|User Stack|The error above)", told)[0]
    lines = [line.strip() for line in told.splitlines() if not BOILERPLATE.match(line)]
    text = " ".join(lines[:LINES]) or str(error).strip()
    return scrub(f"{type(error).__name__}: {text}" if text else type(error).__name__, root)


def user_line(error: BaseException, root: Path) -> str:
    """`models/net.py:12` for the deepest frame that lies in the project, "" if none does."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(Path(frame.filename), root)]
    return f"{Path(frames[-1].filename).relative_to(root).as_posix()}:{frames[-1].lineno}" if frames else ""


def _is_users(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or path.is_relative_to(OWN):
        return False
    return not {"site-packages", "dist-packages"} & set(path.parts) and not path.name.startswith("<")
