"""`onnxbuild affected`: which recipes a change set can affect, and why; as a matrix of shards for CI, too."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from onnxbuild.commands import arguments, below
from onnxbuild.queries.affected import Affected

if TYPE_CHECKING:
    from pathlib import Path

    from onnxbuild.queries.affected import Stores
    from onnxbuild.system.changes import Changes

HELP = "list the recipes that a change set can affect, and why; write nothing"
EXAMPLES = (
    "onnxbuild affected --since main",
    "onnxbuild affected --since HEAD~1 recipes/vision",
    'echo "matrix=$(onnxbuild affected --since main --shards 4)" >> $GITHUB_OUTPUT',
)

_EPILOG = """\
The change set is what the work tree holds and REV does not: what git diff tells, and files that git neither knows nor
ignores. A recipe is left out where the change set touches nothing that its last build in the store read: its file, bases,
lock and declared files, the files, folders and modules that its stages' code used or looked for, packages, pins. Where that
is not known, the recipe is listed. Exit code 0, also where none is.

--shards N prints one line of JSON for a CI matrix, of at most N shards that take about as long as one another, by how
long the recipes' stages took when they were last run; a recipe that was never built takes the median:
  {"include": [{"shard": 1, "recipes": "recipes/a.yaml", "seconds": 41.2}]}
where recipes are quoted as a shell and xargs read them, and seconds is null where no recipe of the shard was built.

--json prints one object, described by `onnxbuild schema affected`.
"""
_SHOWN = 3  # reasons of a recipe; --json has all


class Shard(Struct, frozen=True):
    """One machine's share: the recipes, quoted as a shell and xargs read them, and about how long their stages take."""

    shard: int
    recipes: str
    seconds: float | None


class Matrix(Struct, frozen=True):
    """What a CI system makes jobs of."""

    include: list[Shard]


class ChangeSet(Struct, frozen=True):
    """The recipes that a change set can affect."""

    version: Literal[1]
    since: str  # as it was given
    commit: str  # the same as git has it
    changed: dict[str, str]  # paths from the top of the work tree, and how each changed
    looked_at: int  # recipes
    recipes: list[Affected]
    matrix: Matrix | None = None  # with --shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--since", metavar="REV", required=True, help="a branch, tag or commit to compare with")
    arguments.add_recipes_or_folders(parser)
    parser.add_argument("--shards", type=arguments.whole(1), metavar="N", help="share them out; print a CI matrix")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the recipes with their reasons, or a matrix of them."""
    from onnxbuild.queries.affected import Search
    from onnxbuild.system import changes
    from onnxbuild.text.screen import Screen

    screen, errors = Screen(sys.stdout, os.environ), Screen(sys.stderr, os.environ)
    found = changes.since(options.since, os.getcwd())
    paths = list(below.recipes(options.recipes or ["."], found.top, found.present))
    search = Search(found, _stores(options, errors.line))
    affected = [one for path in paths if (one := search.of(path)) is not None]
    matrix = None if options.shards is None else _matrix(affected, options.shards)
    if options.json:
        print(_json(ChangeSet(1, options.since, found.commit, found.paths, len(paths), affected, matrix), indent=2))
    elif matrix is not None:
        print(_json(matrix))
    else:
        for line in _text(affected, screen.width):
            screen.line(line)
    errors.line(_summary(options.since, found, len(paths), len(affected)))
    return 0


def _json(thing: Struct, indent: int | None = None) -> str:
    """As JSON, in which a path of any bytes can stand."""
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(thing), indent=indent)


def _text(affected: Sequence[Affected], width: int) -> Iterator[str]:
    from onnxbuild.text import table, units

    cells = []
    for one in affected:
        reasons = [cause.text for cause in one.reasons[:_SHOWN]]
        more = len(one.reasons) - len(reasons)
        cells.append(
            (units.plain(one.path), "\n".join([*map(units.plain, reasons), *([f"and {more} more"] if more else [])]))
        )
    return table.rows(cells, width, indent="")


def _summary(revision: str, changes: Changes, looked_at: int, affected: int) -> str:
    count = len(changes.paths)
    what = f"the {count} path{'s' if count != 1 else ''} changed since {revision}"
    if not affected:
        return f"no recipe is affected by {what} ({looked_at} looked at)"
    return f"{affected} of {looked_at} recipe{'s' if looked_at != 1 else ''} can be affected by {what}"


def _matrix(affected: Sequence[Affected], count: int) -> Matrix:
    import shlex

    from onnxbuild.queries import shards

    seconds = {one.path: one.seconds for one in affected}
    include = []
    for number, paths in enumerate(shards.balanced(seconds, count), 1):
        known = [taken for path in paths if (taken := seconds[path]) is not None]
        include.append(Shard(number, shlex.join(paths), round(sum(known), 3) if known else None))
    return Matrix(include)


def _stores(options: argparse.Namespace, warn: arguments.Warn) -> Stores:
    """Where a project's recipes have their store; it is only looked at."""
    from pathlib import Path

    from onnxbuild.store import store
    from onnxbuild.store.digests import Digests

    def opened(root: str) -> tuple[Path, Digests]:
        folder = arguments.cache() or Path(root) / ".onnxbuild"
        _, digests = store.opened(
            folder,
            warn,
            look=True,
            project=Path(root),
            trusted=arguments.is_trusted(options),
            paranoid=options.paranoid,
        )
        return folder, digests

    return opened
