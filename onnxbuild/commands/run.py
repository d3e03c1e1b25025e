"""`onnxbuild run`: the main job."""

from __future__ import annotations

import argparse
import sys

from onnxbuild.commands import arguments

HELP = "build recipes: every stage that is not up to date"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)
    arguments.add_out(parser)
    text = "stages at a time (default: one per core)"
    parser.add_argument("-j", "--jobs", type=arguments.positive, default=0, metavar="N", help=text)
    parser.add_argument("-q", "--quiet", action="store_true", help="print failures only")
    text = "print each report as a line of JSON on stdout; progress goes to stderr"
    parser.add_argument("--json", action="store_true", help=text)
    arguments.add_paranoid(parser)
    parser.epilog = "The store of finished stages is .onnxbuild/ at the project root, or $ONNXBUILD_CACHE."


def run(options: argparse.Namespace) -> int:
    """Build the recipes; 1 if any of them failed."""
    from onnxbuild import recipe as recipes
    from onnxbuild.build import Session, Settings
    from onnxbuild.progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout, quiet=options.quiet, errors=sys.stderr)
    settings = Settings(options.out, arguments.cache(), options.jobs, options.paranoid)
    failed = 0
    with Session(settings, progress) as session:
        for one in recipes.load_all(options.recipes, session.digest):
            report = session.build(one)
            failed += report.status != "done"
            if options.json:
                import msgspec

                print(msgspec.json.encode(report).decode(), flush=True)
    return 1 if failed else 0
