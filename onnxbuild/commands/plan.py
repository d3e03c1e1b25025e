"""`onnxbuild plan`: what a run would do, and why."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from onnxbuild.commands import arguments
from onnxbuild.text import idle as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from onnxbuild.queries.forecast import Foreseen

HELP = "say what a run would do, and why; write nothing"
EXAMPLES = (
    "onnxbuild plan recipes/resnet.yaml",
    "onnxbuild plan --check recipes/*.yaml",
)

_EPILOG = """\
states:
  up to date  the store has its result, for exactly these inputs
  run         it would run, also if the stages before it give what they gave the
              last time (unless what they give now was built before)
  maybe       a stage before it would run; it runs only if that gives something
              else
  fails       its result is in the store, and is out of the recipe's tolerances
  skip        it can't run: a stage before it fails, or onnxruntime can't run
              the graph

--json prints one object, described by `onnxbuild schema plan`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)
    arguments.add_out(parser)
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless everything is up to date")
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the plans; with --check 1 where something would run, or fails."""
    from onnxbuild.text.screen import Screen

    asked = None if options.json or options.paranoid else arguments.question(options)
    if asked is not None and (known := asked.answer()) is not None:
        screen = Screen(sys.stdout, os.environ)
        for path, one in zip(options.recipes, known, strict=True):
            for line in words.cautioned(one.name, one.cautions):
                screen.line(line)
            screen.line(f"{_head(one.name, arguments.shown(path))}: {words.plan(one.stages, one.skipped)}")
        return 0
    from onnxbuild.queries.forecast import Outlook

    screen, errors = Screen(sys.stdout, os.environ), Screen(sys.stderr, os.environ)
    places = arguments.places(options, errors.line)
    outlook = Outlook(places)
    plans = [(loaded, outlook.of(loaded)) for loaded in places.load(arguments.recipes(options))]
    if options.json:
        from onnxbuild.queries import forecast

        print(forecast.encode(plans))
    else:
        from onnxbuild.queries import filled, forecast

        for loaded, stages in plans:
            for line in words.cautioned(loaded.recipe.name, forecast.warnings(loaded, stages)):
                screen.line(line)
            for line in text(_head(loaded.recipe.name, str(loaded.path)), stages, screen.width):
                screen.line(line)
            for line in () if all(one.idle for one in stages) else filled.lines(loaded, screen.width):
                screen.line(line)
    idle = all(stage.idle for _, stages in plans for stage in stages)
    return 1 if options.check and not idle else 0


def _head(name: str, path: str) -> str:
    return f"{name} ({path})"


def text(head: str, stages: Sequence[Foreseen], width: int) -> Iterator[str]:
    """One recipe's plan for reading; a single line where nothing would be done."""
    counts = summary(stages)
    yield f"{head}: {counts}"
    if not all(stage.idle for stage in stages):
        from onnxbuild.text import table

        cells = [(one.state, one.stage.name, "\n".join(map(_first_line, one.why))) for one in stages]
        yield from table.rows(cells, width)


def summary(stages: Sequence[Foreseen]) -> str:
    """How many stages are in which state: "2 run, 5 maybe, 4 up to date"."""
    states = [one.state for one in stages]
    if all(one.idle for one in stages):
        return words.plan(len(states), states.count("skip"))
    return ", ".join(
        f"{states.count(state)} {state}" for state in ("run", "maybe", "fails", "skip", "up to date") if state in states
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
