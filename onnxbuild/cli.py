"""The command line: the parser, and exit codes. The commands themselves are modules in `commands`.

0 done; 1 a stage failed; 2 the recipe or the command line is wrong; 3 a bug of ours; 130 interrupted; 141 nobody reads the
output any more. Imports nothing heavy: a run with nothing to do must not pay for torch, onnx, numpy or onnxruntime.
"""

from __future__ import annotations

import argparse
import codecs
import gc
import io
import os
import re
import sys

from onnxbuild import __version__, commands
from onnxbuild.system import interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from onnxbuild.errors import UserError

FAILED, WRONG, BUG, INTERRUPTED = 1, 2, 3, 130
UNREAD = 141  # what a shell says of a program that SIGPIPE ended
GARBAGE = 100_000  # objects between two searches for cycles; Python's own 700 take a tenth of a run with nothing to do

_EPILOG = """\
exit codes:
  0  done            1  a stage failed      2  the recipe or the command line is wrong
  3  a bug of ours   130  interrupted        141  whoever read the output went away

Start with `onnxbuild run recipes/resnet.yaml`; results land in build/<name>/.
"""


def entry() -> NoReturn:
    """The console script."""
    gc.set_threshold(GARBAGE)
    code = main(sys.argv[1:])
    interrupts.ignore()  # as it ends, Python takes our handlers away
    gc.freeze()  # what the system takes back in a moment is not worth 15 ms of searching for cycles
    sys.exit(code)


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    interrupts.install()
    _open_closed()
    _escape()
    try:
        parser = _parser(arguments[0] if arguments else "")
        if not arguments:
            parser.print_help(sys.stderr)
            return WRONG
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        code: int = options.command(options)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # the one place that turns an exception into an exit code
        return _ended_by(error, building=arguments[:1] == ["run"])
    return code


def _open_closed() -> None:
    """Give a command that was started without one of its streams (`>&-`) one that goes nowhere.

    Else the first file that is opened would take its number, and get what is written to it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # always the lowest that is free
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # open until the process ends
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # ditto
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # ditto


def _escape() -> None:
    """Have what the encoding of stdout lacks escaped as JSON has it: a pipe may be of 256 characters, and names of any."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        codecs.register_error("onnxbuild", _escaped)
        sys.stdout.reconfigure(errors="onnxbuild")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True)), error.end


def _ended_by(error: BaseException, *, building: bool) -> int:
    """Say what ended a command, to whom it concerns, and return the exit code."""
    from onnxbuild.errors import StageError, UserError
    from onnxbuild.system import oserrors

    code = FAILED
    match error:
        case SystemExit():  # argparse has said its word
            code = int(error.code or 0)
        case UserError():
            code = _wrong(error, building=building)
        case StageError():
            _tell(f"{error.fact}" + (f"\n    hint: {error.hint}" if error.hint else ""))
        case KeyboardInterrupt():
            interrupts.ignore()  # nothing is left to interrupt
            print("interrupted; what was finished is kept, the next run goes on from there", file=sys.stderr)
            code = INTERRUPTED
        case BrokenPipeError():  # the reader of our output went away; nothing more can be said to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = UNREAD
        case OSError():
            code = _no_access(error)
        case _:
            outside = oserrors.behind(error)
            code = _bug(error) if outside is None else _no_access(outside)
    return code


class _Parser(argparse.ArgumentParser):
    """argparse's, which also says what was probably meant by a word or an option that it does not know."""

    def error(self, message: str) -> NoReturn:
        """Print the usage, what is wrong and the nearest name, in place of all that there are; exits with 2."""
        fact, _, choices = message.partition(" (choose from ")
        meant = re.search(r"invalid choice: '(.+)'$|^unrecognized arguments: .*?(--[^ =]+)", fact)
        if meant:
            from onnxbuild.text import wording

            hint = wording.nearest(meant[1] or meant[2], re.findall(r"'([^']+)'", choices) or _options(self))
            message = f"{fact}\n    hint: {hint}" if hint else message
        super().error(message)


class _Help(argparse.HelpFormatter):
    """Wraps paragraphs to the terminal's width, and leaves indented lines as they are: examples, tables."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        paragraph: list[str] = []
        for line in [*text.strip("\n").splitlines(), ""]:
            if line and not line.startswith(" "):
                paragraph.append(line)
                continue
            if paragraph:
                lines.append(super()._fill_text(" ".join(paragraph), width, indent))
                paragraph = []
            lines.append(f"{indent}{line}".rstrip())
        return "\n".join(lines).rstrip()


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """The long options of a parser and of those below it."""
    found = []
    for action in parser._actions:  # noqa: SLF001  # argparse tells of them nowhere else
        found += [name for name in action.option_strings if name.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # ditto
            found += [name for below in action.choices.values() for name in _options(below)]
    return found


def _parser(command_name: str) -> argparse.ArgumentParser:
    """The parser, with the one command that is asked for, else with all of them: each takes a third of a millisecond."""
    parser = _Parser(
        prog="onnxbuild",
        description="Build ONNX models from checked-in recipes: export, optimize, prove, measure, package; "
        "skip whatever is unchanged.",
        epilog=_EPILOG,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"onnxbuild {__version__}")
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=parser.prog)
    for name in (command_name,) if command_name in commands.COMMANDS else commands.COMMANDS:
        module = commands.command(name)
        command = added.add_parser(name, help=module.HELP, description=f"{module.HELP[0].upper()}{module.HELP[1:]}.")
        module.add_arguments(command)
        command.formatter_class = _Help
        command.epilog = "\n".join([command.epilog or "", "", "examples:", *(f"  {one}" for one in module.EXAMPLES)])
        command.set_defaults(command=module.run, parser=command)
    return parser


def _tell(text: str) -> None:
    """Print an error; the names in it may be anybody's, so no control character reaches the terminal."""
    from onnxbuild.text import units

    print(units.plain(text), file=sys.stderr)


def _wrong(error: UserError, *, building: bool) -> int:
    for problem in error.problems:
        _tell(str(problem))
    count = len(error.problems)
    after = "; nothing was built" if building else ""
    if error.others_went_on:
        after = "; the recipes without any were not held up"
    print(f"{count} problem{'s' if count != 1 else ''}{after}.", file=sys.stderr)
    return WRONG


def _no_access(error: OSError) -> int:
    from onnxbuild.system import oserrors

    fact, hint = oserrors.explain(error)
    _tell(f"{fact}\n    hint: {hint}")
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
