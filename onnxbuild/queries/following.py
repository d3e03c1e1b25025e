"""Which differences of two documents only follow from others: a recipe's steps and its `rename` change what a model takes
and gives, and with that nearly everything that a stage is told.

Pure: takes documents, gives the differences that are worth telling. Knows no words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET, Struct

from onnxbuild.contracts import Json
from onnxbuild.plan.dag import Path, Stage
from onnxbuild.store import keys
from onnxbuild.store.keys import Change

_STEPS = ("prepend", "append")
_NAMED = ("inputs", "outputs", "axes", "dynamic_axes", "related", "comparators")  # what is published, by its names


class Told(Struct, frozen=True):
    """The differences that are told. `names` are names that the document says no more of than that they are there, each
    with where the recipe gives it; `explained` all names that steps and renames give or take away, where those changed.
    """

    changes: list[Change]
    names: dict[str, Path]
    explained: set[str]


def told(stage: Stage, old: Mapping[str, Json], new: Mapping[str, Json]) -> Told:
    """What of the differences between a document and today's, `stage`'s, does not follow from steps and renames."""
    changes = [one for one in keys.differences(old, new) if not _is_about(one, _STEPS) or one.old or one.new]
    causes = [one for one in changes if _is_about(one, (*_STEPS, "renames"))]
    if not causes:
        return _by_name(changes, stage.published)
    explained = {*_names(old["options"]), *_names(new["options"])}
    kept = [one for one in changes if not _follows(one, explained)]
    if any(_is_about(one, _STEPS) for one in causes):
        kept = [one for one in kept if not _is_of_steps(one, old, new)]
    if ("model" in old["options"]) != ("model" in new["options"]):
        start: Path = ("options", "model") if "model" in stage.fields else ("options",)
        own = keys.differences(_own(old["options"]), _own(new["options"]))
        kept += [Change((*start, *one.path), one.old, one.new) for one in own]
    return Told(kept, {}, explained)


def _by_name(changes: Sequence[Change], published: Mapping[str, Path]) -> Told:
    """Of names that steps or a rename give, no more than that; what they replace is not told then."""
    found = {
        name: published[name] for one in changes if _is_about(one, _NAMED) for name in _new(one) if name in published
    }
    kept = [one for one in changes if not (found and _is_about(one, _NAMED) and _new(one) <= found.keys())]
    return Told(kept, found, {*found})


def _new(change: Change) -> set[str]:
    """The names that are new in a part of what is published; none where one is gone."""
    if change.old is UNSET:
        return {str(change.path[2])} if change.path[2:] else set()
    if isinstance(change.old, list) and isinstance(change.new, list):
        return {str(name) for name in change.new if name not in change.old}
    return (
        {change.new} if isinstance(change.new, str) else {""} if change.new is not UNSET or change.path[3:] else set()
    )


def _is_about(change: Change, options: Sequence[str]) -> bool:
    return change.path[0] == "options" and bool(change.path[1:]) and change.path[1] in options


def _follows(change: Change, explained: set[str]) -> bool:
    """Whether a difference is no more than that names changed, or that there are steps or names at all."""
    if _is_about(change, ("bare",)) or (_is_about(change, ("model",)) and not change.path[2:]):
        return True
    if not _is_about(change, _NAMED):
        return False
    if isinstance(change.old, list) and isinstance(change.new, list) and not change.path[2:]:
        return {*change.old} ^ {*change.new} <= explained
    if "data" in change.path[3:]:
        return False
    return change.path[2] in explained or {change.old, change.new} <= explained


def _is_of_steps(change: Change, old: Mapping[str, Json], new: Mapping[str, Json]) -> bool:
    """Whether a stage's version, or a package, is another one for the steps alone."""
    if change.path[0] == "tools":
        return UNSET in (change.old, change.new)
    return change.path == ("version",) and _version(old) == _version(new)


def _version(document: Mapping[str, Json]) -> str:
    """A stage's version less the number at its end that is of its steps."""
    version: str = document["version"]
    return version.rpartition(".")[0] if any(document["options"].get(name) for name in _STEPS) else version


def _own(options: Mapping[str, Json]) -> dict[str, Json]:
    """What the model itself takes and gives."""
    found: dict[str, Json] = options.get("model") or {name: options.get(name) for name in ("inputs", "outputs")}
    return found


def _names(options: Mapping[str, Json]) -> Iterator[str]:
    """Every name that steps and renames give, and those that they give it in place of."""
    for names in options.get("renames", {}).values():
        yield from names
        yield from names.values()
    for name, one in options.get("prepend", {}).items():
        yield from (name, one["name"])
    for name, one in options.get("append", {}).items():
        yield from (name, *one["outputs"])
