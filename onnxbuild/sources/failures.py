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
from typing import NamedTuple

import onnxbuild
from onnxbuild.errors import StageError
from onnxbuild.system import oserrors
from onnxbuild.system.capture import scrub

LINES = 4
LED_TO = "\nThe above exception was the direct cause of the following exception:\n\n"  # as Python has it
DEEPEST = 3  # frames of libraries in the log, where none is the project's
LINE = 80  # characters of a line of code in a hint
INSTALLED = {"site-packages", "dist-packages"}
# Packages that models are made with, in whose frames nobody looks for a model's own line.
TOOLS = {
    "torch",
    "torchgen",
    "functorch",
    "numpy",
    "onnx",
    "onnxscript",
    "onnx_ir",
    "onnxruntime",
    "sympy",
    "ml_dtypes",
    "keras",
    "optree",
    "tensorflow",
    "tf2onnx",
}
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
        r"index out of range in self|IndexError: index \d+ is out of bounds|INDICES element is out of DATA BOUNDS",
        "an index beyond its table: integers go from 0 to 9 unless the input says {data: {integers: {low: 0, high: 5}}}",
    ),
    (
        r"data-dependent|GuardOnDataDependent|bool\(\) on .*tensor|Dynamic control flow",
        "the model branches on a tensor's value: use torch.cond under dynamo, torch.jit.script under torchscript",
    ),
    (
        r"No ONNX function found|UnsupportedOperator|ONNX (export of|opset version \d+ is not)|unknown operator",
        "describe the operator under `symbolics`, or try another opset or exporter",
    ),
    (
        r"Only tensors, lists, tuples of tensors|torch\.jit\.|TracingCheckError|script(ed)? function",
        "leave torch.jit out of the model's code, or keep what it compiles free of Python objects",
    ),
)


# What fixes a size, by how the line of the model's code looks; {} is the dimension.
FIXED = re.compile(r"Constraints violated|constraints? .*violated|not all values of|specializ", re.IGNORECASE)
FORMS = (
    (r"\bfor\b", "a Python loop over {}, which is unrolled at the example's size: work on the whole axis at once"),
    (r"^assert\b", "an assert on {}, which holds at one size only"),
    (r"^(el)?if\b|^while\b|\bif\b.*\belse\b", "a branch on the size of {}, which is taken once and for all"),
    (r"\.(split|chunk|unbind|tolist)\(|\b(list|tuple)\(", "a split into as many pieces as {} has: keep it one tensor"),
    (r"\b(int|len|float)\(|\.item\(", "a size of {} as a Python number: use x.shape[i] as it is"),
    (r"\.view\(|\.reshape\(|\.expand\(|\.repeat\(", "a shape in numbers: write -1 or x.shape[i] for {}"),
)


class Place(NamedTuple):
    """A line of the model's code: "models/net.py:12", and its text."""

    where: str
    text: str


def explain(
    error: BaseException,
    what: str,
    root: Path,
    inputs: Sequence[str] = (),
    fixed: Sequence[Place] = (),
    operator: Place | None = None,
) -> StageError:
    """A StageError that says what failed, the essential message, and where in the model's own code.

    `inputs` are the names of the adapter's arguments, which torch.export knows by number only; `fixed` the lines at which
    a size became a number, and `operator` that of an operator which could not be translated, where that was listened to.
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
    if not hint and FIXED.search(texts):
        place = place or (fixed[0].where if fixed else "")
        hint = _of_fixed(texts, fixed)
    place = place or (operator.where if operator else "")
    return StageError(f"{what}{f' at {place}' if place else ''}: {message}", hint)


def _of_fixed(texts: str, fixed: Sequence[Place]) -> str:
    """What to do about a dimension that the model's code fixes, by the form of the line that does."""
    named = re.search(r"Constraints violated \(([\w, ]+)\)", texts)
    dim = named[1] if named else "the dimension"
    form = next((form for line in fixed[:1] for pattern, form in FORMS if re.search(pattern, line.text)), "")
    likely = f"likely {form.format(dim)}" if form else f"the model fixes {dim}, which the recipe declares dynamic"
    line = f" ({fixed[0].text[:LINE]})" if form and fixed[0].text else ""
    return f"{likely}{line}; or narrow `dims`, or take it out of `dynamic_axes`"


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
    told = re.split(
        r"\n\s*(?:Caused by: \(|Inputs:\n|For more (?:debugging|info)|User Stack|The error above|Arguments received by)",
        told,
    )[0]
    lines = [line.strip() for line in told.splitlines() if not BOILERPLATE.match(line)]
    text = " ".join(lines[:LINES]) or oserrors.said(error).strip()
    return scrub(f"{type(error).__name__}: {text}" if text else type(error).__name__, root)


def user_line(error: BaseException, root: Path) -> str:
    """`models/net.py:12` for the deepest frame of the model's code, "" if there is none."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    where = models_line(frames, root)
    return named(*where, root) if where else ""


def models_line(frames: Sequence[tuple[str, int]], root: Path) -> tuple[str, int] | None:
    """The deepest frame, of (file, line), that lies in the project, else in a package that a model may come from."""
    users = [frame for frame in frames if _is_users(Path(frame[0]), root)]
    others = [frame for frame in frames if _is_a_models(Path(frame[0]))]
    found = users or others
    return found[-1] if found else None


def named(file: str, line: int, root: Path) -> str:
    """A line of a file as "models/net.py:12", or "transformers/models/bert/modeling_bert.py:12"."""
    path = Path(file)
    if path.is_relative_to(root) and not INSTALLED & set(path.parts):
        return f"{path.relative_to(root).as_posix()}:{line}"
    at = max(index for index, part in enumerate(path.parts) if part in INSTALLED)
    return f"{Path(*path.parts[at + 1 :]).as_posix()}:{line}"


def _is_a_models(path: Path) -> bool:
    """Whether a file is of an installed package, and of none that any model is made with."""
    if path.is_relative_to(OWN) or not INSTALLED & set(path.parts):
        return False
    at = max(index for index, part in enumerate(path.parts) if part in INSTALLED)
    return path.parts[at + 1].partition(".")[0] not in TOOLS


def _is_users(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or path.is_relative_to(OWN):
        return False
    return not INSTALLED & set(path.parts) and not path.name.startswith("<")


def _is_librarys(path: Path) -> bool:
    return not path.is_relative_to(OWN) and not path.name.startswith("<") and "importlib" not in path.parts
