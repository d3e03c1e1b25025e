"""A stage by its name, among those that give a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxbuild.contracts import Trait
from onnxbuild.errors import usage
from onnxbuild.text.wording import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from onnxbuild.queries.forecast import Foreseen
    from onnxbuild.store.traces import Trace


def of_name(stages: Sequence[Foreseen], name: str, recipe: Path) -> Foreseen:
    """The stage of that name, which gives a graph. Raises UserError where there is none."""
    names = [one.stage.name for one in stages if one.stage.is_a(Trait.GRAPH)]
    for one in stages:
        if one.stage.name == name and name in names:
            return one
    if name in {one.stage.name for one in stages}:
        raise usage(f"{recipe}: '{name}' gives no graph", f"those that do: {', '.join(names)}")
    raise usage(f"{recipe}: no stage '{name}'", did_you_mean(name, names))


def result(one: Foreseen) -> Trace | None:
    """What a stage gives, or gave when it was last built."""
    return (one.found.trace if one.found else None) or one.last
