"""`onnxbuild check`."""

from __future__ import annotations

import argparse
import sys

from onnxbuild.commands import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnxbuild.recipe import Loaded

HELP = "validate recipes and build nothing"
EXAMPLES = (
    "onnxbuild check recipes/*.yaml",
    "onnxbuild check --deep recipes/resnet.yaml",
)
_EPILOG = """\
--deep also builds each source model and runs it at the sizes that a build would try: a keyword argument that it does not
take, inputs in another order, outputs that it does not give and axes that it does not move are told without an export.
What it computes is kept in the store, so the next `onnxbuild run` does not pay for it again.

--resolved prints each recipe whole, as YAML: its bases merged, what it leaves to its model filled in, and behind each line
the file and the line that it comes from. Saved in the recipe's place it builds the same.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)
    more = parser.add_mutually_exclusive_group()
    more.add_argument("--deep", action="store_true", help="run the source models too, and keep what they compute")
    text = "print each recipe whole, bases merged, with where every line comes from"
    more.add_argument("--resolved", action="store_true", help=text)
    arguments.add_trust(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Load the recipes, which raises UserError for any problem, and say how many there are; 1 where a model disagrees."""
    if options.deep:
        return _deep(arguments.recipes(options), trusted=arguments.is_trusted(options))
    from onnxbuild import recipe as recipes
    from onnxbuild.queries.describing import Describing
    from onnxbuild.system.files import sha256_file

    describing = Describing(None)
    try:
        loaded = recipes.load_all(arguments.recipes(options), sha256_file, describing)
    finally:
        describing.close()
    if options.resolved:
        _whole(loaded)
    else:
        print(f"{len(loaded)} recipe{'s' if len(loaded) != 1 else ''} checked, no problems.")
    return 0


def _whole(loaded: Sequence[Loaded]) -> None:
    """Print recipes as YAML; several as so many documents."""
    from onnxbuild.queries import filled
    from onnxbuild.recipe import whole

    for one in loaded:
        if len(loaded) > 1:
            print("---")
        defaults = [part.path for part in one.filled if part.default]
        lines = whole.lines(one.data, one.positions, str(one.path), filled.origin(one), defaults)
        for line in whole.annotated(lines):
            print(line)


def _deep(paths: Sequence[Path], *, trusted: bool) -> int:
    from onnxbuild.engine.session import Session, Settings
    from onnxbuild.report.progress import Progress
    from onnxbuild.text import units

    progress = Progress(sys.stdout, quiet=False, errors=sys.stderr, verdicts=False)
    wrong = 0
    with Session(Settings(cache=arguments.cache(), keep_going=True, trusted=trusted), progress) as session:
        loaded = session.load(paths)
        for one, failures in session.ask(loaded):
            wrong += bool(failures)
            for failure in failures:
                hint = f"\n    hint: {failure.hint}" if failure.hint else ""
                print(units.plain(f"{one.path}: {failure.stage}: {failure.fact}{hint}"), file=sys.stderr)
        progress.close()
        told = f"{wrong} with a model that disagrees" if wrong else "no problems, and every model agrees"
        print(f"{units.plural(len(loaded), 'recipe')} checked, {told}.")
        session.end()
    return 1 if wrong else 0
