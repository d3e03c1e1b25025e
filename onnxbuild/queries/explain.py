"""Why a stage would run, down to the recipe's line, and what the key of one that is up to date is made of.

Reads documents and traces as they are, so it can't tell anything else than what is hashed. Knows no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Json
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import filled, reasons
from onnxbuild.queries.filled import FilledIn
from onnxbuild.queries.forecast import Foreseen, State
from onnxbuild.store import keys


class Reason(Struct, frozen=True):
    """Why a stage would run. `kind`: recipe, file, input, code, package, platform or store.

    `field` is the recipe's field ("export.opset") and `line` where it stands in the recipe, or in the base that is `file`,
    where `kind` is "recipe"; `old` and `new` are the two values, or digests, None where there is none.
    """

    kind: str
    text: str
    field: str = ""
    line: int | None = None
    old: Json = None
    new: Json = None
    file: str = ""


class Ingredient(Struct, frozen=True):
    """One thing that a stage's key or trace is made of.

    `group`: recipe (a field and its value), input (a role and its SHA-256), tools (a package and its version), platform (a
    facet and its value), code (of this stage, in onnxbuild), discovered (a file or package, and its digest).
    """

    group: str
    name: str
    value: Json
    line: int | None = None
    origin: str = ""  # of an input: the stage that gives it, or the file; of a field that the model told: where it is
    file: str = ""  # of a field that stands in a base of the recipe: that one


class Explanation(Struct, frozen=True):
    """One stage explained.

    `document` is what the key is the SHA-256 of (as canonical JSON), and `key` that; both of today, and None where an
    input is not known before another stage ran. With `assumed`, they are those of the inputs of the last time.
    `last_key` is the key of the last build. `ingredients` are of today's document and of the trace that holds, if any.
    """

    name: str
    state: State
    reasons: list[Reason]
    key: str | None
    last_key: str | None
    assumed: bool
    document: dict[str, Json] | None
    discovered: dict[str, str]
    ingredients: list[Ingredient]
    seconds: float | None = None  # that its last build took
    peak_rss_bytes: int | None = None


class Explanations(Struct, frozen=True):
    """Stages of one recipe, explained."""

    version: Literal[1]
    name: str
    path: str  # as it was given
    stages: list[Explanation]
    filled: list[FilledIn]  # what the recipe leaves out, and its model told


def explain(loaded: recipes.Loaded, foreseen: Foreseen) -> Explanation:
    """One stage of a recipe, explained."""
    found, last = foreseen.found, foreseen.last
    holds = found.trace if found else None
    discovered = holds.discovered if holds else {}
    return Explanation(
        foreseen.stage.name,
        foreseen.state,
        [_placed(loaded, reason) for reason in foreseen.reasons],
        found.key if found else None,
        keys.key_of(last.document) if last else None,
        foreseen.assumed,
        found.document if found else None,
        discovered,
        list(_ingredients(loaded, foreseen)),
        last.seconds if last else None,
        (last.peak_rss_bytes or None) if last else None,
    )


def _placed(loaded: recipes.Loaded, reason: reasons.Reason) -> Reason:
    if not reason.field:
        return Reason(reason.kind, reason.text, "", None, reason.old, reason.new)
    at = loaded.positions.origin(reason.field)  # of what is gone: of what was around it
    return Reason(reason.kind, reason.text, reasons.dotted(reason.field), at.line, reason.old, reason.new, at.file)


def _ingredients(loaded: recipes.Loaded, foreseen: Foreseen) -> Iterator[Ingredient]:
    stage, found = foreseen.stage, foreseen.found
    if found is None:
        return
    document = found.document
    for path, value in _leaves((), document["options"]):
        field = reasons.field(stage, path)
        told = filled.origin(loaded) if filled.is_filled(loaded, field) else ""
        line, file = _place(loaded, field)
        yield Ingredient("recipe", reasons.dotted(field or path), value, line, told, file)
    for role, digest in document["inputs"].items():
        yield Ingredient("input", role, digest, None, _origin(stage, role))
    for group in ("tools", "platform"):
        for name, value in document[group].items():
            yield Ingredient(group, name, value)
    yield Ingredient(
        "code", f"stage {document['stage']}", f"version {document['version']}, format {document['format']}"
    )
    for name, digest in sorted(found.trace.discovered.items() if found.trace else ()):
        yield Ingredient("discovered", name, digest)


def _origin(stage: Stage, role: str) -> str:
    """The declared file or the stage that an input comes from; of what a declared file names, its role says it all."""
    return stage.files.get(role) or (stage.needs[role][0] if role in stage.needs else role)


def _leaves(path: keys.Path, value: Json) -> Iterator[tuple[keys.Path, Json]]:
    """The parts of a stage's options that a reader wants apart: scalars, lists of scalars and whole cases."""
    if isinstance(value, dict) and value and "shapes" not in value:
        for name, inner in value.items():
            yield from _leaves((*path, name), inner)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, inner in enumerate(value):
            yield from _leaves((*path, index), inner)
    else:
        yield path, value


def _place(loaded: recipes.Loaded, field: keys.Path) -> tuple[int | None, str]:
    """The line of a field, and the base in which that is; None for one that the recipe leaves at its default."""
    part = loaded.positions.data
    for step in field:
        try:
            part = part[step]
        except (LookupError, TypeError):
            return None, ""
    place = loaded.positions.origin(field) if field else None
    return (place.line, place.file) if place else (None, "")


def encode(loaded: recipes.Loaded, stages: Sequence[Explanation]) -> str:
    """Explanations as JSON."""
    whole = Explanations(1, loaded.recipe.name, str(loaded.path), list(stages), filled.of(loaded))
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()
