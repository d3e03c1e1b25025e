"""What is said of recipes with which there is nothing to do. Light to import: it may be all that is said."""

from __future__ import annotations

from onnxbuild.text import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FEW = 5  # recipes that are still named one by one


def run(recipes: Sequence[tuple[str, int, float]], seconds: float) -> list[str]:
    """After a run: each recipe's name, its number of stages and the seconds that looking at them took; those of all."""
    if len(recipes) > FEW:
        stages = units.plural(sum(stages for _, stages, _ in recipes), "stage")
        return [f"{len(recipes):,} recipes up to date, {stages}, {units.seconds(seconds)}"]
    return [
        f"{units.line(name)}: up to date, {units.plural(stages, 'stage')}, {units.seconds(took)}"
        for name, stages, took in recipes
    ]


def warnings(cautions: Sequence[str]) -> list[str]:
    """After a run of one recipe: where its build proves less than it seems to."""
    return [line for text in cautions for line in units.wrapped("  warning: ", text)]


def cautioned(name: str, cautions: Sequence[str]) -> list[str]:
    """The same before a recipe's plan."""
    return [f"warning: {name}: {text}" for text in cautions]


def plan(stages: int, skipped: int) -> str:
    """Of one recipe's plan; `skipped` of its stages can't be run here, and need not be."""
    more = f", {skipped} can't be run" if skipped else ""
    return f"up to date ({stages - skipped} stages{more})"
