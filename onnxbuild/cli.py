"""The command line: one function per command, and exit codes.

0 done; 1 a stage failed; 2 the recipe or the command line is wrong; 3 a bug of ours; 130 interrupted. Imports nothing
heavy: a run with nothing to do must not pay for torch, onnx, numpy or onnxruntime.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from onnxbuild import __version__
from onnxbuild.errors import Problem, StageError, UserError, usage

DONE, FAILED, WRONG, BUG, INTERRUPTED = 0, 1, 2, 3, 130

_EPILOG = """\
exit codes:
  0  done            1  a stage failed      2  the recipe or the command line is wrong
  3  a bug of ours   130  interrupted

Start with `onnxbuild run recipes/resnet.yaml`; results land in build/<name>/.
"""


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        options = _parser().parse_args(arguments)
        code: int = options.command(options)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # the one place that turns an exception into an exit code
        return _ended_by(error)
    return code


def _ended_by(error: BaseException) -> int:
    """Say what ended a command, to whom it concerns, and return the exit code."""
    code = FAILED
    match error:
        case SystemExit():  # argparse has said its word
            code = int(error.code or 0)
        case UserError():
            code = _wrong(error)
        case StageError():
            print(f"{error.fact}" + (f"\n    hint: {error.hint}" if error.hint else ""), file=sys.stderr)
        case KeyboardInterrupt():
            print("interrupted; what was finished is kept, the next run goes on from there", file=sys.stderr)
            code = INTERRUPTED
        case BrokenPipeError():  # the reader of our output went away; nothing more can be said to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        case OSError():
            code = _no_access(error)
        case _:
            code = _bug(error)
    return code


def run(options: argparse.Namespace) -> int:
    """`onnxbuild run`: build recipes."""
    from onnxbuild import recipe as recipes
    from onnxbuild.build import Session, Settings
    from onnxbuild.progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout, quiet=options.quiet, errors=sys.stderr)
    settings = Settings(options.out, _cache(), options.jobs, options.paranoid)
    failed = 0
    with Session(settings, progress) as session:
        for one in recipes.load_all(options.recipes, session.digest):
            report = session.build(one)
            failed += report.status != "done"
            if options.json:
                import msgspec

                print(msgspec.json.encode(report).decode(), flush=True)
    return FAILED if failed else DONE


def check(options: argparse.Namespace) -> int:
    """`onnxbuild check`: validate recipes and build nothing."""
    from onnxbuild import recipe as recipes

    loaded = recipes.load_all(options.recipes)
    print(f"{len(loaded)} recipe{'s' if len(loaded) != 1 else ''} checked, no problems.")
    return DONE


def show(options: argparse.Namespace) -> int:
    """`onnxbuild show`: print a graph as text."""
    from onnxbuild import show as shows

    if not options.model.is_file():
        raise usage(f"{options.model}: no such file", "give an .onnx file, such as build/<name>/model.onnx")
    print(shows.show(options.model))
    return DONE


def schema(options: argparse.Namespace) -> int:
    """`onnxbuild schema`: print or write the published JSON Schemas."""
    from onnxbuild import schemas

    if options.write:
        for path in schemas.write(options.write):
            print(path)
    else:
        print(schemas.text(options.which), end="")
    return DONE


def doctor(_: argparse.Namespace) -> int:
    """`onnxbuild doctor`: print versions and the providers that really work."""
    from onnxbuild import doctor as doctors

    lines, healthy = doctors.examine()
    print("\n".join(lines))
    return DONE if healthy else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onnxbuild",
        description="Build ONNX models from checked-in recipes: export, optimize, prove, measure, package; "
        "skip whatever is unchanged.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onnxbuild {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)

    command = _command(commands, "check", check, "validate recipes and build nothing")
    command.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE", help="a recipe's .yaml file")

    command = _command(commands, "show", show, "print an ONNX file as text, without its weights")
    command.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file")

    command = _command(commands, "schema", schema, "print the JSON Schema of recipes or reports")
    command.add_argument("which", nargs="?", choices=["recipe", "report"], default="recipe")
    command.add_argument("--write", type=Path, metavar="FOLDER", help="write both schemas into this folder instead")

    _command(commands, "doctor", doctor, "print versions and the onnxruntime providers that really work here")
    return parser


def _add_run(commands: Any) -> None:
    command = _command(commands, "run", run, "build recipes: every stage that is not up to date")
    command.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE", help="a recipe's .yaml file")
    command.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results go, a folder per recipe (default: build/ at the root)"
    )
    command.add_argument(
        "-j", "--jobs", type=_positive, default=0, metavar="N", help="stages at a time (default: one per core)"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="print failures only")
    command.add_argument("--json", action="store_true", help="print each report as a line of JSON; progress to stderr")
    command.add_argument("--paranoid", action="store_true", help="hash every file anew, whatever stat says of it")
    command.epilog = (
        "The store of finished stages is .onnxbuild/ at the project root, or $ONNXBUILD_CACHE. "
        "NO_COLOR turns colour off."
    )


def _command(commands: Any, name: str, function: Any, help_: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_, description=help_[0].upper() + help_[1:] + "."
    )
    command.set_defaults(command=function)
    return command


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _cache() -> Path | None:
    folder = os.environ.get("ONNXBUILD_CACHE")
    return Path(folder).absolute() if folder else None


def _wrong(error: UserError) -> int:
    for problem in error.problems:
        print(problem, file=sys.stderr)
    count = len(error.problems)
    print(f"{count} problem{'s' if count != 1 else ''}; nothing was built.", file=sys.stderr)
    return WRONG


def _no_access(error: OSError) -> int:
    hints = {"ENOSPC": "free some space", "EROFS": "set ONNXBUILD_CACHE and --out to folders that can be written"}
    import errno

    name = errno.errorcode.get(error.errno or 0, "")
    place = str(error.filename or "")
    hint = hints.get(name, "check the path and its permissions")
    print(Problem(place, 0, 0, "", error.strerror or str(error), hint), file=sys.stderr)
    return FAILED


def _bug(error: BaseException) -> int:
    import traceback

    traceback.print_exception(error)
    print(
        f"This is a bug in onnxbuild {__version__}, not in your recipe. Please report it with the lines above, "
        "the recipe, and the output of `onnxbuild doctor`.",
        file=sys.stderr,
    )
    return BUG


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt
