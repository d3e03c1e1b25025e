"""A recipe's lock file: what came in and what is expected to come out, one fact a line, sorted, with no times and no keys.

    recipes/gate.yaml  ->  recipes/gate.lock.yaml

What the machine decides stands under `platforms`: which builds of tools there are, the values of computed weights and with
them every file's bytes, errors, and the graph itself where a pass is for its hardware. It is written when it is asked
for, and by nothing else. Builds nothing; what a difference means is `drift`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from onnxbuild.errors import Problem, UserError
from onnxbuild.recipe import documents, scalars
from onnxbuild.review.facts import OF_GRAPH, Facts
from onnxbuild.system import observed
from onnxbuild.system.files import write_atomic
from onnxbuild.text import units

ENDING = ".lock.yaml"
_LONG = 1000  # characters; of a key that has more, YAML's readers don't see the end
_SUFFIXES = (".yaml", ".yml")  # of recipes
HEADER = """\
# Written by `onnxbuild lock`; `onnxbuild run --locked` holds builds against it. Not for editing: change the recipe, and
# lock it again.
"""
_MARK = re.compile(r"(<{7}|\|{7}|={7}|>{7})( |$)")
_PLAIN = re.compile(r"(?:[\w./+\-\[\], *()]|:(?=\S))+", re.ASCII)


class File(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    sha256: str = ""  # left out where a compiler makes other bytes of the same each time
    bytes: int | UnsetType = UNSET


class Error(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An output's error, to two digits: the largest of all cases, absolute, relative, and as a share of the tolerance.

    `losses` are how far off the figures of comparators are: 1 less a share or a cosine, the noise's amplitude of decibels.
    """

    max_abs: float | UnsetType = UNSET
    max_rel: float | UnsetType = UNSET
    used: float | UnsetType = UNSET
    losses: dict[str, float] = {}


class Platform(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is expected on one kind of machine, by tools as they are built for it.

    The graph's facts are here where a pass is for its hardware.
    """

    tools: dict[str, str]
    opset_imports: dict[str, int] | UnsetType = UNSET
    ops: dict[str, int] | UnsetType = UNSET
    parameters: int | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    graph_sha256: str | UnsetType = UNSET
    weights_sha256: str
    files: dict[str, File]
    parity: dict[str, dict[str, Error]] = {}
    metric: dict[str, float] = {}


class Lock(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a lock file holds; the fields are those of `facts.Facts`."""

    version: Literal[1]
    name: str
    recipe_sha256: str
    sources: dict[str, File] = {}
    inputs: dict[str, str] = {}
    outputs: dict[str, str]
    dims: dict[str, str] = {}
    ir_version: int
    opset_imports: dict[str, int] | UnsetType = UNSET
    ops: dict[str, int] | UnsetType = UNSET
    parameters: int | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    graph_sha256: str | UnsetType = UNSET
    platforms: dict[str, Platform]


def path_of(recipe: Path) -> Path:
    """Where a recipe's lock file is."""
    return recipe.with_name(recipe.stem + ENDING)


def recipe_of(lock: Path) -> Path:
    """The recipe that a lock file is of, whichever of the two endings it has."""
    stem = lock.name.removesuffix(ENDING)
    found = (lock.with_name(f"{stem}{suffix}") for suffix in _SUFFIXES)
    return next((path for path in found if observed.kind(path)), lock.with_name(f"{stem}{_SUFFIXES[0]}"))


def require_own(recipe: Path) -> None:
    """Raise UserError where two recipes would have one lock file."""
    for other in (recipe.with_suffix(suffix) for suffix in _SUFFIXES if suffix != recipe.suffix):
        if recipe.suffix in _SUFFIXES and observed.kind(other):
            fact = f"{other.name} beside it would have the same lock file, {path_of(recipe).name}"
            raise UserError(Problem(str(recipe), 0, 0, "", fact, "give one of the two another name"))


def of(facts: Facts, old: Lock | None = None) -> Lock:
    """The lock that a build asks for. Of an `old` one the other platforms stay where nothing says that they are outdated."""
    common = {name: getattr(facts, name) for name in OF_GRAPH if name not in facts.bound}
    lock = Lock(
        version=1,
        name=facts.name,
        recipe_sha256=facts.recipe_sha256,
        sources={path: _file(one) for path, one in sorted(facts.sources.items())},
        inputs=facts.inputs,
        outputs=facts.outputs,
        dims=facts.dims,
        ir_version=facts.ir_version,
        platforms={facts.platform: _platform(facts)},
        **common,
    )
    kept = old.platforms if old is not None and _still_holds(old, lock, facts.platform) else {}
    return msgspec.structs.replace(lock, platforms=dict(sorted({**kept, **lock.platforms}.items())))


def to_yaml(lock: Lock) -> str:
    """The file's text: the same facts give the same bytes."""
    told = msgspec.to_builtins(lock)
    for platform in told["platforms"].values():
        if "metric" in platform:
            platform["metric"] = {name: _Figure(value) for name, value in platform["metric"].items()}
    return HEADER + "\n".join(_lines(told, 0)) + "\n"


def write(path: Path, lock: Lock) -> None:
    """Write a lock file, whole or not at all. Raises OSError, and UserError where it could not be read again."""
    for name in _strings(msgspec.to_builtins(lock)):
        if not (_PLAIN.fullmatch(name) and len(name) < _LONG) and not _is_kept(name):
            fact = f"not written, since no YAML file can hold the name '{units.clip(units.line(name), 80)}'"
            raise UserError(Problem(str(path), 0, 0, "", fact, "give that file, or that tensor, another name"))
    text = to_yaml(lock).encode()
    if len(text) > documents.MAX_BYTES:
        fact = f"not written: with {len(lock.sources):,} files that came in it has more than {documents.MAX_BYTES >> 20} MiB"
        raise UserError(Problem(str(path), 0, 0, "", fact, "put weights and data into fewer files"))
    write_atomic(path, [text])


def _is_kept(name: str) -> bool:
    """Whether a name is read as it was written."""
    try:
        document, problems = documents.document_of(Path(), f"{_scalar(name)}: 0")
    except UnicodeEncodeError:  # of a file whose name is not UTF-8
        return False
    return document is not None and not problems and document.data == {name: 0}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from _strings(inner)


def read(path: Path, recipe: Path) -> Lock:
    """The lock in a file, `recipe` being the one that it is of. Raises UserError where there is none, or it is damaged."""
    require_own(recipe)
    try:
        return parse(path, documents.text_of(path), recipe)
    except UserError as error:
        again = f"lock it again: onnxbuild lock {recipe}"
        if not path.exists():
            raise UserError(Problem(str(path), 0, 0, "", "there is no lock file", f"onnxbuild lock {recipe}")) from None
        raise UserError(
            *(one if one.hint else msgspec.structs.replace(one, hint=again) for one in error.problems)
        ) from None


def parse(path: Path, text: str, recipe: Path) -> Lock:
    """The lock that a text holds, `path` being where it is said to be from. Raises UserError where it is damaged."""
    _require_merged(path, text, recipe)
    return _converted(path, text, f"lock it again: onnxbuild lock {recipe}")


def _require_merged(path: Path, text: str, recipe: Path) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if _MARK.match(line):
            fact = f"a merge left its marker '{line[:7]}' here: both sides changed what is expected"
            hint = f"merge the recipe, then write the lock anew from a build of it: onnxbuild lock {recipe}"
            raise UserError(Problem(str(path), number, 1, "", fact, hint))


def _converted(path: Path, text: str, hint: str) -> Lock:
    """The text's lock; every problem has `hint`, since nobody is to mend the file by hand."""
    document, problems = documents.document_of(path, text)
    if document is not None and not problems:
        try:
            return msgspec.convert(document.data, Lock)
        except msgspec.ValidationError as refused:
            problems = documents.shape_problems(path, document, Lock) or [Problem(str(path), 1, 1, "", str(refused))]
    raise UserError(*(msgspec.structs.replace(one, hint=hint) for one in problems))


def _still_holds(old: Lock, new: Lock, platform: str) -> bool:
    """Whether what an old lock expects on other platforms may be expected of the new build."""
    unset = {"platforms": {}, "recipe_sha256": ""}
    if msgspec.structs.replace(old, **unset) != msgspec.structs.replace(new, **unset):
        return False
    before, now = old.platforms.get(platform), new.platforms[platform]
    if before is None:
        return old.recipe_sha256 == new.recipe_sha256
    return (before.weights_sha256, before.files) == (now.weights_sha256, now.files)


def _platform(facts: Facts) -> Platform:
    return Platform(
        tools=facts.tools,
        weights_sha256=facts.weights_sha256,
        files={path: _file(one) for path, one in sorted(facts.files.items())},
        parity={
            name: {output: _error(one) for output, one in sorted(outputs.items())}
            for name, outputs in sorted(facts.parity.items())
        },
        metric={name: score.value for name, score in sorted(facts.metric.items())},
        **{name: getattr(facts, name) for name in facts.bound},
    )


def _file(one: Any) -> File:
    return File(one.sha256, UNSET if one.bytes is None else one.bytes)


def _error(one: Any) -> Error:
    max_abs, max_rel, used = (UNSET if number is None else number for number in (one.max_abs, one.max_rel, one.used))
    return Error(max_abs, max_rel, used, dict(sorted(one.losses.items())))


def _lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    """A mapping as block YAML, one scalar a line."""
    for key, inner in value.items():
        start = f"{'  ' * depth}{_scalar(key)}:"
        if isinstance(inner, dict) and inner:
            yield start
            yield from _lines(inner, depth + 1)
        else:
            yield f"{start} {'{}' if inner == {} else _scalar(inner)}"


class _Figure(float):
    """A metric: four digits, and an exponent only where it needs one; errors have two, and always one."""

    __slots__ = ()

    def __str__(self) -> str:
        mantissa, _, exponent = f"{self:.4g}".partition("e")
        return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{f'e{exponent}' if exponent else ''}"


def _scalar(value: Any) -> str:
    """A scalar as YAML 1.1 and 1.2 both read it: numbers of floats have a point, and what is not plainly text has quotes."""
    if isinstance(value, float) and not isinstance(value, _Figure):
        return f"{value:.1e}" if value else "0.0"
    if not isinstance(value, str):
        return str(value)
    is_plain = _PLAIN.fullmatch(value) and value[0] not in "-[*, " and value == value.strip()
    known = is_plain and isinstance(scalars.plain(value)[0], str) and not re.match(r"(?i)(y|n|yes|no|on|off)$", value)
    return value if known else json.dumps(value, ensure_ascii=False)
