"""Recipes: from YAML files to frozen data, or to every problem they have, each with its place.

The types decide whether data is of a recipe's shape; only where they refuse is the JSON Schema asked why.
Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import NODEFAULT, UNSET, Struct

from onnxbuild.contracts import Interface
from onnxbuild.errors import Problem, StageError, UserError
from onnxbuild.recipe import bases, disk_rules, documents, filling, interface, rules
from onnxbuild.recipe.filling import Filled
from onnxbuild.recipe.findings import Finding, dotted
from onnxbuild.recipe.types import Recipe
from onnxbuild.recipe.yaml_reader import Document
from onnxbuild.sources import SOURCES
from onnxbuild.system import project
from onnxbuild.system.files import sha256_file
from onnxbuild.text.wording import some

__all__ = [
    "Loaded",
    "bases",
    "documents",
    "filling",
    "findings",
    "interface",
    "load",
    "load_all",
    "load_valid",
    "naming",
    "patching",
    "problems_of_source",
    "project_root",
    "reference",
    "relations",
    "resolve",
    "scalars",
    "schema",
    "types",
    "whole",
    "writing",
]

Digest = Callable[[Path], str]
# What the model of a source says of itself, by the kind of source, its options and the project's root.
Describe = Callable[[str, Any, Path], Interface]


class Loaded(Struct, frozen=True):
    """A recipe without problems: `path` as it was given, `sha256` of the file's bytes, `positions` of every part.

    `content_sha256` is of what it says with its bases, whatever its comments, its layout and the order of its keys; `bases`
    are their files, each with the SHA-256 of its bytes.

    `filled` are the parts that the recipe left out, told by its model or the defaults; `data` is all of it, with these.
    """

    recipe: Recipe
    path: Path
    root: Path
    sha256: str
    positions: Document
    filled: list[Filled] = []
    content_sha256: str = ""
    bases: Mapping[Path, str] = {}
    data: Any = None


def load(path: Path, digest: Digest = sha256_file, describe: Describe | None = None) -> Loaded:
    """Read one recipe. Raises UserError with all its problems."""
    return load_all([path], digest, describe)[0]


def load_all(paths: Sequence[Path], digest: Digest = sha256_file, describe: Describe | None = None) -> list[Loaded]:
    """Read the recipes of one run, a file that is given twice once. Raises one UserError with all problems of all.

    `digest` gives a file's SHA-256 in hexadecimal; whoever remembers digests saves hashing large weights anew. `describe`
    is asked for what a recipe leaves out; without it that is missing.
    """
    checked = _check_all(paths, digest, describe)
    if problems := _in_order(checked, _same_names(checked)):
        raise UserError(*problems)
    return [one.loaded for one in checked if one.loaded is not None]


def load_valid(
    paths: Sequence[Path], digest: Digest = sha256_file, describe: Describe | None = None
) -> tuple[list[Loaded], list[Problem]]:
    """As `load_all`, for a run that does what it can: the recipes without problems, and the problems of the others."""
    checked = _check_all(paths, digest, describe)
    twins = _same_names(one for one in checked if one.loaded is not None)  # the first of that name keeps it
    left_out = {problem.path for problem in twins}
    loaded = [one.loaded for one in checked if one.loaded is not None and str(one.path) not in left_out]
    return loaded, _in_order(checked, twins)


def project_root(path: Path) -> Path:
    """The nearest folder above a recipe that holds pyproject.toml or .git, else the recipe's own."""
    return Path(project.root_of(str(path)))


def resolve(root: Path, path: str) -> Path:
    """A path of a recipe as an absolute one."""
    return Path(os.path.normpath(root / path))


def _in_order(checked: Sequence[_Checked], twins: Iterable[Problem]) -> list[Problem]:
    """The problems of each recipe, its name's among them; what is wrong in a base once, with whose base it is."""
    named = list(twins)
    found: dict[Problem, list[str]] = {}
    for path, problems in ((str(one.path), one.problems) for one in checked):
        own = [problem for problem in (*problems, *named) if problem.path == path]
        theirs = [problem for problem in problems if problem.path != path]
        for problem in (*sorted(own, key=_place), *sorted(theirs, key=_place)):
            found.setdefault(problem, []).append(path)
    return [_of_base(problem, paths) for problem, paths in found.items()]


def _place(problem: Problem) -> tuple[str, int, int]:
    return problem.path, problem.line, problem.column


def _of_base(problem: Problem, recipes: list[str]) -> Problem:
    if problem.path in recipes:
        return problem
    fact, *more = problem.fact.split("\n")
    return msgspec.structs.replace(problem, fact="\n".join([f"{fact} (a base of {some(recipes)})", *more]))


class _Checked(NamedTuple):
    """One file: the recipe where it has no problems, and what is known of it where it has."""

    path: Path
    problems: list[Problem]
    document: Document | None = None
    loaded: Loaded | None = None


def _check_all(paths: Sequence[Path], digest: Digest, describe: Describe | None) -> list[_Checked]:
    """Every file once, however often it is given."""
    return [_check(path, digest, describe) for path in {os.path.realpath(path): path for path in paths}.values()]


def _check(path: Path, digest: Digest, describe: Describe | None) -> _Checked:
    document, wrong, sha256, merged = bases.resolved(path)
    if document is None:
        return _Checked(path, wrong)
    root = project_root(path)
    data, findings = _whole(document, root, digest, describe)
    unsaid = Finding((), "")
    try:
        recipe = msgspec.convert(data, Recipe)
        sections = _sections(document.data, {name: getattr(recipe, name) for name in Recipe.__struct_fields__})
    except msgspec.ValidationError as refused:
        from onnxbuild.recipe import schema_errors

        recipe = None
        findings += schema_errors.explain(document)
        unsaid = Finding((), str(refused))
        sections = _sections(document.data, _well_shaped(data))
    findings += rules.check(sections)
    findings += disk_rules.check(sections, root, digest)
    problems = documents.placed(path, document, bases.taught(document, findings))
    if recipe is None:
        return _Checked(path, problems or documents.placed(path, document, [unsaid]), document)
    if problems:
        return _Checked(path, problems, document)
    exporters = SOURCES[sections.source[0]].exporters(sections.source[1]) if sections.source else {}
    filled = filling.differences(document.data, data, exporters)
    said = documents.digest_of(document)
    return _Checked(path, [], document, Loaded(recipe, path, root, sha256, document, filled, said, merged, data))


def _whole(document: Document, root: Path, digest: Digest, describe: Describe | None) -> tuple[Any, list[Finding]]:
    """A recipe's data with what it leaves out filled in as its model says, and what is missing where that can't be."""
    data = document.data
    model = _sections(
        data, _well_shaped({"model": data["model"]} if isinstance(data, dict) and "model" in data else {})
    )
    if not isinstance(data, dict) or model.source is None:
        return data, filling.told(filling.missing(data, opset=False), data)
    kind, options = model.source
    exporters = SOURCES[kind].exporters(options)
    left_out = filling.missing(data, opset=not exporters)
    if not left_out or describe is None:
        return filling.with_exporter(data, exporters), filling.told(left_out, data)
    if [*rules.check(model), *disk_rules.check(model, root, digest)]:
        return data, []  # what is wrong with the model is told of, and hides what it would have said
    try:
        interface = describe(kind, options, root)
        whole = filling.complete(data, interface, exporters)
        return whole, filling.untold(whole, interface)
    except StageError as error:
        if filling.told(left_out, data):
            return data, [Finding(("model", kind), error.fact, error.hint, key=True)]
        return filling.with_exporter(data, exporters), []


def problems_of_source(kind: str, options: Any, root: Path) -> list[tuple[str, str, str]]:
    """What is wrong with a `model` section that is in no recipe yet: the part, the fact and the remedy of each."""
    data = {"model": {kind: options}}
    model = _sections(data, _well_shaped(data))
    if model.source is None:
        try:
            msgspec.convert(options, SOURCES[kind].Options)
        except msgspec.ValidationError as error:
            return [(f"model.{kind}", str(error), "")]
    findings = [*rules.check(model), *disk_rules.check(model, root, sha256_file)]
    return [(dotted(one.path), one.fact, one.hint) for one in findings]


def _well_shaped(data: Any) -> dict[str, Any]:
    """The sections of a recipe that are of the right shape, whatever the others are."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Recipe) if isinstance(data, dict) else ():
        with contextlib.suppress(msgspec.ValidationError):
            if field.name in data:
                values[field.name] = msgspec.convert(data[field.name], field.type)
            elif not field.required:
                values[field.name] = field.default_factory() if field.default is NODEFAULT else field.default
    return values


def _sections(data: Any, values: dict[str, Any]) -> rules.Sections:
    given = data if isinstance(data, dict) else {}
    names = rules.Sections._fields[1:]
    return rules.Sections(given, *(None if values.get(name, UNSET) is UNSET else values[name] for name in names))


def _same_names(checked: Iterable[_Checked]) -> list[Problem]:
    """Recipes that would write into one folder, also where the file system takes no notice of capitals."""
    problems, first = [], dict[str, Path]()
    for one in checked:
        data = one.document.data if one.document is not None else None
        name = data.get("name") if isinstance(data, dict) else None
        if one.document is not None and isinstance(name, str):
            other = first.setdefault(name.casefold(), one.path)
            if other is not one.path:
                line, column = one.document.place(("name",))
                fact = f"'{name}' is the name of {other}, too"
                problems.append(Problem(str(one.path), line, column, "name", fact, "give each recipe its own name"))
    return problems
