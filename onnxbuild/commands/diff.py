"""`onnxbuild diff`: what is different between two builds, lock files, .onnx files or revisions."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments
from onnxbuild.text.screen import Screen

if TYPE_CHECKING:
    from onnxbuild.queries.workspace import Places
    from onnxbuild.report.changes import Diff
    from onnxbuild.review.sides import Read

HELP = "say what is different between two builds, lock files, .onnx files or revisions of git"
EXAMPLES = (
    "onnxbuild diff main..HEAD recipes/resnet.yaml",
    "onnxbuild diff --build main recipes/resnet.yaml --markdown",
    "onnxbuild diff classifier.onnx build/resnet50 --html diff.html",
)

_EPILOG = """\
A and B are each a build's folder, a recipe (its published build), a lock file or an .onnx file. With a
recipe as B, A may be a revision: `diff main..HEAD recipes/a.yaml` compares the locks of both, `main...HEAD`
starts where the two parted, `diff main recipes/a.yaml` ends with the work tree. A lock that is outdated
there can't be compared. --build builds both instead.

Nodes are matched by structure: their names, those of the values between them and the order of independent
nodes are no difference. An attribute that is left out is its default. Weights are compared by content.

exit codes:
  0  what came out is the same, whatever it was made from
  1  it is different
  2  something can't be compared

--json prints one object, described by `onnxbuild schema diff`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("before", metavar="A", help="a build, recipe, lock file, .onnx file or revision")
    parser.add_argument("after", type=Path, metavar="B", help="the same; a recipe where A is a revision")
    text = "build the recipe at both revisions, in folders of their own and with the same store"
    parser.add_argument("--build", action="store_true", help=text)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--markdown", action="store_true", help="print Markdown for a pull request")
    forms.add_argument("--json", action="store_true", help="print the difference as JSON")
    parser.add_argument("--html", metavar="FILE", help="write a page too, side by side")
    arguments.add_out(parser)
    arguments.add_trust(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the difference; 1 if there is any."""
    from onnxbuild.errors import StageError, usage
    from onnxbuild.review import comparing

    page = None if options.html is None else arguments.written("--html", options.html, arguments.PAGE)
    try:
        diff = _built(options) if options.build else comparing.compare(*_sides(options), _places(options))
    except StageError as error:  # a build that failed, or a tensor whose data is missing: nothing was compared
        raise usage(error.fact, error.hint) from None
    if page is not None:
        _write(page, options.html, diff)
    _print(options, diff)
    return 0 if diff.same else 1


def _places(options: argparse.Namespace, cache: Path | None = None) -> Places:
    """The stores, for a look at where nodes come from."""
    from onnxbuild.queries.workspace import Places

    trusted = arguments.is_trusted(options)
    return Places(Screen(sys.stderr, os.environ).line, cache=cache or arguments.cache(), look=True, trusted=trusted)


def _sides(options: argparse.Namespace) -> tuple[Read, Read]:
    from onnxbuild.review import revisions, sides

    if not _has_revision(options):
        out = arguments.out(options)
        return sides.of_path(Path(options.before), out), sides.of_path(options.after, out)
    return sides.of_range(revisions.parse(options.before, options.after.parent), options.after)


def _has_revision(options: argparse.Namespace) -> bool:
    """Whether A is a revision: B is a recipe, and no file has that name."""
    from onnxbuild.review import sides

    return sides.is_recipe(options.after) and options.after.parent.is_dir() and not Path(options.before).exists()


def _built(options: argparse.Namespace) -> Diff:
    """Build the recipe at both revisions and compare what came out."""
    from onnxbuild import recipe as recipes
    from onnxbuild.engine.revisions import Builds
    from onnxbuild.engine.session import Settings
    from onnxbuild.errors import usage
    from onnxbuild.report.changes import Side
    from onnxbuild.report.progress import Progress
    from onnxbuild.review import comparing, revisions, sides

    if not _has_revision(options):
        raise usage(
            "--build takes a revision and a recipe", "such as: onnxbuild diff --build main..HEAD recipes/a.yaml"
        )
    found = revisions.parse(options.before, options.after.parent)
    progress = Progress(sys.stderr, quiet=True, errors=sys.stderr)
    settings = Settings(cache=arguments.cache(), trusted=arguments.is_trusted(options))
    read = []
    with Builds(options.after, settings, progress) as builds:
        for revision in found:
            name = revision or "the work tree"
            folder = builds.build(revision)
            if folder is None:
                read.append(sides.Read(Side(name, "nothing"), missing=(f"{options.after} isn't there at {name}",)))
                continue
            taken = tuple(f"{path} of {name}: not in git, so the work tree's was taken" for path in builds.taken)
            side = sides.of_build(folder, name, builds.said)
            read.append(side._replace(missing=(*side.missing, *taken)))
        root = recipes.project_root(options.after)
        return comparing.compare(read[0], read[1], _places(options, settings.cache or root / ".onnxbuild"), root)


def _write(path: Path, name: str, diff: Diff) -> None:
    from onnxbuild.errors import usage
    from onnxbuild.report import changes_page
    from onnxbuild.system.files import write_atomic

    try:
        write_atomic(path, [changes_page.html(diff).encode()])
    except OSError as error:
        raise usage(f"{name} can't be written: {error.strerror}", "give --html a file that can be") from None


def _print(options: argparse.Namespace, diff: Diff) -> None:
    from onnxbuild.report import changes_text

    if options.json:
        print(changes_text.to_json(diff).decode(), end="")
    elif options.markdown:
        from onnxbuild.report import changes_page

        print(changes_page.markdown(diff), end="")
    else:
        screen = Screen(sys.stdout, os.environ)
        for line in changes_text.lines(diff, screen.width):
            screen.line(line)
