"""`onnxbuild canary`: recipes built in another environment, and whether they hold there: can a library be raised?"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onnxbuild.errors import UserError
    from onnxbuild.report.canary import Canary

HELP = "build recipes in a second environment too, and say whether they hold there, and what is different"
EXAMPLES = (
    "onnxbuild canary --python ../canary/bin/python",
    "onnxbuild canary recipes/resnet.yaml --python ../canary/bin/python --strict",
    "onnxbuild canary --python ../canary/bin/python --constraint 'torch>=2.13'",
)

_SUCH_AS = "../canary/bin/python"

_EPILOG = """\
Each recipe is built with this interpreter and with the other one: the same code of onnxbuild, the same store (what
both have in common is built once), and folders of their own; build/ is not touched. The other one needs no
onnxbuild, but all that it needs. Make one beside the project, such as:
  python -m venv ../canary
  python -m pip freeze --exclude-editable --exclude onnxbuild > ../packages.txt
  ../canary/bin/python -m pip install --requirement ../packages.txt
  ../canary/bin/python -m pip install 'onnxruntime-gpu==1.32.0'

A recipe holds where it passes all its own checks there, has the same inputs, outputs and ranges, nothing that was
compared is missing, no error is ten times what it was (rounding steps aside), and it is not slower. A graph or
weights that came out different are told; with --strict they count, too.

Benchmarks are not run. The latency of a recipe that has one is measured where it can differ, the two builds taking
turns ten times. Slower is what is so by --slower or more in the median turn, and at all in nine of the ten. Targets
are compared, and not timed.

exit codes:
  0  every recipe holds
  1  one does not, or an environment could not build at all
  2  a recipe, the command line or the other environment is wrong

--json prints one object, described by `onnxbuild schema canary`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes_or_folders(parser)
    text = "the interpreter of the other environment, such as ../canary/bin/python"
    parser.add_argument("--python", metavar="PYTHON", help=text)
    text = "what has to be installed there, such as 'onnxruntime==1.32.0'; may be given again"
    parser.add_argument("--constraint", metavar="SPEC", action="append", default=[], help=text)
    parser.add_argument("--strict", action="store_true", help="a graph or weights that are not the same count, too")
    text = "how much longer a run may take, in percent (default: 10)"
    parser.add_argument("--slower", type=arguments.whole(1, 1000), default=10, metavar="PERCENT", help=text)
    text = "keep both builds, in before/ and after/ of this folder (default: a temporary one)"
    parser.add_argument("--out", metavar="FOLDER", help=text)
    parser.add_argument("-q", "--quiet", action="store_true", help="do not tell of stages on stderr")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--markdown", action="store_true", help="print Markdown for a pull request")
    forms.add_argument("--json", action="store_true", help="print what came of it as JSON")
    arguments.add_trust(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Build in both environments and print what is different; 1 if a recipe does not hold."""
    from onnxbuild.engine import canary
    from onnxbuild.errors import UserError
    from onnxbuild.system import interpreters

    interpreters.check(options.constraint)
    if options.python is None:
        raise _none_named(options.constraint)
    recipes = _recipes(options.recipes)
    with tempfile.TemporaryDirectory(prefix="onnxbuild-canary-") as scratch:
        path = Path(scratch, "path")
        path.mkdir()
        other = interpreters.examine(options.python, path)
        if problems := interpreters.unmet(options.constraint, other.path, other.installed):
            raise UserError(*problems)
        trial = canary.Trial(
            recipes=recipes,
            constraints=options.constraint,
            out=(arguments.out(options) or Path(scratch)).absolute(),
            cache=arguments.cache(),
            trusted=arguments.is_trusted(options),
            quiet=options.quiet,
            strict=options.strict,
            slower=options.slower / 100,
        )
        told = canary.run(trial, (canary.own(), other), _teller(quiet=options.quiet))
    _print(options, told)
    return 0 if told.ok else 1


def _recipes(given: list[str]) -> list[str]:
    """The recipes' files; git is asked only of folders. Raises UserError where there are none."""
    from onnxbuild.commands import below
    from onnxbuild.errors import usage
    from onnxbuild.system import changes

    folders = not given or any(Path(path).is_dir() for path in given)
    found = list(below.recipes(given or ["."], *changes.present(str(Path.cwd())))) if folders else given
    if not found:
        raise usage(f"there is no recipe below {', '.join(given) or 'this folder'}", "name recipes, or another folder")
    return found


def _none_named(constraints: Sequence[str]) -> UserError:
    from onnxbuild.errors import usage
    from onnxbuild.system import interpreters

    line = interpreters.installing(_SUCH_AS, constraints or ["torch==2.13.0"])
    return usage(
        "no other environment is named",
        f"make one that has what is installed here, as `onnxbuild canary --help` shows; {line}; "
        f"and name it by --python {_SUCH_AS}",
    )


def _teller(*, quiet: bool) -> Callable[[str], None]:
    """What prints a line on stderr, where anything is to be told."""
    from onnxbuild.text import units

    return lambda text: None if quiet else print(units.line(text), file=sys.stderr, flush=True)


def _print(options: argparse.Namespace, told: Canary) -> None:
    from onnxbuild.report import canary_text
    from onnxbuild.text.screen import Screen

    if options.json:
        print(canary_text.to_json(told).decode(), end="")
    elif options.markdown:
        print(canary_text.markdown(told), end="")
    else:
        screen = Screen(sys.stdout, os.environ)
        for line in canary_text.lines(told):
            screen.line(line)
