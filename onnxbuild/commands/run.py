"""`onnxbuild run`: the main job."""

from __future__ import annotations

import argparse
import os
import sys
import time

from onnxbuild.commands import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxbuild.errors import Problem
    from onnxbuild.queries.remembered import Idle
    from onnxbuild.recipe import Loaded
    from onnxbuild.report.types import Report

_BEGUN = time.perf_counter()

HELP = "build recipes: every stage that is not up to date"
EXAMPLES = (
    "onnxbuild run recipes/resnet.yaml",
    "onnxbuild run recipes/*.yaml --keep-going --jobs 4",
    "onnxbuild run recipes/resnet.yaml --locked --junit junit.xml",
)


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
    text = "write what came of every stage and comparison as JUnit's XML, which CI services show"
    parser.add_argument("--junit", metavar="FILE", help=text)
    text = "run again whenever a file of the project changes, until Ctrl-C (needs the extra `watch`)"
    parser.add_argument("--watch", action="store_true", help=text)
    arguments.add_paranoid(parser)
    lock = parser.add_mutually_exclusive_group()
    text = "fail, and publish nothing, where a build is not what its lock file expects; see `onnxbuild lock`"
    lock.add_argument("--locked", action="store_true", help=text)
    text = "write what came of the build into its lock file"
    lock.add_argument("--update-lock", action="store_true", help=text)
    parser.epilog = "The store of finished stages is .onnxbuild/ at the project root, or $ONNXBUILD_CACHE."


def run(options: argparse.Namespace) -> int:
    """Build the recipes; 1 if any of them failed. Raises UserError where some have problems, whatever the others did."""
    if options.watch:
        return _watch(options)
    if options.junit is not None:
        return _with_junit(options)
    return _run(options, [])


def _watch(options: argparse.Namespace) -> int:
    """Run the same command without --watch, now and after each change; the last run's exit code."""
    from pathlib import Path

    from onnxbuild.engine import watching
    from onnxbuild.system import project
    from onnxbuild.text import units

    roots = list(dict.fromkeys(Path(project.root_of(path)) for path in options.recipes))
    junit = None if options.junit is None else Path(options.junit)
    written = [arguments.out(options), arguments.cache(), junit, *(root / "build" for root in roots)]
    rest = [one for one in sys.argv[1:] if len(one) < len("--w") or not "--watch".startswith(one)]
    return watching.again(
        [sys.executable, "-m", "onnxbuild", *rest],
        roots,
        [folder.absolute() for folder in written if folder is not None],
        lambda text: print(units.line(text), file=sys.stderr, flush=True),
    )


def _run(options: argparse.Namespace, reports: list[Report]) -> int:
    """As `run`; each report is added to `reports` as its recipe ends, at its recipe's place."""
    asked = (
        None
        if options.json or options.paranoid or options.junit or options.update_lock
        else arguments.question(options)
    )
    if asked is not None and (idle := asked.answer()) is not None:
        return 0 if options.quiet else _nothing_to_do(idle)
    from onnxbuild.engine.session import Session, Settings
    from onnxbuild.report.progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout, quiet=options.quiet, errors=sys.stderr)
    settings = Settings(
        arguments.out(options),
        arguments.cache(),
        options.jobs,
        options.paranoid,
        options.memory,
        options.keep_going,
        arguments.is_trusted(options),
        options.locked,
    )
    failed = 0
    with Session(settings, progress) as session:
        loaded = session.load(arguments.recipes(options), asked)
        if options.update_lock:
            _require_own_locks(loaded)
        place = {one.recipe.name: at for at, one in enumerate(loaded)}
        printed = _InOrder(list(place))
        for report in session.build_all(loaded):
            failed += report.status != "done"
            reports.append(report)
            reports.sort(key=lambda one: place[one.name])
            if options.json:
                printed.add(report)
        try:
            session.end()
        finally:
            if reports and options.update_lock:
                _lock(options, loaded, reports)
    return 1 if failed else 0


def _require_own_locks(loaded: Sequence[Loaded]) -> None:
    from onnxbuild.commands import lock

    lock.require_own(loaded)


def _lock(options: argparse.Namespace, loaded: Sequence[Loaded], reports: Sequence[Report]) -> None:
    from onnxbuild.commands import lock

    lock.write(loaded, reports, quiet=options.quiet or options.json)


def _with_junit(options: argparse.Namespace) -> int:
    """As `run`, and write the XML whichever way it ends. Raises UserError where that can't be written."""
    from onnxbuild.errors import UserError, usage
    from onnxbuild.report import junit
    from onnxbuild.system import oserrors
    from onnxbuild.system.files import write_atomic
    from onnxbuild.text import units

    path = arguments.written("--junit", options.junit, arguments.JUNIT)
    reports: list[Report] = []
    problems: tuple[Problem, ...] = ()
    try:
        return _run(options, reports)
    except UserError as error:
        problems = error.problems
        raise
    except BaseException as error:  # a file without a failure would be green
        how = "was interrupted" if isinstance(error, KeyboardInterrupt) else f"ended in {type(error).__name__}: {error}"
        count, missing = len(options.recipes), len(options.recipes) - len(reports)
        have = "has" if missing == 1 else "have"
        problems = usage(f"the run {how}: of {units.plural(count, 'recipe')}, {missing} {have} no result here").problems
        raise
    finally:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, [junit.to_xml(reports, problems)])
        except OSError as error:
            raise UserError(*problems, *usage(*oserrors.explain(error, path)).problems) from error


def _nothing_to_do(idle: Sequence[Idle]) -> int:
    """Say what the whole command would have said."""
    from onnxbuild.text import idle as words
    from onnxbuild.text.screen import Screen

    screen = Screen(sys.stdout, os.environ)
    took = time.perf_counter() - _BEGUN
    lines = words.run([(one.name, one.stages, took) for one in idle], took)
    for line in lines + (words.warnings(idle[0].cautions) if len(idle) == 1 else []):
        screen.line(line)
    return 0


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
