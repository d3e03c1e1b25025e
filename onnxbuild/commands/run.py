"""`onnxbuild run`: the main job."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments

if TYPE_CHECKING:
    from onnxbuild.report.types import Report

HELP = "build recipes: every stage that is not up to date"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)
    arguments.add_out(parser)
    arguments.add_trust(parser)
    text = "stages at a time (default: one per core)"
    parser.add_argument("-j", "--jobs", type=arguments.whole(1), default=0, metavar="N", help=text)
    text = "build on after a failure, and leave out recipes that have problems (which are told at the end)"
    parser.add_argument("-k", "--keep-going", action="store_true", help=text)
    text = "what the stages may use together, such as 4G or 512MiB (default: most of what is available)"
    parser.add_argument("--memory", type=arguments.memory, default=0, metavar="SIZE", help=text)
    parser.add_argument("-q", "--quiet", action="store_true", help="print failures only")
    text = "print each report as a line of JSON on stdout; progress goes to stderr"
    parser.add_argument("--json", action="store_true", help=text)
    arguments.add_paranoid(parser)
    parser.epilog = "The store of finished stages is .onnxbuild/ at the project root, or $ONNXBUILD_CACHE."


def run(options: argparse.Namespace) -> int:
    """Build the recipes; 1 if any of them failed. Raises UserError where some have problems, whatever the others did."""
    from onnxbuild.engine.session import Session, Settings
    from onnxbuild.report.progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout, quiet=options.quiet, errors=sys.stderr)
    settings = Settings(
        options.out,
        arguments.cache(),
        options.jobs,
        options.paranoid,
        options.memory,
        options.keep_going,
        arguments.is_trusted(options),
    )
    failed = 0
    with Session(settings, progress) as session:
        loaded = session.load(options.recipes)
        printed = _InOrder([one.recipe.name for one in loaded])
        for report in session.build_all(loaded):
            failed += report.status != "done"
            if options.json:
                printed.add(report)
        session.end()
    return 1 if failed else 0


class _InOrder:
    """Prints reports as lines of JSON in the order of their recipes, whichever ends first."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._waiting: dict[str, Report] = {}

    def add(self, report: Report) -> None:
        import msgspec

        self._waiting[report.name] = report
        while self._names and self._names[0] in self._waiting:
            print(msgspec.json.encode(self._waiting.pop(self._names.pop(0))).decode(), flush=True)
