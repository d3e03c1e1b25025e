"""Why a stage runs, in the recipe's own words: differences of documents and of discovered digests, the most telling first.

Pure: takes documents and digests, gives sentences and the recipe's fields that they are about. Knows no store, no files
and no line numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, get_args

import msgspec
from msgspec import UNSET, Struct

from onnxbuild.contracts import Json
from onnxbuild.discovery import inputs
from onnxbuild.plan import order
from onnxbuild.plan.dag import Stage
from onnxbuild.store import keys
from onnxbuild.store.keys import Change, Path

Kind = Literal["recipe", "file", "input", "code", "package", "platform", "store"]

SHOWN = 60  # characters of a value
_CODE = "onnxbuild's code of this stage changed"
_GONE: dict[str, Path] = {  # options of a stage only while the recipe has these
    "prepend": ("prepend",),
    "append": ("append",),
    "renames": ("optimize", 0, "rename"),
}
_RANK = {kind: rank for rank, kind in enumerate(get_args(Kind))}


class Reason(Struct, frozen=True):
    """One reason: a sentence, and what it is about.

    `field` is the path of the recipe's part where `kind` is "recipe"; `old` and `new` what the documents hold of it
    (None where they have no such part).
    """

    kind: Kind
    text: str
    field: Path = ()
    old: Json = None
    new: Json = None


def field(stage: Stage, path: Path) -> Path:
    """The recipe's field that a part of a stage's options comes from; () where none is known."""
    if not path:
        return ()
    if path[0] == "order":
        return order.path_of(str(path[1])) if path[1:] else ()
    known = stage.fields.get(str(path[0]), _GONE.get(str(path[0])))
    if known is None:
        return ()
    if path[0] == "inputs" and path[1:] and path[1] in stage.published:
        return (*_described(stage.published, str(path[1])), *path[2:])
    if path[0] in (
        "cases",
        "case",
    ):  # derived, see `_of_cases`: of its parts only the sizes of a benchmark are fields of their own
        return (*known, *path[2:]) if path[:2] == ("case", "dims") else known
    return (*known, *path[1:])


def _described(published: Mapping[str, Path], name: str) -> Path:
    """Where a recipe describes an input that a step or `rename` names."""
    place = published[name]
    fed = published.get(str(place[-1]), ()) if place[0] != "prepend" else place  # one that a step takes, renamed
    return fed[:-1] if fed[:1] == ("prepend",) else ("export", "inputs", place[-1])


def of_documents(stage: Stage, old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Reason]:
    """Every difference between the document of an earlier build of a stage and today's; none where the keys are equal.

    An earlier onnxbuild may have written that document in another form: then its code is the reason.
    """
    try:
        return _of_documents(stage, old, new)
    except (AttributeError, IndexError, KeyError, TypeError):
        return [Reason("code", _CODE)]


def _of_documents(stage: Stage, old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Reason]:
    from onnxbuild.queries import following

    changes = keys.differences(old, new)
    known = following.told(stage, old, new)
    found = [Reason("recipe", f"{dotted(path)}: now {name}", path, None, name) for name, path in known.names.items()]
    consequences = []
    for change in known.changes:
        if change.path[0] != "options":
            found.append(_beside_options(stage, change))
        elif change.path[1:2] == ("cases",):
            continue  # all of them together below
        elif change.path[1:2] == ("order",):
            found += _of_order(stage, change)
        elif change.path[1:2] == ("case",) and change.path[2:3] != ("dims",):
            consequences.append(_of_option(stage, change))
        else:
            found.append(_of_option(stage, change))
    if any(change.path[:2] == ("options", "cases") for change in changes):
        before, after = (doc["options"].get("cases", []) for doc in (old, new))
        told, followed = _of_cases(before, after)
        for reason in told:  # a case that is named after a size goes by another name then
            follows = known.explained and (
                reason.field[:2] == ("export", "dims") or reason.field[-1] in known.explained
            )
            (consequences if follows else found).append(reason)
        consequences += followed
    if not any(reason.kind == "recipe" for reason in found):
        found += consequences
    if changes and not found:  # documents of earlier versions do not say the order of anything
        found.append(Reason("code", _CODE))
    return ordered(found)


def of_discovered(before: Mapping[str, str], today: Mapping[str, str]) -> list[Reason]:
    """What a stage was found to depend on and is no longer the same; `today` has a digest for every name of `before`."""
    changed = (name for name in before if before[name] != today[name])
    return ordered(
        Reason(
            "package" if isinstance(inputs.parse(name), inputs.Package) else "file",
            inputs.parse(name).say(before[name], today[name]),
            (),
            before[name],
            today[name],
        )
        for name in changed
    )


def of_store(text: str) -> Reason:
    """A reason that lies in what the store or the output folder holds."""
    return Reason("store", text)


def ordered(reasons: Iterable[Reason]) -> list[Reason]:
    """The most telling first, no sentence twice: what the user wrote, then files, inputs, our code, packages, machine."""
    unique: dict[str, Reason] = {}
    for reason in reasons:
        unique.setdefault(reason.text, reason)
    return sorted(unique.values(), key=lambda reason: (_RANK[reason.kind], [*map(str, reason.field)], reason.text))


def value(thing: Json) -> str:
    """A value as a reader writes it, cut short."""
    if thing is None or thing is UNSET:
        return "none"
    text = thing if isinstance(thing, str) else msgspec.json.encode(thing).decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def dotted(path: Path) -> str:
    """("optimize", 0, "onnxsim") as a reader writes it: optimize[0].onnxsim."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _beside_options(stage: Stage, change: Change) -> Reason:
    head, *rest = change.path
    name = dotted(tuple(rest))
    old, new = (None if part is UNSET else part for part in (change.old, change.new))
    match head:
        case "inputs" if rest and rest[0] in stage.files:
            was = "was not used before" if old is None else "changed"
            return Reason("file", f"{stage.files[str(rest[0])]} {was}", (), old, new)
        case "inputs":
            taken = bool(rest) and rest[0] in stage.needs  # else a declared file names it
            own = f"input {name}" if taken else str(rest[0]).removeprefix("data:")
            text = f"{own} {'is used no more' if new is None else 'changed'}"
            return Reason("input" if taken else "file", text, (), old, new)
        case "tools":
            return Reason("package", f"{name} {value(old)} -> {value(new)}", (), old, new)
        case "platform":
            return Reason("platform", f"platform {name}: {value(old)} -> {value(new)}", (), old, new)
        case "version" | "stage" | "format":
            return Reason("code", _CODE, (), old, new)
    return Reason("code", f"{dotted(change.path)}: {value(old)} -> {value(new)}", (), old, new)


def _of_option(stage: Stage, change: Change) -> Reason:
    path = field(stage, change.path[1:])
    name = dotted(path or change.path[1:])
    old, new = (None if part is UNSET else part for part in (change.old, change.new))
    return Reason("recipe", f"{name}: {_step(old, new)}", path, old, new)


def _of_order(stage: Stage, change: Change) -> list[Reason]:
    """The same names in another order; where a name came or went, that is told of already."""
    old, new = change.old, change.new
    if not isinstance(old, list) or not isinstance(new, list) or sorted(old) != sorted(new):
        return []
    path = field(stage, change.path[1:])
    return [
        Reason("recipe", f"{dotted(path)}: the order changed, {', '.join(old)} -> {', '.join(new)}", path, old, new)
    ]


def _step(old: Json, new: Json) -> str:
    """From one value to the other; of two lists of names only what is not in both."""
    lists = isinstance(old, list) and isinstance(new, list)
    if not lists or len(value(old)) + len(value(new)) < SHOWN:
        return f"{value(old)} -> {value(new)}"
    gone, added = [item for item in old if item not in new], [item for item in new if item not in old]
    parts = [f"without {', '.join(map(value, gone))}"] if gone else []
    parts += [f"with {', '.join(map(value, added))}"] if added else []
    return "now " + " and ".join(parts) if parts else "in another order"


def _of_cases(old: list[Json], new: list[Json]) -> tuple[list[Reason], list[Reason]]:
    """What changed in the cases of a recipe, and what only follows from other changes (shapes that follow sizes)."""
    before, after = ({case["name"]: case for case in cases} for cases in (old, new))
    told = list(_named_cases(before, after))
    added, gone = (
        [name for name in one if name not in other and _derived(name)]
        for one, other in ((after, before), (before, after))
    )
    if added or gone:
        parts = [f"{_count(names)} {what}" for names, what in ((added, "new"), (gone, "gone")) if names]
        told.append(Reason("recipe", f"export.dims: {'; '.join(parts)}", ("export", "dims"), gone, added))
    followed = [
        Reason("recipe", f"case {name} of parity: its inputs changed", ("export", "inputs"))
        for name in before.keys() & after.keys()
        if keys.canonical(before[name]) != keys.canonical(after[name])
    ]
    if not told and not followed:
        followed.append(Reason("recipe", "the order of the parity cases changed", ("parity", "cases")))
    return told, followed


def _named_cases(before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[Reason]:
    """Changes in the cases that the recipe names: their own sizes and data, not what follows from those."""
    for name in dict.fromkeys((*before, *after)):
        if _derived(name):
            continue
        path: Path = ("parity", "cases", name)
        if name not in after or name not in before:
            old, new = before.get(name), after.get(name)
            yield Reason("recipe", f"{dotted(path)} is {'gone' if new is None else 'new'}", path, old, new)
            continue
        for part in ("dims", "data"):
            for change in keys.differences(before[name][part], after[name][part]):
                whole = (*path, part, *change.path)
                old, new = (None if side is UNSET else side for side in (change.old, change.new))
                yield Reason("recipe", f"{dotted(whole)}: {value(old)} -> {value(new)}", whole, old, new)


def _derived(name: str) -> bool:
    """Whether a case was derived from the dimensions: the names that a recipe may give have no "="."""
    return "=" in name or name == "example"


def _count(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    shown = names[:3] if more else names
    return f"case{'s' if len(names) > 1 else ''} {', '.join(shown)}{more}"
