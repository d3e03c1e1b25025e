"""`onnxbuild verify`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments
from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from onnxbuild import recipe as recipes
    from onnxbuild.queries.workspace import Places
    from onnxbuild.reproducibility import rebuild

HELP = "check that published files are what was built; with --rebuild, that building again gives the same bytes"
EXAMPLES = (
    "onnxbuild verify recipes/resnet.yaml",
    "onnxbuild verify --rebuild --hash-seed 2 recipes/resnet.yaml",
)
_NAMED = 2  # files; a target or a package may have dozens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)
    arguments.add_out(parser)
    arguments.add_trust(parser)
    text = "build export, passes and package again, in a copy of the project and other surroundings, and compare bytes"
    parser.add_argument("--rebuild", action="store_true", help=text)
    text = "of the rebuild; another one gives sets another order (default: 1; builds have 0)"
    parser.add_argument("--hash-seed", type=arguments.whole(0, 2**32 - 1), default=1, metavar="N", help=text)
    parser.epilog = "Rebuilds happen in a folder below $TMPDIR, which is removed afterwards."


def run(options: argparse.Namespace) -> int:
    """Verify the recipes; 1 if anything is not as it was built, or came out differently."""
    from onnxbuild.queries.workspace import Places

    # paranoid: a memory of digests would vouch for files that nobody has read
    trusted = arguments.is_trusted(options)
    places = Places(
        _warn, out=arguments.out(options), cache=arguments.cache(), paranoid=True, look=True, trusted=trusted
    )
    loaded = places.load(arguments.recipes(options))
    good = [one for one in loaded if _published(one, places)]
    failed = len(loaded) - len(good)
    for root in dict.fromkeys(one.root for one in good) if options.rebuild else ():
        failed += _rebuild([one for one in good if one.root == root], places, options.hash_seed)
    return 1 if failed else 0


def _published(loaded: recipes.Loaded, places: Places) -> bool:
    """Check one recipe's published files and say what came of it."""
    from onnxbuild.reproducibility import published
    from onnxbuild.text import units

    name, dest = loaded.recipe.name, places.dest(loaded)
    try:
        report = published.last_report(dest)
        wrong = published.published(report, dest, places.store(loaded.root)[0])
    except StageError as error:
        wrong = [error.fact, f"  hint: {error.hint}"]
    if wrong:
        _say(f"✗ {name}: not what was built", wrong)
        return False
    files = ", ".join(f"{made.path} ({units.size(made.bytes)})" for made in report.artifacts[-_NAMED:][::-1])
    rest = report.artifacts[:-_NAMED]
    if rest:
        files += f" and {units.plural(len(rest), 'file')} more ({units.size(sum(made.bytes for made in rest))})"
    _say(f"✓ {name}: {files}, as the report says and the store holds")
    return True


def _rebuild(loaded: list[recipes.Loaded], places: Places, hash_seed: int) -> int:
    """Build recipes of one project again and say what came of it; returns how many came out differently."""
    from onnxbuild.plan import planner
    from onnxbuild.reproducibility import published, rebuild

    failed = 0
    with rebuild.Elsewhere(loaded[0].root, hash_seed) as place:
        _say(f"building again: {place.varied}")
        _say(f"not built again, since no published byte comes from them: {', '.join(_not_made())}")
        for one in loaded:
            store, digests = places.store(one.root)
            recipe_plan = planner.plan(one.recipe, one.root)
            try:
                before = published.last_build(one, recipe_plan, store, digests)
                steps = place.build(recipe_plan, before, places.dest(one), store)
                failed += sum(not _told(one.recipe.name, step) for step in steps)  # at most one: it ends there
            except StageError as error:
                failed += 1
                _say(f"✗ {one.recipe.name}: {error.fact}", [f"  hint: {error.hint}"])
    return failed


def _not_made() -> list[str]:
    """The kinds of stage that a rebuild leaves out."""
    from onnxbuild.contracts import Trait
    from onnxbuild.stages import STAGES

    return [kind for kind, module in STAGES.items() if Trait.MAKES not in module.TRAITS]


def _told(name: str, step: rebuild.Step) -> bool:
    from onnxbuild.text import units

    if step.findings:
        log = [f"│ {line}" for line in units.plain(step.log).splitlines()]
        _say(f"✗ {name}: {step.stage} {'failed' if step.failed else 'differs'}", [*step.findings, *log])
        return False
    _say(f"✓ {name}: {step.stage}, the same bytes in {units.seconds(step.seconds)}")
    return True


def _say(headline: str, details: Sequence[str] = ()) -> None:
    import os
    import sys

    from onnxbuild.text import units
    from onnxbuild.text.screen import Screen

    screen = Screen(sys.stdout, os.environ)  # knows what the stream can show
    screen.line(units.line(headline))
    for text in details:
        screen.line(f"    {units.plain(text)}")


def _warn(text: str) -> None:
    _say(f"warning: {text}")
