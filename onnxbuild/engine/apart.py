"""Builds recipes with another interpreter: the same code, recipes and store, and folders of its own to publish in.

`python -m onnxbuild.engine.apart` is the other side. It is given one order as JSON on stdin, tells of stages on stderr and
answers on stdout. What it builds is a trial: nothing is timed, and a recipe's last build remains the one before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Json, Trait
from onnxbuild.engine.session import Session, Settings
from onnxbuild.errors import Problem, StageError, UserError
from onnxbuild.plan import planner
from onnxbuild.report.progress import Progress
from onnxbuild.system import interrupts
from onnxbuild.system.interpreters import Interpreter

INTERRUPTED = 130


class Order(Struct, frozen=True):
    """What is to be built, and how. With `strict`, nothing is where any recipe has problems."""

    recipes: list[str]
    out: str
    cache: str | None
    trusted: bool
    quiet: bool
    strict: bool


class Published(Struct, frozen=True):
    """A recipe that came to its end, whichever: where its report is, and the options of its benchmark, where it has one."""

    path: str
    name: str
    root: str
    folder: str
    timed: dict[str, Json] | None


class Answer(Struct, frozen=True):
    """What came of an order. `problems` are those of the recipes that are not among the published."""

    published: list[Published]
    problems: list[Problem]


def build(interpreter: Interpreter, order: Order) -> Answer:
    """Build recipes with an interpreter. Raises StageError where it could not be done at all, KeyboardInterrupt where it
    was interrupted.
    """
    command = [interpreter.path, "-P", "-m", __name__]
    with _started(command, {**os.environ, **interpreter.variables}) as process:
        said, _ = process.communicate(msgspec.json.encode(order))
    if process.returncode in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if process.returncode:
        raise StageError(
            f"{interpreter.path} could not build: it ended with status {process.returncode}, and said why above",
            f"look whether it can build anything: {interpreter.path} -m onnxbuild doctor",
        )
    return msgspec.json.decode(said, type=Answer)


@contextlib.contextmanager
def _started(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block; it has time to end its own children."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _carried_out(order: Order) -> Answer:
    settings = Settings(
        out=Path(order.out),
        cache=None if order.cache is None else Path(order.cache),
        keep_going=True,
        trusted=order.trusted,
        trial=True,
    )
    paths = [Path(path) for path in order.recipes]
    progress = Progress(sys.stderr, quiet=order.quiet, errors=sys.stderr, verdicts=False)
    found: list[Published] = []
    try:
        if order.strict:
            with Session(msgspec.structs.replace(settings, keep_going=False), progress) as session:
                session.load(paths)
        with Session(settings, progress) as session:
            loaded = session.load(paths)
            for _ in session.build_all(loaded):
                pass
            found += (_published(one, session.places.dest(one)) for one in loaded)
            session.end()
    except UserError as error:
        return Answer(found, list(error.problems))
    return Answer(found, [])


def _published(loaded: recipes.Loaded, folder: Path) -> Published:
    times = planner.plan(loaded.recipe, loaded.root).those(Trait.TIMES)
    timed = next((one.options for one in times if "target" not in one.options), None)
    return Published(str(loaded.path), loaded.recipe.name, str(loaded.root), str(folder), timed)


def main() -> int:
    """Carry out the order on stdin; returns the exit status."""
    interrupts.install()
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever a library prints must not end up in the answer
        try:
            answer = _carried_out(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
        except KeyboardInterrupt:
            return INTERRUPTED
        answers.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
