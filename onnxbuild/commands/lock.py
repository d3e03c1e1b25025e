"""`onnxbuild lock`: what a build is expected to be, in a file beside the recipe that is reviewed with it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from onnxbuild import recipe as recipes
    from onnxbuild.report.types import Report
    from onnxbuild.review.lockfile import Lock

HELP = "build recipes, and write what came of it into <recipe>.lock.yaml, for review and for `run --locked`"
EXAMPLES = (
    "onnxbuild lock recipes/resnet.yaml",
    "onnxbuild lock --check recipes/*.yaml",
)

_EPILOG = """\
A lock file says what came in (weights, versions of tools) and what is expected to come out (inputs and
outputs, operators, digests, errors). What depends on the machine stands under its platform; lock on another
one adds that. Nothing else writes it but `onnxbuild run --update-lock`.

--check builds nothing and looks at no installed package: it compares the recipe and the files that came in. A folder
stands for the recipes below it that are locked, and for locks whose recipe is gone.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)
    arguments.add_out(parser)
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    text = "write nothing and build nothing: exit with 1 where a recipe or its files changed since it was locked"
    parser.add_argument("--check", action="store_true", help=text)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Write the lock files, or check them; 1 if a build failed, or a lock is outdated."""
    if options.check:
        return _check(arguments.recipes(options))
    from onnxbuild.engine.session import Session, Settings
    from onnxbuild.report.progress import Progress

    progress = Progress(sys.stdout, quiet=False, errors=sys.stderr)
    trusted = arguments.is_trusted(options)
    settings = Settings(arguments.out(options), arguments.cache(), paranoid=options.paranoid, trusted=trusted)
    with Session(settings, progress) as session:
        loaded = session.load(arguments.recipes(options))
        require_own(loaded)
        reports = list(session.build_all(loaded))
        session.end()
    write(loaded, reports)
    return 1 if any(report.status != "done" for report in reports) else 0


def require_own(loaded: Iterable[recipes.Loaded]) -> None:
    """Raise UserError where two recipes would have one lock file."""
    from onnxbuild.review import lockfile

    for one in loaded:
        lockfile.require_own(one.path)


def write(loaded: Sequence[recipes.Loaded], reports: Iterable[Report], *, quiet: bool = False) -> None:
    """Write the lock files of recipes that were built, and say what is other than before. Raises UserError once all are
    written that can be.
    """
    from onnxbuild.engine import locking
    from onnxbuild.errors import Problem, UserError

    by_name = {report.name: report for report in reports}
    problems: list[Problem] = []
    for one in (one for one in loaded if one.recipe.name in by_name):
        try:
            lines = locking.update(one, by_name[one.recipe.name])
        except UserError as error:
            problems += error.problems
            continue
        _say([] if quiet else lines)
    if problems:
        raise UserError(*problems, others_went_on=True)


def _check(paths: Sequence[Path]) -> int:
    """Compare what can be known without building."""
    from onnxbuild.errors import Problem, UserError
    from onnxbuild.recipe import bases
    from onnxbuild.review import drift, lockfile

    problems: list[Problem] = []
    paths, alone = _named(paths)
    for lock_alone in alone:
        _say(
            [
                f"{lock_alone}: outdated",
                "    its recipe is gone: remove it, or give it the name that the recipe has now",
            ]
        )
    outdated = len(alone)
    for path in paths:
        place = lockfile.path_of(path)
        try:
            said, lock = bases.content_sha256(path), lockfile.read(place, path)
        except UserError as error:
            problems += error.problems
            continue
        drifts = drift.of_checkout(lock, said, _digests(path, lock))
        outdated += bool(drifts)
        _say([f"{place}: outdated", *(f"    {one}" for one in drifts)] if drifts else [f"{place}: up to date"])
        _say([f"    lock it again: onnxbuild lock {path}"] if drifts else [])
    if problems:
        raise UserError(*problems)
    return 1 if outdated else 0


def _named(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The recipes that paths name, of a folder those below it that are locked; and the locks below folders whose recipe is
    gone. Raises UserError where there is neither below a folder.
    """
    from pathlib import Path

    from onnxbuild.commands import below
    from onnxbuild.errors import usage
    from onnxbuild.review import lockfile
    from onnxbuild.system import changes

    found, alone = dict[Path, None](), dict[Path, None]()
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        top, present = changes.present(str(path))
        inside = (Path(top, name) for name in present if name.endswith(lockfile.ENDING))
        locks = [one for one in inside if one.is_relative_to(path.resolve()) and one.exists()]
        if not locks:
            raise usage(f"there is no lock file below {path}", "lock what is to be checked: onnxbuild lock RECIPE")
        recipes = [Path(one) for one in below.recipes([str(path)], top, present)]
        found |= dict.fromkeys(one for one in recipes if lockfile.path_of(one).exists())
        gone = (one for one in locks if not lockfile.recipe_of(one).exists())
        alone |= dict.fromkeys(path / one.relative_to(path.resolve()) for one in gone)
    return [*found], [*alone]


def _digests(path: Path, lock: Lock) -> dict[str, str]:
    """The digests of the files that came in, by path; a file of an installed package is none of the checkout's."""
    from onnxbuild import recipe as recipes
    from onnxbuild.review import drift
    from onnxbuild.system import distributions
    from onnxbuild.system.files import sha256_file

    root, found = recipes.project_root(path), {}
    for name in lock.sources:
        try:
            folder = name.endswith("/")
            found[name] = _of_folder(path, root, name) if folder else sha256_file(recipes.resolve(root, name))
        except OSError:
            if not any((place / name).is_file() for place in map(type(root), distributions.search_path())):
                found[name] = drift.ABSENT
    return found


def _of_folder(recipe: Path, root: Path, name: str) -> str:
    """The digest of a folder of data, by the files that the recipe takes of it. Raises OSError where there are none."""
    from onnxbuild.parity import datasets
    from onnxbuild.recipe import bases
    from onnxbuild.system.files import sha256_file, sha256_of_listing

    document = bases.resolved(recipe).document
    said = datasets.named(document.data if document else None, name)
    files = {file for data in said for file in datasets.listed(data, root)}
    if not files:
        raise FileNotFoundError(name)
    return sha256_of_listing({file: sha256_file(root / name / file) for file in files})


def _say(lines: Iterable[str]) -> None:
    import os

    from onnxbuild.text import units
    from onnxbuild.text.screen import Screen

    screen = Screen(sys.stdout, os.environ)
    for line in lines:
        screen.line(units.plain(line))
