"""What must hold between a recipe's `targets` and what it declares of its model. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from onnxbuild.recipe import export_rules, relations
from onnxbuild.recipe.findings import Finding
from onnxbuild.recipe.types import Export, given
from onnxbuild.sources import PROGRAMS
from onnxbuild.targets import OF_PROGRAMS, TARGETS

_TRIED = 1000  # combinations of sizes; a target itself says where it takes fewer


def check(export: Export, targets: Any, source: str) -> Iterator[Finding]:
    """What targets can't take of what is declared.

    `source` is the kind of the model's source, "" where that is not known.
    """
    for name, options in given(targets):
        for option, fact, hint in TARGETS[name].wrong(options, export.shapes()):
            path = tuple(option.split(".")) if option else ()
            yield Finding(path if option.startswith("export.") else ("targets", name, *path), fact, hint)
        yield from dict.fromkeys(_sizes(export, name, TARGETS[name].fixed(options) or {}))
        yield from _source(name, options, source)


def of_programs(targets: Any, changed: str) -> Iterator[Finding]:
    """Targets that are to be made from the source's own model, which lacks what others have been `changed` by."""
    for name, options in given(targets):
        if name in OF_PROGRAMS and OF_PROGRAMS[name].of_program(options):
            fact = f"the source's own model has nothing of {changed}"
            yield Finding(("targets", name, "source"), fact, "leave it at graph")


def _sizes(export: Export, name: str, sizes: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    """The sizes that a target's files are to be bound to, in every combination."""
    known = relations.free(export)
    choices = {dim: some or [known.get(dim, 0)] for dim, some in sizes.items()}
    for row in islice(product(*choices.values()), _TRIED):
        yield from export_rules.sizes(export, ("targets", name, "dims"), dict(zip(choices, row, strict=True)))


def _source(name: str, options: Any, source: str) -> Iterator[Finding]:
    """A target that is to be made from the source's own model, where the source gives none."""
    if source and source not in PROGRAMS and name in OF_PROGRAMS and OF_PROGRAMS[name].of_program(options):
        fact = f"a{'n' if source[0] in 'aeiou' else ''} {source} model gives no program of torch.export"
        yield Finding(("targets", name, "source"), fact, "leave it at graph")
