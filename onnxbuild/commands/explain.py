"""`onnxbuild explain`: why a stage would run, and what its key is made of."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments
from onnxbuild.errors import usage

if TYPE_CHECKING:
    from onnxbuild import recipe as recipes
    from onnxbuild.queries.explain import Explanation, Ingredient
    from onnxbuild.queries.forecast import Foreseen

HELP = "say why a stage would run, or what its key is made of"
EXAMPLES = (
    "onnxbuild explain recipes/resnet.yaml",
    "onnxbuild explain recipes/resnet.yaml export",
)

_EPILOG = """\
Compares today's document of a stage with that of its last build, down to the recipe's line, the file or the package that
changed. For a stage that is up to date it lists what the key is made of. Without STAGE: every stage in short.
Writes nothing. --json prints one object, described by `onnxbuild schema explain`.
"""
_DIGITS = 12  # of a SHA-256 that are shown; --json has all
_GROUPS = {
    "recipe": "recipe",
    "input": "inputs, by SHA-256",
    "tools": "packages whose version enters the key",
    "platform": "of this machine",
    "code": "onnxbuild's own code",
    "discovered": "found to be used by the last build, by SHA-256",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe's .yaml file")
    parser.add_argument("stage", nargs="?", metavar="STAGE", help="a stage's name, such as export or parity/1-onnxsim")
    arguments.add_out(parser)
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    parser.add_argument("--json", action="store_true", help="print the explanation as JSON")
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the explanation of a stage, or of all."""
    from onnxbuild.queries import explain
    from onnxbuild.queries.forecast import Outlook
    from onnxbuild.text.screen import Screen

    screen, errors = Screen(sys.stdout, os.environ), Screen(sys.stderr, os.environ)
    places = arguments.places(options, errors.line)
    (loaded,) = places.load([options.recipe])
    stages = Outlook(places).of(loaded)
    if options.stage is not None:
        stages = [_named(stages, options.stage, options.recipe)]
    explanations = [explain.explain(loaded, one) for one in stages]
    if options.json:
        print(explain.encode(loaded, explanations))
        return 0
    short = options.stage is None
    for line in (overview if short else detail)(loaded, explanations, screen.width):
        screen.line(line)
    return 0


def _named(stages: Sequence[Foreseen], name: str, recipe: Path) -> Foreseen:
    from onnxbuild.text.wording import did_you_mean

    for one in stages:
        if one.stage.name == name:
            return one
    names = [one.stage.name for one in stages]
    ends = [known for known in names if name in (known.partition("-")[2], known.partition("/")[2])]
    hint = f"did you mean '{ends[0]}'?" if len(ends) == 1 else did_you_mean(name, names)
    raise usage(f"{recipe}: no stage '{name}'", hint)


def overview(loaded: recipes.Loaded, stages: Sequence[Explanation], width: int) -> Iterator[str]:
    """Every stage with its reasons and their places, and what the recipe leaves out."""
    from onnxbuild.queries import filled
    from onnxbuild.text import table

    yield f"{loaded.recipe.name} ({loaded.path})"
    cells = [(one.state, one.name, "\n".join(_reasons(loaded, one, whole=False))) for one in stages]
    yield from table.rows(cells, width)
    yield from filled.lines(loaded, width)


def detail(loaded: recipes.Loaded, stages: Sequence[Explanation], width: int) -> Iterator[str]:
    """Everything about a stage: why it would run, else what its key is made of."""
    from onnxbuild.text import table

    for one in stages:
        verb = {"run": "would run", "maybe": "may run", "skip": "would be skipped"}.get(one.state, one.state)
        verb = f"is {verb}" if one.state == "up to date" else verb
        yield f"{loaded.recipe.name}: {one.name} {verb}"
        yield from table.rows([(reason,) for reason in _reasons(loaded, one, whole=True)], width)
        if one.assumed and one.state == "run":
            yield from table.rows([("also if the stages before it give what they gave the last time",)], width)
        if one.state in ("up to date", "fails") or not one.reasons:
            yield from _made_of(loaded, one, width)


def _reasons(loaded: recipes.Loaded, one: Explanation, *, whole: bool) -> list[str]:
    """One line per reason, behind its place in the recipe where it has one."""
    texts = [(reason, reason.text if whole else reason.text.partition("\n")[0]) for reason in one.reasons]
    return [f"{reason.file or loaded.path}:{reason.line}: {text}" if reason.line else text for reason, text in texts]


def _made_of(loaded: recipes.Loaded, one: Explanation, width: int) -> Iterator[str]:
    from onnxbuild.text import table

    if one.key:
        yield f"key {one.key}"
    for group, title in _GROUPS.items():
        members = [ingredient for ingredient in one.ingredients if ingredient.group == group]
        if members:
            where = f" ({loaded.path})" if group == "recipe" else ""
            yield f"{title}{where}"
            yield from table.rows([_cells(member) for member in members], width)


def _cells(one: Ingredient) -> tuple[str, ...]:
    """An ingredient's row: its line in the recipe or its digest first, since those are of one width."""
    from onnxbuild.queries import reasons

    if one.group == "recipe":
        shown = _case(one.value) or reasons.value(one.value)
        source = f" (told by {one.origin})" if one.origin else f" (in {one.file})" if one.file else ""
        return (f"{one.line or '-'}".rjust(4), one.name, f"{shown}{source}")
    if one.group == "input":
        return (str(one.value)[:_DIGITS], f"{one.name}, from {one.origin}")
    if one.group == "discovered":
        return _discovered(one.name, str(one.value))
    return (one.name, reasons.value(one.value))


def _discovered(name: str, digest: str) -> tuple[str, str]:
    """A file or package with its digest; of modules that were looked for, where Python finds them."""
    from onnxbuild.discovery import inputs

    one = inputs.parse(name)
    if isinstance(one, inputs.Modules):
        found = digest.splitlines() if "=" in digest else []
        return ("modules", ", ".join(found) or f"none of {' '.join(one.names)} is found")
    is_digest = len(digest) == 64
    return (digest[:_DIGITS], one.place) if is_digest else (one.kind, f"{one.place}: {digest}")


def _case(value: object) -> str:
    """A parity case in short: "batch=3: x [3, 4]"; "" for anything else."""
    if not isinstance(value, dict) or "shapes" not in value:
        return ""
    return f"{value['name']}: {', '.join(f'{name} {shape}' for name, shape in value['shapes'].items())}"
